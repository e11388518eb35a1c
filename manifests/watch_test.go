package manifests

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// watched runs Watch and a Reader as a daemon does.
type watched struct {
	*bench
	signals chan struct{}
}

func watch(t *testing.T, b *bench) *watched {
	w := &watched{bench: b, signals: make(chan struct{}, 10_000)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- Watch(ctx, StandardSources(b.root), func() { w.signals <- struct{}{} }, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch ended with %v", err)
		}
	})
	w.quiet()
	return w
}

// quiet waits until no signal has come for a while.
func (w *watched) quiet() {
	for {
		select {
		case <-w.signals:
		case <-time.After(3 * settleAfter):
			return
		}
	}
}

// until scans at each signal, and only then, until the claims' names are these.
func (w *watched) until(what string, names ...string) {
	w.t.Helper()
	deadline := time.After(10 * time.Second)
	var last Set
	for {
		select {
		case <-w.signals:
			last = w.r.Scan()
			if last.Unsettled {
				continue
			}
			if sameNames(last, names) {
				return
			}
		case <-deadline:
			w.t.Fatalf("%s: no signal led to %v; the last one to:\n%s", what, names, last)
		}
	}
}

func sameNames(s Set, names []string) bool {
	if len(s.Claims) != len(names) {
		return false
	}
	for i, c := range s.Claims {
		if c.Key.Name != names[i] {
			return false
		}
	}
	return true
}

func link(t *testing.T, target, path string) {
	t.Helper()
	tmp := filepath.Join(filepath.Dir(path), "CuAbCdEf") // as ln -sfn names it
	if err := os.Symlink(target, tmp); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

func TestWatchSeesFilesComeChangeAndGo(t *testing.T) {
	w := watch(t, newBench(t))
	w.write(w.path("a.yaml"), configMap("one"))
	w.until("atomic create", "one")
	w.quiet()
	w.write(w.path("a.yaml"), configMap("two"))
	w.until("atomic replace", "two")
	w.quiet()
	if err := os.WriteFile(w.path("a.yaml"), []byte(configMap("three")), 0o644); err != nil {
		t.Fatal(err)
	}
	w.until("write in place", "three")
	w.quiet()
	os.Rename(w.path("a.yaml"), w.path("b.yaml"))
	w.until("rename", "three")
	w.quiet()
	os.Remove(w.path("b.yaml"))
	w.until("remove")
}

func TestWatchActsOnTheFirstEventAtOnce(t *testing.T) {
	w := watch(t, newBench(t))
	w.write(w.path("x.yaml"), configMap("x"))
	w.until("create", "x")
	// The burst's end gives a signal of its own, so with the first there are two.
	select {
	case <-w.signals:
	case <-time.After(10 * time.Second):
		t.Error("only one signal came: the first event was not acted on before the burst had settled")
	}
}

func TestWatchSettlesBursts(t *testing.T) {
	w := watch(t, newBench(t))
	start := time.Now()
	for time.Since(start) < 4*settleAfter {
		w.write(w.path("x.yaml"), configMap("x"))
	}
	took := time.Since(start)
	w.until("burst", "x")
	signals := 1
	for quiet := false; !quiet; {
		select {
		case <-w.signals:
			signals++
		case <-time.After(3 * settleAfter):
			quiet = true
		}
	}
	if most := 4 + int(took/settleAfter); signals > most {
		t.Errorf("%d signals for a burst of %v, want at most %d", signals, took, most)
	}
}

func TestWatchFollowsNewDirectories(t *testing.T) {
	w := watch(t, newBench(t))
	w.write(w.path("a/b/c.yaml"), configMap("one"))
	w.until("new directories", "one")
	w.quiet()
	w.write(w.path("a/b/d.yaml"), configMap("two"))
	w.until("file in a new directory", "one", "two")
	w.quiet()
	os.RemoveAll(w.path("a"))
	w.until("directories removed")
	w.quiet()
	w.write(w.path("a/b/c.yaml"), configMap("again"))
	w.until("directories made again", "again")
	w.quiet()
	w.write(w.path("a/b/c.yaml"), configMap("later"))
	w.until("file in a directory made again", "later")
}

func TestWatchWaitsForDirectoriesThatDoNotExistYet(t *testing.T) {
	b := newBench(t)
	for _, dir := range []string{"etc", "run", "var", "usr"} {
		os.RemoveAll(filepath.Join(b.root, dir))
	}
	w := watch(t, b)
	w.write(w.path("a.yaml"), configMap("one"))
	w.until("directory appears", "one")
	w.quiet()
	w.write(w.path("b.yaml"), configMap("two"))
	w.until("file in it", "one", "two")
}

func TestWatchFollowsLinkSwaps(t *testing.T) {
	b := newBench(t)
	srv := filepath.Join(b.root, "srv")
	w1, w2 := filepath.Join(srv, "v1"), filepath.Join(srv, "v2")
	b.write(filepath.Join(w1, "a.yaml"), configMap("v1"))
	b.write(filepath.Join(w2, "a.yaml"), configMap("v2"))
	link(t, w1, filepath.Join(srv, "current"))
	link(t, filepath.Join(srv, "current"), b.path("apps")) // a directory by way of two links
	w := watch(t, b)
	w.r.Scan()

	link(t, w2, filepath.Join(srv, "current"))
	w.until("a link far away is swapped", "v2")
	w.quiet()
	w.write(filepath.Join(w2, "a.yaml"), configMap("v2b"))
	w.until("a file behind links is replaced", "v2b")
	w.quiet()
	link(t, w1, b.path("apps"))
	w.until("the link in the directory is swapped", "v1")
	w.quiet()
	w.write(filepath.Join(w2, "a.yaml"), configMap("v2c"))
	w.write(filepath.Join(w1, "b.yaml"), configMap("v1b"))
	w.until("a file in the new target", "v1", "v1b")
}

func TestWatchFollowsKubernetesStyleVolumes(t *testing.T) {
	b := newBench(t)
	b.write(b.path("..2026_01/a.yaml"), configMap("one"))
	b.write(b.path("..2026_02/a.yaml"), configMap("two"))
	link(t, "..2026_01", b.path("..data"))
	link(t, "..data/a.yaml", b.path("a.yaml"))
	w := watch(t, b)
	if set := w.r.Scan(); !sameNames(set, []string{"one"}) {
		t.Fatalf("got:\n%s", set)
	}
	link(t, "..2026_02", b.path("..data"))
	w.until("..data is swapped", "two")
}

func TestWatchFollowsAFileLinkedFromElsewhere(t *testing.T) {
	b := newBench(t)
	far := filepath.Join(b.root, "srv/a.yaml")
	b.write(far, configMap("one"))
	link(t, far, b.path("a.yaml"))
	w := watch(t, b)
	w.r.Scan()
	b.write(far, configMap("two"))
	w.until("the target of a link is replaced", "two")
}

func TestWatchFollowsAReplacedSourceDirectory(t *testing.T) {
	b := newBench(t)
	dir := filepath.Dir(b.path("x"))
	b.write(filepath.Join(b.root, "new/a.yaml"), configMap("one"))
	w := watch(t, b)
	os.Remove(dir)
	os.Rename(filepath.Join(b.root, "new"), dir)
	w.until("the directory is replaced", "one")
	w.quiet()
	w.write(w.path("b.yaml"), configMap("two"))
	w.until("a file in the new directory", "one", "two")
}

func TestWatchIsNotWokenByTemporaryFiles(t *testing.T) {
	w := watch(t, newBench(t))
	for _, name := range []string{".a.yaml.swp", "4913", "a.yaml~", ".ansible_tmpx"} {
		if err := os.WriteFile(w.path(name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-w.signals:
		t.Error("a temporary file gave a signal")
	case <-time.After(3 * settleAfter):
	}
}
