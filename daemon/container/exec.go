package container

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Size is that of a terminal, in characters.
type Size struct{ Width, Height uint16 }

// ExecOptions is one command to run in a container. With TTY, all output comes
// on Stdout. A nil stream is /dev/null.
type ExecOptions struct {
	Cmd    []string
	Stdin  io.Reader // read until it ends or Exec has returned; one last Read may be under way then
	Stdout io.Writer
	Stderr io.Writer
	TTY    bool
	Resize <-chan Size // closed by the caller, or never
}

// execGrace is how long output is awaited, after the command ended, from what
// it left running with its output open.
const execGrace = time.Second

// Exec runs a command in a running container and returns its exit code. The
// command has the container's user, environment, namespaces, cgroup, seccomp
// filter and capabilities. When ctx ends, the command's process group is
// killed. The error is of type [*ExecError] when the OCI runtime could not
// start the command.
func (r *Runtime) Exec(ctx context.Context, dir string, opt ExecOptions) (int, error) {
	state, err := r.Read(dir)
	if err != nil {
		return 0, err
	}
	if state.Phase != Running {
		return 0, fmt.Errorf("exec in container: it is %s", state.Phase)
	}
	tmp, err := os.MkdirTemp(dir, "exec-")
	if err != nil {
		return 0, fmt.Errorf("exec in container: %w", err)
	}
	defer os.RemoveAll(tmp)
	x := &execution{tmp: tmp, opt: opt}
	if x.owner, err = writeExecProcess(dir, tmp, opt); err != nil {
		return 0, fmt.Errorf("exec in container: %w", err)
	}
	var terminal []string
	if opt.TTY {
		terminal = []string{"--console-socket=" + x.path("console")}
	}
	x.cmd = exec.Command(r.program(state.oci), r.execArgs(state, tmp, terminal...)...)
	x.cmd.Args[0] = state.oci
	x.cmd.Env = []string{defaultPath}
	code, err := x.run(ctx)
	if err != nil {
		return 0, fmt.Errorf("exec in container: %w", err)
	}
	return code, nil
}

// ExecError is the OCI runtime's reason for not starting a command.
type ExecError struct{ Text string }

func (e *ExecError) Error() string { return e.Text }

// Code is the exit code that a shell has for a command that can't be started,
// told from the words of crun and runc: 127 for one that is not there, 126 for
// one that can't be executed; 0 where it was not the command's fault.
func (e *ExecError) Code() int {
	text := strings.ToLower(e.Text)
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
	}
	switch {
	case has("not found in $path", "no such file or directory"):
		return 127
	case has("permission denied", "exec format error", "is a directory", "not a directory", "text file busy"):
		return 126
	}
	return 0
}

// writeExecProcess derives the command's process from the container's own. It
// returns who that is on the host.
func writeExecProcess(dir, tmp string, opt ExecOptions) (specs.User, error) {
	var config struct {
		Process *specs.Process `json:"process"`
		Linux   struct {
			UIDMappings []specs.LinuxIDMapping `json:"uidMappings"`
		} `json:"linux"`
	}
	if err := readJSON(dir, configFile, &config); err != nil {
		return specs.User{}, err
	}
	p := config.Process
	p.Args, p.Terminal, p.OOMScoreAdj = opt.Cmd, opt.TTY, nil
	if opt.TTY {
		p.Env = append([]string{"TERM=xterm"}, p.Env...) // the container's own TERM, if any, comes later and wins
	}
	owner := p.User
	for _, m := range config.Linux.UIDMappings { // one, and the same for groups
		owner.UID, owner.GID = m.HostID+owner.UID, m.HostID+owner.GID
	}
	return owner, writeJSON(tmp, "process.json", p)
}

// execution is one run of the OCI runtime's exec.
type execution struct {
	tmp   string
	opt   ExecOptions
	owner specs.User // of the command's ends of pipes
	cmd   *exec.Cmd
	out   sync.WaitGroup // copies of output

	mu    sync.Mutex
	reads []*os.File // our ends of what the command writes
}

func (x *execution) readsFrom(f *os.File) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reads = append(x.reads, f)
}

func (x *execution) path(name string) string { return filepath.Join(x.tmp, name) }

func (x *execution) run(ctx context.Context) (int, error) {
	var childEnds []*os.File
	defer func() {
		for _, f := range append(childEnds, x.reads...) {
			f.Close()
		}
	}()
	var console *net.UnixListener
	var err error
	if x.opt.TTY {
		console, err = x.listen()
	} else {
		childEnds, err = x.pipes()
	}
	if err != nil {
		return 0, err
	}
	if console != nil {
		defer console.Close()
	}
	await, err := startAwaited(x.cmd)
	if err != nil {
		return 0, err
	}
	for _, f := range childEnds {
		f.Close()
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { killExec(x.tmp, x.cmd.Process.Pid, ended) })
	defer stop()
	if console != nil {
		x.out.Go(func() { x.terminal(console) })
	}
	err = await()
	close(ended)
	x.drain(console)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return x.result(err)
}

// pipes connects the three streams. It returns the command's ends. They belong to
// the command's user, who could not open /dev/stdout otherwise. There is a pipe
// also where nobody wants a stream: crun would give the host's /dev/null away.
func (x *execution) pipes() (child []*os.File, err error) {
	r, w, err := x.pipe()
	if err != nil {
		return child, err
	}
	x.cmd.Stdin, child = r, append(child, r)
	if x.opt.Stdin == nil {
		w.Close()
	} else {
		go func() { // not awaited: nothing ends a Read that the caller holds
			defer w.Close()
			io.Copy(w, x.opt.Stdin)
		}()
	}
	for _, s := range []struct {
		to   io.Writer
		file *io.Writer
	}{{x.opt.Stdout, &x.cmd.Stdout}, {x.opt.Stderr, &x.cmd.Stderr}} {
		if s.file == &x.cmd.Stderr && sameWriter(x.opt.Stdout, x.opt.Stderr) {
			x.cmd.Stderr = x.cmd.Stdout // one pipe, which also keeps the order
			break
		}
		r, w, err := x.pipe()
		if err != nil {
			return child, err
		}
		*s.file, child = w, append(child, w)
		x.readsFrom(r)
		x.out.Go(func() { drainTo(s.to, r) })
	}
	return child, nil
}

// sameWriter says whether two streams go to the same place, or nowhere.
func sameWriter(a, b io.Writer) bool {
	return (a == nil || reflect.TypeOf(a).Comparable()) && a == b
}

// outputs are buffers for what commands write: io.Copy's would be 32 KiB for
// each stream of each probe.
var outputs = sync.Pool{New: func() any { return new([4096]byte) }}

// drainTo copies what a command writes until nobody can write any more. What
// the other side does not take is read and dropped: the command is not to hang.
func drainTo(to io.Writer, from *os.File) {
	buf := outputs.Get().(*[4096]byte)
	defer outputs.Put(buf)
	for {
		n, err := from.Read(buf[:])
		if n > 0 && to != nil {
			if _, werr := to.Write(buf[:n]); werr != nil {
				to = nil
			}
		}
		if err != nil {
			return
		}
	}
}

func (x *execution) pipe() (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	if err := w.Chown(int(x.owner.UID), int(x.owner.GID)); err != nil { // both ends are one inode
		return nil, nil, errors.Join(err, r.Close(), w.Close())
	}
	return r, w, nil
}

// listen makes the socket over which the OCI runtime hands us the terminal.
func (x *execution) listen() (*net.UnixListener, error) {
	dir, err := os.Open(x.tmp)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	// A socket's name has 107 bytes at most (unix(7)) and this path has more.
	name := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/console"
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the name means something else by then; the directory goes anyway
	return l, nil
}

// terminal receives the terminal and copies both ways until it hangs up.
func (x *execution) terminal(console *net.UnixListener) {
	tty, err := receiveTerminal(console)
	if err != nil {
		return // the OCI runtime failed, and says why
	}
	x.readsFrom(tty)
	if x.opt.Stdin != nil {
		go io.Copy(tty, x.opt.Stdin) // as in pipes
	}
	done := make(chan struct{})
	if x.opt.Resize != nil {
		x.out.Go(func() {
			for {
				select {
				case s, ok := <-x.opt.Resize:
					if !ok {
						return
					}
					resize(tty, s)
				case <-done:
					return
				}
			}
		})
	}
	to := x.opt.Stdout
	if to == nil {
		to = io.Discard
	}
	io.Copy(to, tty) // ends with EIO when the last process closes the terminal
	close(done)
}

func resize(tty *os.File, s Size) {
	raw, err := tty.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { // a size that can't be set is no reason to end
		unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: s.Height, Col: s.Width})
	})
}

func receiveTerminal(l *net.UnixListener) (*os.File, error) {
	conn, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 4096), oob)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.Join(errors.New("no terminal in the message"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(errors.New("no terminal in the message"), err)
	}
	unix.CloseOnExec(fds[0])
	if err := unix.SetNonblock(fds[0], true); err != nil { // for Close and deadlines to reach a Read
		unix.Close(fds[0])
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "ptmx"), nil
}

// drain waits for the rest of the output. Reading goes on for as long as there
// is something to read; a process left in the background ends it after execGrace.
func (x *execution) drain(console *net.UnixListener) {
	done := make(chan struct{})
	go func() { x.out.Wait(); close(done) }()
	if console != nil {
		// The terminal of a short command may still wait to be received; one
		// that the OCI runtime has not sent by now never comes.
		console.SetDeadline(time.Now().Add(execGrace))
	}
	for {
		select {
		case <-done:
			return
		case <-time.After(execGrace):
			x.mu.Lock()
			for _, f := range x.reads {
				f.SetReadDeadline(time.Now().Add(execGrace / 10))
			}
			x.mu.Unlock()
		}
	}
}

// killExec ends the process group of a command whose files are in tmp, and the
// OCI runtime's exec (own) which waits for it, until that has ended. crun makes
// the group in a process that then forks the command, so its id is not the
// command's pid.
func killExec(tmp string, own int, ended <-chan struct{}) {
	stuck := time.After(2 * execGrace)
	for {
		if pid, err := readPID(tmp, "pid"); err == nil {
			if st, err := readStat(pid); err == nil && st.parent == own {
				if group, err := unix.Getpgid(pid); err == nil && group > 1 {
					unix.Kill(-group, unix.SIGKILL)
				}
				unix.Kill(-own, unix.SIGKILL)
			}
		}
		select {
		case <-ended:
			return
		case <-stuck:
			unix.Kill(-own, unix.SIGKILL)
		case <-time.After(20 * time.Millisecond): // it may not have started yet
		}
	}
}

// result tells the command's exit code from the OCI runtime's failure, which
// ends with a code too, but also with a line in its log.
func (x *execution) result(waitErr error) (int, error) {
	if text := logError(x.path("log")); text != "" {
		return 0, &ExecError{text}
	}
	var exit *exec.ExitError
	if errors.As(waitErr, &exit) {
		if exit.Exited() {
			return exit.ExitCode(), nil
		}
		return 0, fmt.Errorf("%s exec: %w", filepath.Base(x.cmd.Args[0]), waitErr)
	}
	return 0, waitErr
}

// logError is the last error in an OCI runtime's JSON log.
func logError(path string) string {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	text := ""
	for s := bufio.NewScanner(f); s.Scan(); {
		var line struct{ Level, Msg string }
		if json.Unmarshal(s.Bytes(), &line) == nil && line.Level == "error" {
			text = line.Msg
		}
	}
	return text
}
