package agent

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal gives cmd a new terminal (pty(7)) as its controlling one.
func openTerminal(cmd *exec.Cmd, size Size, answer *frameWriter) (ends, error) {
	master, slave, err := openPTY()
	if err != nil {
		return ends{}, fmt.Errorf("open a terminal: %w", err)
	}
	resize := func(s Size) {
		_ = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: s.Rows, Col: s.Cols})
	}
	resize(size)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}

	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(answer.stream(frameStdout), master) // ends with EIO when nobody holds the other side
		_ = master.Close()
	}()
	drain := func() {
		select {
		case <-copied:
		case <-time.After(outputDelay):
		}
	}
	return ends{terminalInput{master}, resize, func() { _ = slave.Close() }, drain}, nil
}

// terminalInput is the typing side of a terminal.
type terminalInput struct{ master *os.File }

func (t terminalInput) Write(p []byte) (int, error) { return t.master.Write(p) }

// Close types the end-of-file character, as a user would.
func (t terminalInput) Close() error {
	_, err := t.master.Write([]byte{4})
	return err
}

func openPTY() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		_ = master.Close()
		return nil, nil, err
	}
	return master, slave, nil
}
