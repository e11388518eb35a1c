package agent

import (
	v1 "k8s.io/api/core/v1"
)

// Operations whose durations are told.
const (
	tookPod       = "pod_start"       // from when the agent was given a pod until it first runs
	tookSandbox   = "sandbox_start"   // volumes, namespaces, scope, addresses
	tookPull      = "image_pull"      // with what it waited for others
	tookContainer = "container_start" // root, create and start
)

// timed begins an operation; the result ends it.
func (a *Agent) timed(operation string) func() {
	began := a.cfg.Now()
	return func() { a.cfg.Took(operation, a.cfg.Now().Sub(began)) }
}

// sayRunning tells how long it took until the pod was running, once.
func (w *worker) sayRunning(before, now v1.PodPhase) {
	if before != v1.PodRunning && now == v1.PodRunning && !w.began.IsZero() {
		w.agent.cfg.Took(tookPod, w.agent.cfg.Now().Sub(w.began))
	}
}
