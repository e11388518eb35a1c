package agent

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
)

// SetConditions replaces the conditions of a pod that others than the node set,
// and returns when the pod's status has been published with them.
func (a *Agent) SetConditions(ctx context.Context, p *v1.Pod, conditions []v1.PodCondition) error {
	a.mu.Lock()
	w := a.workers[p.UID]
	a.mu.Unlock()
	if w == nil {
		return fmt.Errorf("pod %s/%s does not run on this host yet, or not any more: try again", p.Namespace, p.Name)
	}
	done := make(chan struct{})
	w.send(func() {
		w.seen.Conditions = conditions
		w.decide()
		close(done)
	})
	select {
	case <-done:
		return nil
	case <-w.ended:
		return fmt.Errorf("pod %s/%s does not run on this host any more", p.Namespace, p.Name)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
