package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// WatchExits calls f with the id of each container that has ended, also of
// those that ended before, until ctx ends. A container may be named more than
// once: look at it with Read. f is called from one goroutine.
func (r *Runtime) WatchExits(ctx context.Context, f func(id string)) error {
	if err := os.MkdirAll(r.exitDir(), 0o700); err != nil {
		return fmt.Errorf("watch exits: %w", err)
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch exits: %w", err)
	}
	defer w.Close()
	if err := w.Add(r.exitDir()); err != nil {
		return fmt.Errorf("watch exits: %w", err)
	}
	if err := r.listExits(f); err != nil { // after Add: nothing falls between
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case event := <-w.Events:
			// conmon writes under another name, with a dot in it, and renames.
			if id := filepath.Base(event.Name); event.Has(fsnotify.Create) && validID.MatchString(id) {
				f(id)
			}
		case err := <-w.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch exits: %w", err)
			}
			if err := r.listExits(f); err != nil {
				return err
			}
		}
	}
}

func (r *Runtime) listExits(f func(id string)) error {
	entries, err := os.ReadDir(r.exitDir())
	if err != nil {
		return fmt.Errorf("watch exits: %w", err)
	}
	for _, e := range entries {
		if validID.MatchString(e.Name()) {
			f(e.Name())
		}
	}
	return nil
}
