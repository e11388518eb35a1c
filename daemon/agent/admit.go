package agent

import (
	"github.com/shoal-project/shoal/daemon/cure"
	"github.com/shoal-project/shoal/daemon/pod"
)

// admit finds out whether the host takes a pod in. One that it once took in may
// stay, whatever the rules have become.
func (w *worker) admit() {
	if w.status.StartTime != nil || w.seen.Sandbox.Present || w.pod.DeletionTimestamp != nil {
		return
	}
	before := w.seen.Unplaced
	w.seen.Unplaced = w.agent.cfg.Place(w.pod)
	if now := w.seen.Unplaced; now != "" {
		if now != before {
			w.agent.cfg.Events.Warning(reference(w.pod, ""), "FailedScheduling", "%s", now)
		}
		return
	}
	r := pod.Admit(w.pod, w.agent.cfg.Rules)
	if r == nil {
		r = w.agent.cfg.Refuse(w.pod)
	}
	if r != nil {
		r = &pod.Rejection{Reason: r.Reason, Message: cure.Add(w.pod, "", r.Message)}
		w.seen.Rejected = r
		w.agent.cfg.Events.Warning(reference(w.pod, ""), r.Reason, "%s", r.Message)
	}
}

// PlaceAgain has the pods that wait for room ask again.
func (a *Agent) PlaceAgain() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		w.send(func() {
			if w.seen.Unplaced != "" {
				w.admit()
			}
		})
	}
}
