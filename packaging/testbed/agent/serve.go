package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Serve answers requests arriving on l until l fails. Whoever reaches l can do anything as the caller: l must be
// private.
func Serve(l net.Listener, log *slog.Logger) error {
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /exec", func(w http.ResponseWriter, r *http.Request) { serveExec(w, r, log) })
	server := &http.Server{Handler: mux, Protocols: &h2c}
	return server.Serve(l)
}

func serveExec(w http.ResponseWriter, r *http.Request, log *slog.Logger) {
	var c Command
	kind, payload, err := readFrame(r.Body)
	if err == nil {
		err = json.Unmarshal(payload, &c)
	}
	if err != nil || kind != frameCommand || len(c.Args) == 0 {
		http.Error(w, "the first frame must be a command", http.StatusBadRequest)
		return
	}
	answer := &frameWriter{w: w, flush: w.(http.Flusher).Flush}
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()

	exit, err := run(r.Context(), c, r.Body, answer)
	if err != nil {
		err = answer.write(frameFailed, []byte(err.Error()))
	} else {
		err = answer.writeJSON(frameExit, exit)
	}
	if err != nil && r.Context().Err() == nil {
		log.Warn("answer not sent", "command", c.Args[0], "error", err)
	}
}

// run runs one command to its end. When ctx ends first the command's whole session is killed.
func run(ctx context.Context, c Command, input io.Reader, answer *frameWriter) (exit int, err error) {
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Env = append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LANG=C.UTF-8",
	}, c.Env...)
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/root"
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A command that leaves a child holding its output has ended all the same.
	cmd.WaitDelay = outputDelay

	ends, err := connect(cmd, c.TTY, answer)
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		_ = ends.stdin.Close()
		ends.started()
		return 0, err
	}
	ends.started()
	go pump(input, ends)
	defer ends.drain()
	return wait(cmd)
}

func wait(cmd *exec.Cmd) (int, error) {
	err := cmd.Wait()
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		if status := failed.Sys().(syscall.WaitStatus); status.Signaled() {
			return 128 + int(status.Signal()), nil // as shells report it
		}
		return failed.ExitCode(), nil
	case errors.Is(err, exec.ErrWaitDelay):
		return 0, nil
	}
	return 0, err
}

// outputDelay is how long output is still awaited from children that a command leaves behind when it ends.
const outputDelay = time.Second

// ends are this side's ends of a command's streams.
type ends struct {
	stdin   io.WriteCloser
	resize  func(Size)
	started func() // lets go of what now belongs to the command
	drain   func() // waits until all output was passed on
}

// connect ties cmd to answer, by pipes or by a terminal.
func connect(cmd *exec.Cmd, tty *Size, answer *frameWriter) (ends, error) {
	if tty != nil {
		return openTerminal(cmd, *tty, answer)
	}
	cmd.Stdout, cmd.Stderr = answer.stream(frameStdout), answer.stream(frameStderr)
	stdin, err := cmd.StdinPipe()
	return ends{stdin, func(Size) {}, func() {}, func() {}}, err
}

// pump carries the request's frames to the command's input until either ends.
func pump(input io.Reader, to ends) {
	defer to.stdin.Close()
	for {
		kind, payload, err := readFrame(input)
		if err != nil {
			return
		}
		switch kind {
		case frameStdin:
			if len(payload) == 0 {
				return
			}
			if _, err := to.stdin.Write(payload); err != nil {
				return
			}
		case frameResize:
			var s Size
			if json.Unmarshal(payload, &s) == nil {
				to.resize(s)
			}
		}
	}
}

// Port serves a character device, such as a virtio-serial port, as if it were a connection. It returns when the other
// end went away.
func Port(path string, log *slog.Logger) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	l := &portListener{conn: portConn{f, make(chan struct{})}}
	return Serve(l, log)
}
