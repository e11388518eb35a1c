package agent

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/pod"
)

// End ends a pod that could run on. It is written down before it begins, so
// that a daemon that is restarted goes on with it. A pod that is ending, or
// over, is left to that. Measured lists it until nothing of it runs any more; then what is returned is closed.
func (a *Agent) End(uid types.UID, why pod.Ending) (over <-chan struct{}) {
	done := make(chan struct{})
	a.mu.Lock()
	w := a.workers[uid]
	a.mu.Unlock()
	if w == nil {
		close(done)
		return done
	}
	w.send(func() {
		w.over = append(w.over, done)
		if w.seen.Ending != nil || w.pod.DeletionTimestamp != nil || w.status.Phase == v1.PodSucceeded || w.status.Phase == v1.PodFailed {
			return
		}
		why.Since = a.cfg.Now()
		w.state.Ending, w.seen.Ending = &why, &why
		w.save()
	})
	return done
}

// sayOver tells those who wait for it that nothing of the pod runs.
func (w *worker) sayOver() {
	for _, done := range w.over {
		close(done)
	}
	w.over = nil
}

// runsStill says whether something of the pod runs, or is being made or taken down.
func (w *worker) runsStill() bool {
	if w.seen.Sandbox.Present || w.seen.Sandbox.Busy {
		return true
	}
	for _, c := range w.seen.Containers {
		if c.Busy || c.Current != nil && c.Current.State != pod.Exited {
			return true
		}
	}
	return false
}
