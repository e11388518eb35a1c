package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const lockFile = "lock"

// lock holds dir while processes are started for it. The lock belongs to the
// open file (flock(2)), which a forked child shares until its execve closes it.
// So whoever gets the lock after a daemon died knows that the child it forked
// last runs under its own name and can be found in /proc, or was never forked.
func lock(dir string) (unlock func(), err error) { return flock(dir, os.O_CREATE) }

// settle waits until what a dead daemon forked for dir can be found in /proc.
// Where no lock was made, nothing was forked.
func settle(dir string) error {
	unlock, err := flock(dir, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	unlock()
	return nil
}

func flock(dir string, flags int) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
	}
}
