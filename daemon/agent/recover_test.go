package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/pod"
)

// newTestWorker is a worker of a pod whose directories are the test's.
func newTestWorker(t *testing.T) *worker {
	dir := t.TempDir()
	a := New(t.Context(), Config{
		Node: func() pod.Node { return pod.Node{Name: "n1"} },
		Run:  filepath.Join(dir, "run"), Lib: filepath.Join(dir, "lib"), Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		Containers: &container.Runtime{Root: filepath.Join(dir, "crun"), ExitDir: filepath.Join(dir, "exits")},
	})
	p := &v1.Pod{}
	p.Namespace, p.Name, p.UID = "default", "p", "12345678-1234-8123-8123-123456789abc"
	p.Spec.Containers = []v1.Container{{Name: "main"}}
	return newWorker(a, p)
}

// KILL is written down after it was sent, but a file can be older than the
// host: what still runs must get it again.
func TestAKillIsNotTakenForDoneByTheNextDaemon(t *testing.T) {
	w := newTestWorker(t)
	signalled := time.Unix(1000, 0)
	w.recoverContainer(t.Context(), "main", &containerState{
		Current: &pod.Attempt{State: pod.Running, Signalled: signalled, Grace: time.Minute, Killed: true},
	})
	got := w.seen.Containers["main"].Current
	if got.Killed || !got.Signalled.Equal(signalled) || got.Grace != time.Minute {
		t.Errorf("got %+v; want the grace as it was and no KILL sent", got)
	}
}

// What a daemon left that died between the end of a container and the removal
// of what it held.
func TestFormerRunsAreRemoved(t *testing.T) {
	w := newTestWorker(t)
	w.seen.Containers["main"] = pod.Container{Current: &pod.Attempt{Number: 2, State: pod.Running}}
	w.seen.Containers["done"] = pod.Container{Current: &pod.Attempt{Number: 0, State: pod.Exited}}
	for _, dir := range []string{
		w.bundle("main", 2), w.root("main", 2), // it runs
		w.bundle("main", 1), w.root("main", 1), // it ended
		w.root("main", 0),                                                          // its bundle is gone already
		w.bundle("done", 0),                                                        // it ended and is not followed by another
		filepath.Join(w.dir(), "shm", "0"), filepath.Join(w.lib(), "volumes", "0"), // not a container's
	} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.agent.removeAttempts(t.Context(), w.uid, w.runs()); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{
		w.bundle("main", 2): true, w.root("main", 2): true, w.bundle("main", 1): false, w.root("main", 1): false,
		w.root("main", 0): false, w.bundle("done", 0): false,
		filepath.Join(w.dir(), "shm", "0"): true, filepath.Join(w.lib(), "volumes", "0"): true,
	} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", dir, err == nil, want)
		}
	}
}

// A container whose directory is gone has ended, however that came.
func TestAContainerWithoutADirectoryHasEnded(t *testing.T) {
	w := newTestWorker(t)
	w.seen.Containers["main"] = pod.Container{Current: &pod.Attempt{Number: 3, State: pod.Running}}
	w.observe()
	got := w.seen.Containers["main"].Current
	if got.State != pod.Exited || got.ExitCode != 137 || got.Reason != "ContainerStatusUnknown" || got.Finished.IsZero() {
		t.Errorf("got %+v", got)
	}
	w.waitForOperations()
}
