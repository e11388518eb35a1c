package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Phase is how far a container has come.
type Phase int

const (
	Incomplete Phase = iota // being made, or a daemon died while it made it: then Delete it and begin anew
	Created                 // its first process waits for Start
	Running
	Exited
)

func (p Phase) String() string {
	return [...]string{"incomplete", "created", "running", "exited"}[p]
}

// State is what can be known of a container from its bundle directory and /proc.
type State struct {
	ID         string
	Phase      Phase
	PID        int // of the first process, on the host; 0 unless created or running
	CreatedAt  time.Time
	StartedAt  time.Time // zero: never started
	FinishedAt time.Time
	ExitCode   int    // 128 + signal for one that was killed
	OOMKilled  bool   // the kernel killed a process of it for want of memory
	Reason     Reason // of an exited one: Completed, Error, OOMKilled or ContainerStatusUnknown
	Supervised bool   // conmon lives; a running container without it loses its output and its exit code
	Supervisor int    // conmon's pid, while it lives

	oci string // the OCI runtime that knows it
}

// Reasons of containers that ended, as the kubelet's status has them.
const (
	Completed Reason = "Completed"
	Failed    Reason = "Error"
	OOMKilled Reason = "OOMKilled"
)

// ExitUnknown is the exit code of a container that nobody saw end, as the
// kubelet's (convertToAPIContainerStatuses).
const ExitUnknown = 137

// Read finds out about the container whose bundle is dir. It starts no process
// and changes nothing. The error is fs.ErrNotExist where there is none.
func (r *Runtime) Read(dir string) (State, error) {
	var id identity
	if err := readJSON(dir, identityFile, &id); err != nil {
		return State{}, fmt.Errorf("read container: %w", err)
	}
	state := State{ID: id.ID, CreatedAt: id.CreatedAt, oci: r.oci(id.OCI)}
	var ps processes
	if err := readJSON(dir, processesFile, &ps); errors.Is(err, fs.ErrNotExist) {
		return state, nil
	} else if err != nil {
		return state, fmt.Errorf("read container: %w", err)
	}
	// Order matters: what was seen alive may have ended since, and then the
	// next look tells. The other way round, an exit file written in between
	// would be missed and its code lost.
	alive := ps.Init.alive()
	if state.Supervised = ps.Conmon.alive(); state.Supervised {
		state.Supervisor = ps.Conmon.PID
	}
	if done, err := r.readExit(dir, &state, ps.Init); done || err != nil {
		return state, err
	}
	state.Phase = r.startedPhase(dir, &state, ps.Init)
	if alive || state.Supervised { // a conmon without a container is about to write the exit file
		state.PID = ps.Init.PID
		return state, nil
	}
	state.Phase, state.ExitCode, state.Reason = Exited, ExitUnknown, ContainerStatusUnknown
	state.FinishedAt = lastSign(dir, id)
	return state, nil
}

// readExit fills in state from conmon's exit file, if there is one.
func (r *Runtime) readExit(dir string, state *State, init proc) (bool, error) {
	name := filepath.Join(dir, exitFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		// conmon writes two, one after the other.
		name = filepath.Join(r.exitDir(), state.ID)
		b, err = os.ReadFile(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read container: %w", err)
	}
	code, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return false, fmt.Errorf("read container: exit file: %w", err)
	}
	if r.startedPhase(dir, state, init) == Created {
		state.StartedAt = time.Time{}
	}
	state.Phase, state.ExitCode, state.FinishedAt = Exited, code, modTime(name)
	_, err = os.Lstat(filepath.Join(dir, oomFile))
	state.OOMKilled = err == nil
	switch {
	case code == 0:
		state.Reason = Completed
	case state.OOMKilled:
		state.Reason = OOMKilled
	default:
		state.Reason = Failed
	}
	return true, nil
}

// startedPhase tells a created container from a running one. Both runtimes
// keep a FIFO that is there until the container is started; when the daemon
// died in the middle of Start, that is the only witness.
func (r *Runtime) startedPhase(dir string, state *State, init proc) Phase {
	state.StartedAt = modTime(filepath.Join(dir, startingFile))
	if state.StartedAt.IsZero() {
		return Created
	}
	if r.waits(state.ID, init) {
		state.StartedAt = time.Time{}
		return Created
	}
	return Running
}

// lastSign stands for the end of a container that nobody saw end: the last time
// it wrote to its log, else when it was created.
func lastSign(dir string, id identity) time.Time {
	if t := modTime(id.LogPath); !t.IsZero() {
		return t
	}
	return modTime(filepath.Join(dir, identityFile))
}

func modTime(name string) time.Time {
	info, err := os.Lstat(name)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// findConmon is the container's conmon, told from another process by the
// container's id among its arguments.
func findConmon(dir, id string) (proc, error) {
	pid, err := readPID(dir, conmonPIDFile)
	if err != nil {
		return proc{}, fmt.Errorf("find conmon: %w", err)
	}
	p, err := findProc(pid)
	if err != nil {
		return proc{}, err
	}
	args, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return proc{}, fmt.Errorf("find conmon: %w", err)
	}
	if !slices.Contains(strings.Split(string(args), "\x00"), id) {
		return proc{}, fmt.Errorf("find conmon: process %d is another", pid)
	}
	return p, nil
}

func readPID(dir, name string) (int, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(bytes.TrimSpace(b)))
}

// Signal sends sig to the container's first process. It returns
// os.ErrProcessDone when that is gone. Where the container has a PID namespace
// of its own, SIGKILL ends everything in it.
func (r *Runtime) Signal(_ context.Context, dir string, sig syscall.Signal) error {
	var ps processes
	if err := readJSON(dir, processesFile, &ps); err != nil {
		return fmt.Errorf("signal container: %w", err)
	}
	return ps.Init.signal(sig)
}

// conmonPatience is how long Delete leaves conmon to write the rest of the log
// once the container is dead.
const conmonPatience = 2 * time.Second

// Delete ends the container by force if it still runs, and takes away all that
// Create made, also what a dead daemon left half made. The log stays. It may be
// repeated; without a container it does nothing.
func (r *Runtime) Delete(ctx context.Context, dir string) error {
	var id identity
	err := readJSON(dir, identityFile, &id)
	if errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(dir)
	}
	if err != nil {
		return fmt.Errorf("delete container: %w", err)
	}
	var ps processes
	if err := readJSON(dir, processesFile, &ps); errors.Is(err, fs.ErrNotExist) {
		if err := stopMaking(dir, id.ID); err != nil {
			return fmt.Errorf("delete container: %w", err)
		}
	} else if err != nil {
		return fmt.Errorf("delete container: %w", err)
	}
	if _, err := os.Lstat(filepath.Join(r.root(), id.ID)); err == nil {
		if err := r.run(ctx, r.oci(id.OCI), "delete", "--force", id.ID); err != nil {
			return fmt.Errorf("delete container: %w", err)
		}
	}
	ps.Conmon.wait(conmonPatience)
	if err := ps.Conmon.kill(); err != nil {
		return fmt.Errorf("delete container: %w", err)
	}
	if err := os.Remove(filepath.Join(r.exitDir(), id.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete container: %w", err)
	}
	return os.RemoveAll(dir)
}

// stopMaking ends what a dead daemon started to make the container: conmon and
// the OCI runtime, which have its id among their arguments. conmon's first
// process forks and exits: one look may see the list without the child and then
// the parent gone. So nothing is left only when two looks in a row found nothing.
func stopMaking(dir, id string) error {
	if err := settle(dir); err != nil {
		return err
	}
	for empty := 0; empty < 2; empty++ {
		found, err := processesWith(id)
		if err != nil {
			return err
		}
		for _, p := range found {
			if err := p.kill(); err != nil {
				return err
			}
			empty = -1
		}
	}
	return nil
}
