package api

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// A container's log directory lies where containers cannot write, but a volume
// mounted over it could; links are not followed.
const oNoFollow = unix.O_NOFOLLOW | unix.O_NONBLOCK

// followAll writes what there is and what comes, over rotations, until the
// container has ended and all is written.
func (c *containerLog) followAll(ctx context.Context, out *logWriter, f follow) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("follow log: %w", err)
	}
	defer watcher.Close()
	if err := watcher.Add(filepath.Dir(c.path)); err != nil {
		return fmt.Errorf("follow log: %w", err)
	}
	for {
		// In this order: what ended, or was rotated, before the file was read to
		// its end has no more lines in it.
		changed, ended := f.changed(), f.ended()
		done, err := c.advance(ctx, out)
		if errors.Is(err, errLimit) {
			return nil
		}
		if err != nil {
			return err
		}
		if done && ended {
			return c.finish(out)
		}
		if err := flushed(out); err != nil {
			return err
		}
		if !done {
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case _, ok := <-watcher.Events:
			if !ok {
				return errors.New("follow log: watch ended")
			}
			drainEvents(watcher)
		case err := <-watcher.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("follow log: %w", err)
			}
		}
	}
}

// drainEvents takes what is queued already: one look covers it all.
func drainEvents(w *fsnotify.Watcher) {
	for {
		select {
		case <-w.Events:
		default:
			return
		}
	}
}

// flushed hands what was written to the client.
func flushed(out *logWriter) error {
	if f, ok := out.w.(*flushing); ok {
		return f.flush()
	}
	return nil
}

// advance writes what can be had of the open file or goes on to the next one,
// and says whether there is nothing left to do until something changes.
func (c *containerLog) advance(ctx context.Context, out *logWriter) (done bool, err error) {
	if c.file == nil {
		ok, err := c.next()
		return !ok, err
	}
	over := c.replaced()
	if err := c.drain(ctx, out); err != nil {
		return false, err
	}
	if !over {
		return true, nil
	}
	if err := c.finish(out); err != nil {
		return false, err
	}
	if c.live {
		if err := c.skipHeld(); err != nil {
			return false, err
		}
	}
	return false, c.Close()
}

// replaced says whether the file that is held is written no more: conmon goes
// on writing to one that was renamed until it has made a new one at path, which
// may have been renamed in its turn.
func (c *containerLog) replaced() bool {
	if len(c.past) > 0 {
		return true
	}
	held, err := c.file.Stat()
	if err != nil {
		return false
	}
	if now, err := os.Lstat(c.path); err == nil {
		return !os.SameFile(now, held)
	}
	later, err := c.rotated()
	if err != nil || len(later) == 0 {
		return false
	}
	return !c.live || len(later) > 1 || !c.isHeld(later[0], held)
}

// isHeld says whether a rotated file is the one that is held open. Of a
// compressed one only its place tells: the held file is the oldest.
func (c *containerLog) isHeld(path string, held os.FileInfo) bool {
	st, err := os.Lstat(path)
	return filepath.Ext(path) == ".gz" || err == nil && os.SameFile(st, held)
}

// skipHeld leaves out, of the files rotated since, the one that is held open
// and has been read: the oldest, unless it is so old that it was deleted.
func (c *containerLog) skipHeld() error {
	rotated, err := c.rotated()
	if err != nil {
		return fmt.Errorf("follow log: %w", err)
	}
	c.past = rotated
	if len(rotated) == 0 {
		return nil
	}
	held, err := c.file.Stat()
	if err != nil {
		return fmt.Errorf("follow log: %w", err)
	}
	if c.isHeld(rotated[0], held) {
		c.read = c.stamp(rotated[0])
		c.past = rotated[1:]
	}
	return nil
}
