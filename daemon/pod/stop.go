package pod

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// leastGrace is what a container has between its stop signal and KILL, however
// much of the grace its preStop hook, or those it waited for, took (the
// kubelet's minimumGracePeriodInSeconds).
const leastGrace = 2 * time.Second

// preStop runs a container's preStop hook before it is sent the stop signal, and
// says whether that has to wait. The grace is counted from the hook's
// beginning; when it is over the hook is not waited for any more (the kubelet's
// executePreStopHook).
func (d *decider) preStop(c *v1.Container, grace time.Duration, reason string) (wait bool) {
	if c == nil || c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
		return false
	}
	seen := d.seen.Containers[c.Name]
	a := seen.Current
	switch {
	case seen.Busy || a == nil || a.State != Running || !a.Signalled.IsZero():
		return false
	case a.Stopping.IsZero():
		if grace <= 0 || d.hurry {
			return false
		}
		d.act(Action{Verb: PreStop, Container: c.Name, Grace: grace, Reason: reason})
		d.lookAt(d.now.Add(grace))
		return true
	case a.PreStop != HookPending:
		return false
	}
	deadline := d.stopBy(a, grace)
	if d.hurry || !d.now.Before(deadline) {
		return false
	}
	if !seen.PreStopping {
		// The daemon died meanwhile. What is left of the grace is as it was.
		d.act(Action{Verb: PreStop, Container: c.Name, Grace: a.Grace, Reason: reason})
	}
	d.lookAt(deadline)
	return true
}

// stopBy is when what a container was asked to do is to be over: its hook, or,
// after the signal, itself. A deletion may shorten the grace of a stop under
// way, never lengthen it.
func (d *decider) stopBy(a *Attempt, grace time.Duration) time.Time {
	begun := a.Signalled
	if begun.IsZero() {
		begun = a.Stopping
	}
	deadline := begun.Add(a.Grace)
	if d.pod.DeletionTimestamp == nil {
		return deadline
	}
	own := d.now.Add(grace)
	if least := a.Signalled.Add(leastGrace); !a.Signalled.IsZero() && !d.forced() && own.Before(least) {
		own = least
	}
	if own.Before(deadline) {
		return own
	}
	return deadline
}

// silently says whether a container without any grace is sent no stop signal
// before KILL: nobody meant it to have any. That the grace of a deletion is over
// before its turn came is another thing.
func (d *decider) silently(a *Attempt) bool {
	return d.forced() || a.Stopping.IsZero() && d.pod.DeletionTimestamp == nil
}

// forced says whether the pod is deleted without any grace.
func (d *decider) forced() bool {
	s := d.pod.DeletionGracePeriodSeconds
	return s != nil && *s == 0
}

// spec is a container as it is wanted.
func (d *decider) spec(name string) *v1.Container {
	for _, list := range [][]v1.Container{d.pod.Spec.InitContainers, d.pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// linger is how long after its deletion a pod that a service leads to is sent its
// stop signal at the earliest: until then all hosts will have heard of it, and
// send it nothing new. The time of a deletion is a whole second, the next one, so it may be two. (With the
// kubelet, people add a preStop hook that sleeps.)
const linger = time.Second

// lingers says whether it is too early for the stop signal. That is part of the
// grace, half of it at most. A deletion by a host whose clock is ahead is not waited for.
func (d *decider) lingers() bool {
	at, grace := d.pod.DeletionTimestamp, d.pod.DeletionGracePeriodSeconds
	if !d.seen.Serves || at == nil || grace == nil || d.hurry {
		return false
	}
	all := time.Duration(*grace) * time.Second
	wait := min(linger, all/2)
	until := at.Add(wait - all)
	if !d.now.Before(until) || until.Sub(d.now) > wait+time.Second {
		return false
	}
	d.lookAt(until)
	return true
}
