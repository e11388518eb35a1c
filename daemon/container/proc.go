package container

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// proc is one process for all time: a pid alone may be given to another.
type proc struct {
	PID   int
	Start uint64 // since boot, in clock ticks: field 22 of /proc/PID/stat
}

// stat is what this package needs of proc_pid_stat(5).
type stat struct {
	state  byte
	parent int
	start  uint64
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	// The second field, the command, may hold spaces and parentheses.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 20 {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return stat{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return stat{f[0][0], parent, start}, nil
}

// findProc is the process that has pid now.
func findProc(pid int) (proc, error) {
	st, err := readStat(pid)
	if err != nil {
		return proc{}, fmt.Errorf("find process: %w", err)
	}
	return proc{pid, st.start}, nil
}

// alive says whether the process still runs. One that only waits to be reaped
// does not; if it is our own child, it is reaped.
func (p proc) alive() bool {
	if p.PID <= 0 {
		return false
	}
	st, err := readStat(p.PID)
	if err != nil || st.start != p.Start {
		return false
	}
	if st.state != 'Z' && st.state != 'X' {
		return true
	}
	if st.parent == os.Getpid() {
		var status syscall.WaitStatus
		syscall.Wait4(p.PID, &status, syscall.WNOHANG, nil)
	}
	return false
}

// signal sends sig to this very process, or returns os.ErrProcessDone.
func (p proc) signal(sig syscall.Signal) error {
	if p.PID <= 0 {
		return os.ErrProcessDone
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return os.ErrProcessDone
	}
	if err != nil {
		return fmt.Errorf("open pidfd of %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if !p.alive() { // the descriptor now pins the pid
		return os.ErrProcessDone
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	} else if err != nil {
		return fmt.Errorf("signal %d with %s: %w", p.PID, unix.SignalName(sig), err)
	}
	return nil
}

// kill ends the process and returns when it is gone. It is for processes that
// SIGKILL does end; the wait has no other bound.
func (p proc) kill() error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return nil // no such process: what was asked for
	}
	defer unix.Close(fd)
	if err := p.signal(syscall.SIGKILL); errors.Is(err, os.ErrProcessDone) {
		return nil
	} else if err != nil {
		return err
	}
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.alive() // reaps
	return nil
}

// wait returns when the process is gone, or after d.
func (p proc) wait(d time.Duration) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if p.PID <= 0 || err != nil {
		return
	}
	defer unix.Close(fd)
	if p.alive() {
		unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(d.Milliseconds()))
	}
}

// processesWith are the processes that have arg among their arguments.
func processesWith(arg string) ([]proc, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []proc
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if !slices.Contains(procStrings(pid, "cmdline"), arg) {
			continue
		}
		if p, err := findProc(pid); err == nil && p.alive() {
			found = append(found, p)
		}
	}
	return found, nil
}

// procStrings reads /proc/PID/cmdline or environ. In the middle of an execve
// both are empty for a moment, after descriptors were closed: it is waited out.
// A process that made them empty itself costs that wait, too.
func procStrings(pid int, name string) []string {
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	for range 250 {
		b, err := os.ReadFile(dir + name)
		if err != nil {
			return nil
		}
		if len(b) > 0 {
			return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
		}
		if _, err := os.Readlink(dir + "exe"); err != nil {
			return nil // a thread of the kernel, or a dead process
		}
		if args, err := os.ReadFile(dir + "cmdline"); err != nil || len(args) > 0 {
			return nil // no environment
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}
