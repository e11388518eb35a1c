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
