package bed

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Supervise runs the bed in dir until it is told to end, then removes it. It is the body of the process that Up starts;
// the bed's lock came with that process and ends with it. The end of an owned bed is also that of standard input, whose
// other end the owner holds.
func Supervise(dir string, owned bool, log *slog.Logger) error {
	// The kernel sends the parent-death signal when the thread that started the child ends, see prctl(2).
	runtime.LockOSThread()
	p := place(dir)
	s, err := p.readSpec()
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.lock(), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if owned {
		go func() { _, _ = io.Copy(io.Discard, os.Stdin); stop() }()
	}
	groups, err := bedCgroups(s.Name)
	if err == nil && belowSystemd() {
		err = groups.delegate()
	}
	if err != nil {
		return errors.Join(err, remove(p))
	}
	err = runInside(ctx, p, groups)
	cleanup, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if !belowSystemd() {
		err = errors.Join(err, groups.kill(cleanup))
	}
	if err != nil {
		log.Error("bed ended", "bed", s.Name, "error", err)
	}
	return errors.Join(err, remove(p))
}

// runInside runs the first process of the bed's namespaces. With it everything in them ends.
func runInside(ctx context.Context, p place, groups cgroups) error {
	cmd := exec.CommandContext(ctx, p.program(), append([]string{"inside", string(p)}, groups.dirs()...)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// remove deletes what a bed has on disk. Its processes must have ended: with them went its mounts.
func remove(p place) error {
	return os.RemoveAll(string(p))
}

// Collect removes what beds left whose supervisor was killed.
func Collect(ctx context.Context) error {
	dirs, err := filepath.Glob(filepath.Join(CacheDir(), "beds", "*.lock"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range dirs {
		errs = append(errs, collect(ctx, path))
	}
	return errors.Join(errs...)
}

func collect(ctx context.Context, lockPath string) error {
	lock, err := tryLock(lockPath)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil // it lives
	} else if err != nil {
		return err
	}
	defer lock.Close()
	name := filepath.Base(lockPath[:len(lockPath)-len(".lock")])
	if !belowSystemd() { // which removes a scope's cgroups itself
		groups, err := bedCgroups(name)
		if err == nil {
			err = groups.kill(ctx)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(remove(bedPlace(name)), os.Remove(lockPath))
}
