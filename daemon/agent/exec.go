package agent

import (
	"context"
	"fmt"
	"net"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/pod"
)

// Exec runs a command in a running container and returns its exit code.
func (a *Agent) Exec(ctx context.Context, p *v1.Pod, name string, options container.ExecOptions) (int, error) {
	dir, err := a.running(ctx, p, name)
	if err != nil {
		return 0, err
	}
	return a.cfg.Containers.Exec(ctx, dir, options)
}

// Attach copies the streams of a running container's first process, from now
// on, until that or ctx ends. Input for a container that takes none is not read.
func (a *Agent) Attach(ctx context.Context, p *v1.Pod, name string, streams container.Streams) error {
	dir, err := a.running(ctx, p, name)
	if err != nil {
		return err
	}
	if c := findContainer(p, name); c == nil || !c.Stdin {
		streams.Stdin = nil
	}
	return a.cfg.Containers.Attach(ctx, dir, streams)
}

// Dial connects to a TCP port of the pod's loopback interface.
func (a *Agent) Dial(ctx context.Context, p *v1.Pod, port uint16) (net.Conn, error) {
	netns, err := ask(ctx, a, p, func(w *worker) (string, error) {
		if !w.seen.Sandbox.Ready {
			return "", fmt.Errorf("pod %s/%s has no sandbox now", p.Namespace, p.Name)
		}
		return w.sandbox.NetNS, nil
	})
	if err != nil {
		return nil, err
	}
	return container.DialLoopback(ctx, netns, port)
}

// running is the bundle of a running container.
func (a *Agent) running(ctx context.Context, p *v1.Pod, name string) (string, error) {
	return ask(ctx, a, p, func(w *worker) (string, error) {
		if c := w.seen.Containers[name].Current; c != nil && c.State == pod.Running {
			return w.bundle(name, c.Number), nil
		}
		return "", fmt.Errorf("container %q of pod %s/%s is not running", name, p.Namespace, p.Name)
	})
}

// ask has a pod's worker answer a question about what it alone may look at.
func ask[T any](ctx context.Context, a *Agent, p *v1.Pod, question func(*worker) (T, error)) (T, error) {
	var none T
	a.mu.Lock()
	w := a.workers[p.UID]
	a.mu.Unlock()
	if w == nil {
		return none, fmt.Errorf("pod %s/%s does not run on this host", p.Namespace, p.Name)
	}
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	w.send(func() {
		v, err := question(w)
		answers <- answer{v, err}
	})
	select {
	case a := <-answers:
		return a.value, a.err
	case <-w.ended:
		return none, fmt.Errorf("pod %s/%s does not run on this host any more", p.Namespace, p.Name)
	case <-ctx.Done():
		return none, ctx.Err()
	}
}
