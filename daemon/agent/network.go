package agent

import (
	"context"

	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/proxy/podnet"
)

// network is the pod network, nil while there is none.
func (a *Agent) network() *podnet.Network { return a.net.Load() }

// UseNetwork gives pods a network that was not there when the agent was made.
// What it has of pods that are gone is removed first; pods that wait for it try
// again at once. The error is about the former.
func (a *Agent) UseNetwork(ctx context.Context, n *podnet.Network) error {
	a.mu.Lock()
	known := make(map[string]bool, len(a.workers))
	for uid := range a.workers {
		known[string(uid)] = true
	}
	a.mu.Unlock()
	_, err := n.Sweep(ctx, known) // nothing can be attached to it yet
	a.net.Store(n)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		w.send(func() {
			w.reattach(a.ctx)
			if !w.pod.Spec.HostNetwork && !w.seen.Sandbox.Ready {
				w.seen.Sandbox.Failure = nil
			}
		})
	}
	return err
}

// ReplaceSandbox gives a pod another sandbox, and with it another address: its
// containers end with their grace, and start again there. A pod whose sandbox is
// being made or taken down anyway is left alone.
func (a *Agent) ReplaceSandbox(uid types.UID, reason, message string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.workers[uid]; w != nil {
		w.send(func() { w.replaceSandbox(reason, message) })
	}
}

func (w *worker) replaceSandbox(reason, message string) {
	if s := w.seen.Sandbox; !s.Ready || s.Busy || w.pod.Spec.HostNetwork {
		return
	}
	w.agent.cfg.Events.Warning(reference(w.pod, ""), reason, "%s", message)
	w.seen.Sandbox.Ready, w.state.Ready = false, false
	w.save()
}
