package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Repeated is a command that is run in a container again and again, as probes
// are. What is the same each time is made once, in the bundle, and a run keeps
// one goroutine and no thread waiting: with a probe each 10 s in each of many
// containers, this is most of what the daemon does.
type Repeated struct {
	runtime *Runtime
	dir     string
	name    string
	args    []string

	mu    sync.Mutex // held by a run
	tmp   string     // where its files are; "": not made yet
	argv  []string   // the OCI runtime's
	owner specs.User
}

// Repeated is a command for a container that runs, or will. Nothing is done
// before its first Run. Its files are called by its name: what an earlier daemon
// left of a command of that name is replaced.
func (r *Runtime) Repeated(dir, name string, args []string) *Repeated {
	return &Repeated{runtime: r, dir: dir, name: name, args: args}
}

// Run is [Runtime.Exec] with both outputs going to out, which one goroutine
// writes to.
func (c *Repeated) Run(ctx context.Context, out io.Writer) (int, error) {
	if !c.mu.TryLock() { // one that was called off has not ended yet
		return c.runtime.Exec(ctx, c.dir, ExecOptions{Cmd: c.args, Stdout: out, Stderr: out})
	}
	defer c.mu.Unlock()
	if err := c.prepare(); err != nil {
		return 0, fmt.Errorf("exec in container: %w", err)
	}
	code, err := c.run(ctx, out)
	if err == nil || ctx.Err() != nil {
		return code, err
	}
	if state, e := c.runtime.Read(c.dir); e == nil && state.Phase != Running {
		err = fmt.Errorf("it is %s", state.Phase)
	}
	return 0, fmt.Errorf("exec in container: %w", err)
}

// prepare writes what the OCI runtime is to run.
func (c *Repeated) prepare() error {
	if c.tmp != "" {
		return nil
	}
	state, err := c.runtime.Read(c.dir)
	if err != nil {
		return err
	}
	if state.Phase != Running {
		return fmt.Errorf("it is %s", state.Phase)
	}
	tmp := filepath.Join(c.dir, "exec-"+c.name)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return err
	}
	if c.owner, err = writeExecProcess(c.dir, tmp, ExecOptions{Cmd: c.args}); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	c.tmp, c.argv = tmp, append([]string{state.oci}, c.runtime.execArgs(state, tmp)...)
	return nil
}

// execArgs are the OCI runtime's arguments for a command whose files are in tmp.
func (r *Runtime) execArgs(state State, tmp string, more ...string) []string {
	args := append(r.flags(state.oci), "--log="+filepath.Join(tmp, "log"), "--log-format=json", "exec",
		"--process="+filepath.Join(tmp, "process.json"), "--pid-file="+filepath.Join(tmp, "pid"))
	return append(append(args, more...), state.ID)
}

func (c *Repeated) run(ctx context.Context, out io.Writer) (int, error) {
	output, pid, pidfd, err := c.start()
	if err != nil {
		return 0, err
	}
	defer output.Close()
	defer unix.Close(pidfd)
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { killExec(c.tmp, pid, ended) })
	readUntilEnd(out, output, pidfd)
	var status unix.WaitStatus
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		_, err = unix.Wait4(pid, &status, 0, nil)
	}
	close(ended)
	stop()
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case err != nil:
		return 0, os.NewSyscallError("wait4", err)
	}
	if text := c.takeError(); text != "" {
		return 0, &ExecError{text}
	}
	if status.Signaled() {
		return 0, fmt.Errorf("%s exec: signal: %s", filepath.Base(c.argv[0]), status.Signal())
	}
	return status.ExitStatus(), nil
}

// start starts the OCI runtime, with nothing to read and one pipe to write to.
func (c *Repeated) start() (output *os.File, pid, pidfd int, err error) {
	var in, out [2]int
	if err := unix.Pipe2(in[:], unix.O_CLOEXEC); err != nil {
		return nil, 0, 0, os.NewSyscallError("pipe2", err)
	}
	unix.Close(in[1])
	defer unix.Close(in[0])
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		return nil, 0, 0, os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(out[1])
	err = errors.Join(unix.Fchown(in[0], int(c.owner.UID), int(c.owner.GID)), unix.Fchown(out[1], int(c.owner.UID), int(c.owner.GID)))
	if err == nil {
		pidfd = -1
		err = fromHere(nil, "", func() (err error) {
			pid, err = syscall.ForkExec(c.runtime.program(c.argv[0]), c.argv, &syscall.ProcAttr{
				Env: []string{defaultPath}, Files: []uintptr{uintptr(in[0]), uintptr(out[1]), uintptr(out[1])},
				Sys: &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
			})
			return err
		})
	}
	if err == nil {
		err = unix.SetNonblock(out[0], true) // so that Go polls it
	}
	if err != nil {
		unix.Close(out[0])
		return nil, 0, 0, fmt.Errorf("%s: %w", c.argv[0], err)
	}
	return os.NewFile(uintptr(out[0]), "exec"), pid, pidfd, nil
}

// readUntilEnd copies a command's output until nobody has it open any more; but
// once the OCI runtime has ended, no longer than until nothing came for execGrace.
func readUntilEnd(to io.Writer, from *os.File, pidfd int) {
	buf := outputs.Get().(*[4096]byte)
	defer outputs.Put(buf)
	for {
		_ = from.SetReadDeadline(time.Now().Add(execGrace)) // it is a pipe: it has deadlines
		n, err := from.Read(buf[:])
		if n > 0 {
			_, _ = to.Write(buf[:n])
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !hasEnded(pidfd) {
			continue
		}
		if err != nil {
			return
		}
	}
}

func hasEnded(pidfd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
	return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
}

// takeError is the OCI runtime's error, which its next run is not to find.
func (c *Repeated) takeError() string {
	log := filepath.Join(c.tmp, "log")
	if info, err := os.Lstat(log); err != nil || info.Size() == 0 {
		return ""
	}
	text := logError(log)
	_ = os.Truncate(log, 0) // else the next run fails with the same words
	return text
}
