package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ReopenLog makes conmon go on in a new file at the log's path, after the old
// one was renamed, and returns when it has. The old file is then complete.
// Where conmon is gone there is nothing to do.
func (r *Runtime) ReopenLog(ctx context.Context, dir string) error {
	var id identity
	if err := readJSON(dir, identityFile, &id); err != nil {
		return fmt.Errorf("reopen log: %w", err)
	}
	err := control(dir, "2 0 0\n")
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EPIPE) { // EPIPE: it is just ending
		return nil
	}
	if err != nil {
		return fmt.Errorf("reopen log: %w", err)
	}
	for {
		if _, err := os.Lstat(id.LogPath); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		var ps processes
		if err := readJSON(dir, processesFile, &ps); err != nil || !ps.Conmon.alive() {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("reopen log: %w", context.Cause(ctx))
		case <-time.After(2 * time.Millisecond): // conmon answers no other way
		}
	}
}
