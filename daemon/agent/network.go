package agent

import (
	"context"

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
