package agent

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/pod"
)

// prepareFor is a worker for which the first run of its container is prepared.
func prepareFor(t *testing.T) (*worker, *run) {
	w := newTestWorker(t)
	r := &run{container: &w.pod.Spec.Containers[0], attempt: &pod.Attempt{Number: 0}}
	for _, dir := range []string{w.bundle("main", 0), w.root("main", 0)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.ahead, w.aheadOf = map[string]*run{"main": r}, w.pod
	w.containerState("main").Starting = r.attempt
	return w, r
}

func TestWhatWasPreparedIsTakenOnce(t *testing.T) {
	w, r := prepareFor(t)
	if got := w.takeAhead("main", 1); got != nil {
		t.Error("another run got it")
	}
	if got := w.takeAhead("main", 0); got != r {
		t.Error("it is not there")
	}
	if got := w.takeAhead("main", 0); got != nil {
		t.Error("it is still there")
	}
	w.dropAhead()
	if _, err := os.Stat(w.bundle("main", 0)); err != nil {
		t.Errorf("taken, and dropped all the same: %v", err)
	}
}

func TestWhatWasPreparedForAnOlderPodIsNotTaken(t *testing.T) {
	w, _ := prepareFor(t)
	w.pod = &v1.Pod{ObjectMeta: w.pod.ObjectMeta, Spec: w.pod.Spec}
	if got := w.takeAhead("main", 0); got != nil {
		t.Error("it was taken")
	}
}

// Whatever else is decided, nothing prepared is left waiting.
func TestWhatWasPreparedAndIsNotStartedGoes(t *testing.T) {
	w, _ := prepareFor(t)
	w.act(t.Context(), pod.Decision{})
	for _, dir := range []string{w.bundle("main", 0), w.root("main", 0)} {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
	if len(w.ahead) > 0 || w.state.Containers["main"].Starting != nil {
		t.Errorf("still known: %v, %v", w.ahead, w.state.Containers["main"].Starting)
	}
}
