package agent

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/prober"
)

// Reasons of events about hooks; the kubelet's.
const (
	reasonFailedPostStart = "FailedPostStartHook"
	reasonFailedPreStop   = "FailedPreStopHook"
	reasonHookFellBack    = "LifecycleHTTPFallback"
)

// hookKey names a hook under way.
type hookKey struct {
	container string
	verb      pod.Verb // PostStart or PreStop
}

// runHook begins a lifecycle hook of a run of a container. That it is begun is
// written down before: one that the daemon's death cut short is run again.
func (w *worker) runHook(ctx context.Context, do pod.Action) {
	spec := w.spec(do.Container)
	handler := spec.Lifecycle.PostStart
	if do.Verb == pod.PreStop {
		w.saySo(do)
		w.preStopBegins(do)
		handler = spec.Lifecycle.PreStop
	}
	w.hookUnderWay(do, true)
	number := w.seen.Containers[do.Container].Current.Number
	target := w.target(spec, number)
	key := hookKey{do.Container, do.Verb}
	ctx, cancel := context.WithCancel(ctx)
	w.hooks[key] = cancel
	go func() {
		fellBack, err := prober.Hook(ctx, target, handler)
		w.send(func() {
			defer cancel()
			delete(w.hooks, key)
			w.hookUnderWay(do, false)
			if w.agent.ctx.Err() == nil { // else the next daemon runs it again
				w.hookEnded(do, number, fellBack, err)
			}
		})
	}()
}

func (w *worker) preStopBegins(do pod.Action) {
	c := w.seen.Containers[do.Container]
	if !c.Current.Stopping.IsZero() {
		return
	}
	a := *c.Current
	a.Stopping, a.Grace, a.PreStop = w.agent.cfg.Now(), do.Grace, pod.HookPending
	c.Current = &a
	w.put(do.Container, c)
}

func (w *worker) hookUnderWay(do pod.Action, is bool) {
	c := w.seen.Containers[do.Container]
	if do.Verb == pod.PostStart {
		c.PostStarting = is
	} else {
		c.PreStopping = is
	}
	w.seen.Containers[do.Container] = c
}

// hookEnded notes how a hook ended, and says so if it failed; not why in the
// event, for a hook's output and URL may hold what not everybody may see.
func (w *worker) hookEnded(do pod.Action, number int, fellBack bool, err error) {
	c, spec := w.seen.Containers[do.Container], w.spec(do.Container)
	if c.Current == nil || spec == nil || c.Current.Number != number || c.Current.State == pod.Exited {
		return
	}
	a := *c.Current
	ref, events := reference(w.pod, do.Container), w.agent.cfg.Events
	if fellBack && err == nil {
		events.Warning(reference(w.pod, ""), reasonHookFellBack, "request to HTTPS lifecycle hook of container %s got HTTP response, retry with HTTP succeeded", do.Container)
	}
	state := pod.HookDone
	if err != nil {
		state = pod.HookFailed
		w.agent.log.Warn("a lifecycle hook failed", "pod", w.name(), "container", do.Container, "err", err)
	}
	switch do.Verb {
	case pod.PostStart:
		a.PostStart = state
		if err != nil {
			a.PostStartMessage = hookMessage(w.pod, spec, spec.Lifecycle.PostStart, err)
			events.Warning(ref, reasonFailedPostStart, "PostStartHook failed")
		}
	case pod.PreStop:
		a.PreStop = state
		if err != nil {
			events.Warning(ref, reasonFailedPreStop, "PreStopHook failed")
		}
	}
	c.Current = &a
	w.put(do.Container, c)
}

// hookMessage is why a hook failed, in the kubelet's words, for the container's status.
func hookMessage(p *v1.Pod, c *v1.Container, h *v1.LifecycleHandler, err error) string {
	what := "lifecycle hook"
	switch {
	case h.Exec != nil:
		what = fmt.Sprintf("Exec lifecycle hook (%v)", h.Exec.Command)
	case h.HTTPGet != nil:
		what = fmt.Sprintf("HTTP lifecycle hook (%s)", h.HTTPGet.Path)
	case h.Sleep != nil:
		what = fmt.Sprintf("Sleep lifecycle hook (%d)", h.Sleep.Seconds)
	}
	return fmt.Sprintf("%s for Container %q in Pod \"%s_%s(%s)\" failed - error: %v", what, c.Name, p.Name, p.Namespace, p.UID, err)
}

// callOffHooks ends the hooks under way that are of this container, or, with "",
// of all that only matter to a pod that goes on.
func (w *worker) callOffHooks(container string) {
	for key, cancel := range w.hooks {
		if key.container == container || container == "" && key.verb == pod.PostStart {
			cancel()
		}
	}
}
