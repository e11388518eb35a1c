package container

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Parked is a conmon that waits to be told to make its container. Create or
// CallOff must be called; after Create, CallOff does nothing.
type Parked struct {
	runtime *Runtime
	cfg     Config
	conmon  *conmon
	used    bool
}

// Park starts conmon before it is known what the container will be, and before
// its cgroup is there. Conmon takes longer to get ready than to do its work, and
// this way it is by the time that the rest is. Of cfg, only what does not go into
// the specification counts. Should this process be killed meanwhile, conmon waits
// on, until Delete finds it as any whose daemon has died.
func (r *Runtime) Park(cfg Config) (*Parked, error) {
	if err := r.prepare(cfg); err != nil {
		return nil, fmt.Errorf("park conmon: %w", err)
	}
	c, err := r.parkConmon(cfg)
	if err != nil {
		return nil, fmt.Errorf("park conmon: %w", errors.Join(err, os.RemoveAll(cfg.Dir)))
	}
	return &Parked{runtime: r, cfg: cfg, conmon: c}, nil
}

func (r *Runtime) parkConmon(cfg Config) (*conmon, error) {
	unlock, err := lock(cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Not the pipe that conmon's name for it asks for: it would take the end of
	// this process for the word to go on.
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	begin := os.NewFile(uintptr(fd), "eventfd")
	c, err := r.forkConmon(cfg, nil, func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, "_OCI_STARTPIPE=4")
		cmd.ExtraFiles = append(cmd.ExtraFiles, begin)
	})
	if err != nil {
		begin.Close()
		return nil, err
	}
	c.begin = begin
	return c, nil
}

// Create is [Runtime.Create] with the conmon that is there; it is moved to the
// cgroup.
func (p *Parked) Create(ctx context.Context, spec *specs.Spec, conmonCgroup *os.File) (State, error) {
	p.used = true
	begun := false
	state, err := p.runtime.create(ctx, p.cfg, spec, func() (*conmon, error) {
		begun = true
		return p.conmon, p.conmon.proceed(conmonCgroup)
	})
	if !begun {
		p.conmon.end()
	}
	return state, err
}

// CallOff ends conmon and takes away what was made for it.
func (p *Parked) CallOff(ctx context.Context) error {
	if p.used {
		return nil
	}
	p.used = true
	p.conmon.end()
	return p.runtime.Delete(ctx, p.cfg.Dir)
}

// end is for one that waits.
func (c *conmon) end() {
	_ = c.cmd.Process.Kill() // nobody has waited for it yet, so it is there
	_ = c.cmd.Wait()
	c.close()
}

// proceed puts conmon into a cgroup and has it go on. If it has ended already,
// it has said why, see created.
func (c *conmon) proceed(cgroup *os.File) error {
	if cgroup != nil {
		if err := putInto(cgroup, c.cmd.Process.Pid); err != nil && !errors.Is(err, syscall.ESRCH) {
			c.end()
			return fmt.Errorf("conmon: %w", err)
		}
	}
	_, _ = c.begin.Write(binary.NativeEndian.AppendUint64(nil, 1))
	return nil
}

func putInto(cgroup *os.File, pid int) error {
	id := strconv.Itoa(pid)
	if hybrid() {
		if err := joinV1(cgroup.Name(), id); err != nil {
			return err
		}
	}
	procs, err := os.OpenFile(filepath.Join(cgroup.Name(), "cgroup.procs"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = procs.WriteString(id)
	return errors.Join(err, procs.Close())
}
