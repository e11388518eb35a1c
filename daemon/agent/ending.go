package agent

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/pod"
)

// End ends a pod that could run on. It is written down before it begins, so
// that a daemon that is restarted goes on with it. A pod that is ending, or
// over, is left to that. Measured lists it until nothing of it runs any more.
func (a *Agent) End(uid types.UID, why pod.Ending) {
	a.mu.Lock()
	w := a.workers[uid]
	a.mu.Unlock()
	if w == nil {
		return
	}
	w.send(func() {
		if w.seen.Ending != nil || w.pod.DeletionTimestamp != nil || w.status.Phase == v1.PodSucceeded || w.status.Phase == v1.PodFailed {
			return
		}
		why.Since = a.cfg.Now()
		w.state.Ending, w.seen.Ending = &why, &why
		w.save()
	})
}
