package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Runtime runs containers with conmon and an OCI runtime. It knows nothing that
// another would miss: any number of goroutines, and of daemons one after the
// other, may use the same directories. Calls for one container must not overlap,
// except for Read, Signal, Exec and Attach.
type Runtime struct {
	Conmon        string // empty: /usr/bin/conmon
	OCI           string // crun or runc, unless a container has its own; empty: /usr/bin/crun
	Root          string // the OCI runtime's own state; empty: /run/shoal/crun
	ExitDir       string // one file for each container that ended, see WatchExits; empty: /run/shoal/exits
	CgroupManager string // "cgroupfs", or "disabled" (crun only); empty: cgroupfs
	Log           *slog.Logger

	sealed sealed
}

func (r *Runtime) conmon() string  { return orElse(r.Conmon, "/usr/bin/conmon") }
func (r *Runtime) root() string    { return orElse(r.Root, "/run/shoal/crun") }
func (r *Runtime) exitDir() string { return orElse(r.ExitDir, "/run/shoal/exits") }

// oci is the OCI runtime of a container that has this one of its own, or none.
func (r *Runtime) oci(own string) string { return orElse(own, orElse(r.OCI, "/usr/bin/crun")) }

func orElse(s, zero string) string {
	if s == "" {
		return zero
	}
	return s
}

// flags are an OCI runtime's global options.
func (r *Runtime) flags(oci string) []string {
	flags := []string{"--root=" + r.root()}
	if m := orElse(r.CgroupManager, "cgroupfs"); filepath.Base(oci) == "crun" {
		flags = append(flags, "--cgroup-manager="+m)
	}
	return flags // runc's default is cgroupfs, and it has no other name for it
}

// Files of a bundle directory. conmon writes pidfile, conmon.pid, exit and oom.
const (
	configFile    = "config.json"
	identityFile  = "container.json"
	processesFile = "process.json"
	startingFile  = "starting"
	pidFile       = "pidfile"
	conmonPIDFile = "conmon.pid"
	conmonLogFile = "conmon.log"
	exitFile      = "exit"
	oomFile       = "oom"
)

// identity is container.json: written before anything runs.
type identity struct {
	Version   int // of this format
	ID        string
	LogPath   string
	TTY       bool
	CreatedAt time.Time
	OCI       string `json:",omitempty"` // the OCI runtime that knows it; empty in those of before, which [Runtime] knows
}

const identityVersion = 1

// processes is process.json: written once conmon has reported.
type processes struct {
	Init   proc // the container's first process
	Conmon proc
}

// Create makes the container up to the point where its first process waits
// for Start. conmonCgroup is a descriptor of the cgroup v2 directory that
// conmon is born in (clone3(2), CLONE_INTO_CGROUP); nil: the daemon's own. On
// error, which is of type [*Error] where the runtime refused, nothing is left
// but the log file.
func (r *Runtime) Create(ctx context.Context, cfg Config, spec *specs.Spec, conmonCgroup *os.File) (State, error) {
	if err := r.prepare(cfg); err != nil {
		return State{}, fmt.Errorf("create container: %w", err)
	}
	return r.create(ctx, cfg, spec, func() (*conmon, error) { return r.startConmon(cfg, conmonCgroup) })
}

// create has conmon started, or go on.
func (r *Runtime) create(ctx context.Context, cfg Config, spec *specs.Spec, conmon func() (*conmon, error)) (State, error) {
	begin := time.Now()
	if err := r.supervise(ctx, cfg, spec, conmon); err != nil {
		// The caller's context may be what ended; taking away is bounded by itself.
		return State{}, errors.Join(&Error{CreateContainerError, err}, r.Delete(context.WithoutCancel(ctx), cfg.Dir))
	}
	r.debug(ctx, "container_created", cfg.ID, begin)
	return r.Read(cfg.Dir)
}

func (r *Runtime) supervise(ctx context.Context, cfg Config, spec *specs.Spec, conmon func() (*conmon, error)) error {
	unlock, err := lock(cfg.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := writeJSON(cfg.Dir, configFile, spec); err != nil {
		return err
	}
	c, err := conmon()
	if err != nil {
		return err
	}
	pid, err := c.created(ctx)
	if err != nil {
		return err
	}
	return recordProcesses(cfg.Dir, cfg.ID, pid)
}

// prepare makes the container's directory, in which whoever comes later finds
// out what was being made.
func (r *Runtime) prepare(cfg Config) error {
	if _, err := os.Lstat(filepath.Join(cfg.Dir, identityFile)); err == nil {
		return fmt.Errorf("%s is in use", cfg.Dir)
	}
	for _, dir := range []string{cfg.Dir, r.root(), r.exitDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(r.exitDir(), cfg.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeJSON(cfg.Dir, identityFile, identity{identityVersion, cfg.ID, cfg.LogPath, cfg.Container.TTY, time.Now(), r.oci(cfg.OCI)})
}

// recordProcesses writes process.json for the container whose first process
// conmon reported.
func recordProcesses(dir, id string, pid int) error {
	init, err := findProc(pid)
	if err != nil {
		return err
	}
	conmon, err := findConmon(dir, id)
	if err != nil {
		return err
	}
	return writeJSON(dir, processesFile, processes{init, conmon})
}

// Start lets the container's first process run its command. It does nothing
// for a container that was started.
func (r *Runtime) Start(ctx context.Context, dir string) error {
	state, err := r.Read(dir)
	if err != nil {
		return err
	}
	if state.Phase != Created {
		if state.Phase == Running || state.Phase == Exited && !state.StartedAt.IsZero() {
			return nil
		}
		return &Error{RunContainerError, fmt.Errorf("start container: it is %s", state.Phase)}
	}
	// Its time is the start's, also for a daemon that finds the container later.
	if err := writeFile(dir, startingFile, nil); err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	begin := time.Now()
	released, err := r.release(state.oci, state.ID)
	if !released && err == nil {
		err = r.run(ctx, state.oci, "start", state.ID)
	}
	if err != nil {
		if now, readErr := r.Read(dir); readErr == nil && !now.StartedAt.IsZero() {
			return nil // the last daemon's start, of which it did not live to see the end
		}
		return &Error{RunContainerError, fmt.Errorf("start container: %w", err)}
	}
	r.debug(ctx, "container_started", state.ID, begin)
	return nil
}

// run runs one short command of an OCI runtime.
func (r *Runtime) run(ctx context.Context, oci string, args ...string) error {
	cmd := exec.CommandContext(ctx, r.program(oci), append(r.flags(oci), args...)...)
	cmd.Env = []string{defaultPath}
	var said bytes.Buffer
	cmd.Stderr = &said
	// A file keeps no descriptor of ours open in what the runtime leaves behind.
	cmd.WaitDelay = time.Second
	if err := start(cmd, nil, ""); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		if text := clean(said.String()); text != "" && ctx.Err() == nil {
			return errors.New(text)
		}
		return errors.Join(err, ctx.Err())
	}
	return nil
}

func (r *Runtime) debug(ctx context.Context, event, id string, begin time.Time) {
	if r.Log != nil {
		r.Log.DebugContext(ctx, event, "container_id", id, "duration", time.Since(begin))
	}
}
