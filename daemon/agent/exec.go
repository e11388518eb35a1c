package agent

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/pod"
)

// Exec runs a command in a running container and returns its exit code.
func (a *Agent) Exec(ctx context.Context, p *v1.Pod, name string, options container.ExecOptions) (int, error) {
	a.mu.Lock()
	w := a.workers[p.UID]
	a.mu.Unlock()
	if w == nil {
		return 0, fmt.Errorf("pod %s/%s does not run on this host", p.Namespace, p.Name)
	}
	dir := make(chan string, 1)
	w.send(func() {
		if c := w.seen.Containers[name].Current; c != nil && c.State == pod.Running {
			dir <- w.bundle(name, c.Number)
			return
		}
		dir <- ""
	})
	select {
	case d := <-dir:
		if d == "" {
			return 0, fmt.Errorf("container %q of pod %s/%s is not running", name, p.Namespace, p.Name)
		}
		return a.cfg.Containers.Exec(ctx, d, options)
	case <-w.ended:
		return 0, fmt.Errorf("pod %s/%s does not run on this host any more", p.Namespace, p.Name)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
