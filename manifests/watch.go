package manifests

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How signals follow events: the first after a quiet time at once, the rest of
// a burst when nothing has happened for settleAfter, or every settleAtMost.
const (
	settleAfter  = 50 * time.Millisecond
	settleAtMost = 250 * time.Millisecond
)

// Watch calls changed whenever sources may have changed, until ctx ends: it
// watches their directories, all below them, the links that lead to any of
// them, and the parents of those that do not exist yet. changed is called from
// one goroutine and should be quick. Events are hints: they are lost on network
// file systems and when the kernel's queue overflows, so callers also scan
// every now and then. It returns ctx's cause, or why it cannot watch.
func Watch(ctx context.Context, sources []Source, changed func(), log *slog.Logger) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch manifests: %w", err)
	}
	defer notify.Close()
	w := watcher{notify: notify, sources: sources, log: log, watched: map[string]watchedDir{}, refused: map[string]bool{}}
	w.follow()
	changed()
	settle := time.NewTimer(0)
	settle.Stop()
	var burst time.Time // when the burst began; zero when all is quiet
	acted := false      // on the burst's first event that names a manifest
	for {
		select {
		case ev := <-notify.Events:
			interest := w.interest(ev)
			if interest == none {
				continue
			}
			now := time.Now()
			if !acted && interest == manifest {
				acted = true
				changed()
			}
			if burst.IsZero() {
				burst = now
			}
			settle.Reset(max(0, min(settleAfter, settleAtMost-now.Sub(burst))))
		case err := <-notify.Errors:
			log.WarnContext(ctx, "manifest events were lost", "err", err)
			settle.Reset(0)
		case <-settle.C:
			// Directories first: what appears in a new one after it was
			// followed is an event, what was there before is for this scan.
			w.follow()
			burst, acted = time.Time{}, false
			changed()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

type watcher struct {
	notify  *fsnotify.Watcher
	sources []Source
	log     *slog.Logger
	watched map[string]watchedDir // by path without links
	refused map[string]bool       // directories that could not be watched, to say so once
}

// watchedDir is a directory with a watch on it.
type watchedDir struct {
	id    fileID
	names map[string]bool // the entries that matter; nil if all do
}

type interest int

const (
	none     interest = iota
	some              // may matter: a directory, a link, a name that is not read
	manifest          // a file that is read: worth looking at once
)

// interest says how much an event matters. Editors' temporary files come just
// before the rename that counts, so they must not begin a burst; links that
// Kubernetes swaps (..data) are hidden and do.
func (w *watcher) interest(ev fsnotify.Event) interest {
	if ev.Op == fsnotify.Chmod && !isManifest(ev.Name) {
		return none
	}
	if _, ok := w.watched[ev.Name]; ok {
		if ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename) {
			// What comes in its place may have the same inode number.
			_ = w.notify.Remove(ev.Name)
			delete(w.watched, ev.Name)
		}
		return some
	}
	dir, name := filepath.Split(ev.Name)
	d, ok := w.watched[filepath.Clean(dir)]
	switch {
	case !ok:
		return none
	case d.names[name]:
		return some
	case d.names != nil:
		return none
	case temporary(name) && !strings.HasPrefix(name, ".."):
		return none
	case isManifest(name):
		return manifest
	}
	return some
}

// follow makes the watches those that the file system as it is now calls for,
// again until nothing new has appeared meanwhile.
func (w *watcher) follow() {
	for range 10 {
		want := map[string]map[string]bool{}
		for _, s := range w.sources {
			wantDir(want, s.Dir, 0)
		}
		for path := range w.watched {
			if _, ok := want[path]; !ok {
				_ = w.notify.Remove(path) // fails if the directory is gone, and the watch with it
				delete(w.watched, path)
			}
		}
		added := false
		for _, path := range slices.Sorted(maps.Keys(want)) {
			added = w.watch(path, want[path]) || added
		}
		if !added {
			return
		}
	}
}

// watch puts a watch on a directory and reports whether it is new.
func (w *watcher) watch(path string, names map[string]bool) bool {
	st, err := osFiles{}.Stat(path)
	if err != nil {
		return false
	}
	old, known := w.watched[path]
	if known && old.id == st.ID {
		w.watched[path] = watchedDir{st.ID, names}
		return false
	}
	if known {
		_ = w.notify.Remove(path) // it was on a directory that has been replaced
		delete(w.watched, path)
	}
	if err := w.notify.Add(path); err != nil {
		if !w.refused[path] && !errors.Is(err, fs.ErrNotExist) {
			w.refused[path] = true
			w.log.Warn("manifest directory is not watched; changes are seen at the next scan", "path", path, "err", err)
		}
		return false
	}
	delete(w.refused, path)
	w.watched[path] = watchedDir{st.ID, names}
	return true
}

// wantDir asks for watches on a directory, on what leads to it, and on all
// directories below. A nil set of names asks for all.
func wantDir(want map[string]map[string]bool, dir string, depth int) {
	real, ok := wantTrail(want, dir)
	if !ok || depth == maxDirDepth {
		return
	}
	if names, seen := want[real]; seen && names == nil {
		return // a loop of links, or reached by another way
	}
	want[real] = nil
	entries, err := os.ReadDir(real)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(real, e.Name())
		switch {
		case temporary(e.Name()):
		case e.IsDir():
			wantDir(want, path, depth+1)
		case e.Type()&fs.ModeSymlink != 0:
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				wantDir(want, path, depth+1)
			} else if target, ok := wantTrail(want, path); ok {
				wantName(want, target)
			}
		}
	}
}

// maxLinks is how many links in one path are followed, as in the kernel.
const maxLinks = 40

// wantTrail resolves a path link by link and asks for a watch on each name that
// the result depends on: every link, and the first part that does not exist.
// It reports the path without links, and whether that exists.
func wantTrail(want map[string]map[string]bool, path string) (real string, ok bool) {
	real = "/"
	rest := strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		next := filepath.Join(real, name)
		info, err := os.Lstat(next)
		if err != nil {
			wantName(want, next)
			return "", false
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			real = next
			continue
		}
		wantName(want, next)
		target, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			return "", false
		}
		if filepath.IsAbs(target) {
			real = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	wantName(want, real)
	return real, true
}

// wantName asks for events about one name in its directory.
func wantName(want map[string]map[string]bool, path string) {
	dir, name := filepath.Dir(path), filepath.Base(path)
	names, seen := want[dir]
	if seen && names == nil {
		return
	}
	if names == nil {
		names = map[string]bool{}
		want[dir] = names
	}
	names[name] = true
}
