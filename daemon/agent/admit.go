package agent

import "github.com/shoal-project/shoal/daemon/pod"

// admit finds out whether the host refuses a pod. One that it once took in may
// stay, whatever the rules have become.
func (w *worker) admit() {
	if w.status.StartTime != nil || w.seen.Sandbox.Present || w.pod.DeletionTimestamp != nil {
		return
	}
	if r := pod.Admit(w.pod, w.agent.cfg.Rules); r != nil {
		w.seen.Rejected = r
		w.agent.cfg.Events.Warning(reference(w.pod, ""), r.Reason, "%s", r.Message)
	}
}
