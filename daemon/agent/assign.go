package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/cpuset"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/scope"
)

// Reasons of events about resources; the kubelet's.
const (
	reasonResizeStarted    = "ResizeStarted"
	reasonResizeDeferred   = "ResizeDeferred"
	reasonResizeInfeasible = "ResizeInfeasible"
)

// assign gives the pod what it asks for, as far as the node has it, before
// anything is decided: w.pod is the pod as it is wanted, with the resources that
// it was given (KEP-1287's allocated resources).
func (w *worker) assign() {
	defer func() { w.deferred.Store(w.seen.Resize != nil && w.seen.Resize.Reason == v1.PodReasonDeferred) }()
	if w.pod.DeletionTimestamp != nil || w.status.Phase == v1.PodSucceeded || w.status.Phase == v1.PodFailed {
		w.pod = w.wanted
		w.seen.Resize = nil
		if !w.seen.Sandbox.Present {
			w.agent.cores.release(string(w.uid))
		}
		return
	}
	switch {
	case w.seen.Rejected != nil:
		return
	case w.admitted:
		w.reallocate()
	default:
		w.allocate()
	}
	g := w.agent.cores.grant(string(w.uid))
	w.seen.Hold = !g.Ready
	for _, list := range [][]v1.Container{w.pod.Spec.InitContainers, w.pod.Spec.Containers} {
		for i := range list {
			c := w.seen.Containers[list[i].Name]
			if want := cpus(g, list[i].Name); c.CPUs != want {
				c.CPUs = want
				w.seen.Containers[list[i].Name] = c
			}
		}
	}
}

// allocate asks for what the pod needs to begin.
func (w *worker) allocate() {
	w.pod, w.seen.Resize = w.wanted, nil
	err := w.agent.cores.admit(w.pod, needs(w.pod, false))
	if refusal := new(cpuset.Refusal); errors.As(err, &refusal) {
		w.agent.cfg.Events.Warning(reference(w.pod, ""), refusal.Reason, "%s", refusal.Message)
		w.seen.Rejected = &pod.Rejection{Reason: refusal.Reason, Message: refusal.Message}
		return
	}
	w.admitted = true
	w.state.Held = formatHolding(w.agent.cores.holds(string(w.uid)))
}

// reallocate asks for what an edit has changed, and gives back what is not
// needed any more. What can't be had now is asked for again whenever another
// pod leaves something; until then the pod has what it had.
func (w *worker) reallocate() {
	started := w.mainStarted()
	if w.pod == w.wanted || sameResources(w.pod, w.wanted) {
		w.pod, w.seen.Resize = w.wanted, nil
		if w.agent.cores.pinning() && w.hasCpuset() {
			// What can't be had any more (the policy has changed) is done without.
			_ = w.agent.cores.admit(w.pod, needs(w.pod, started))
		}
		w.keepHeld()
		return
	}
	if reason, message := w.unavailable(started); reason != "" {
		w.pending(reason, message)
		w.keepHeld()
		return
	}
	w.pod, w.seen.Resize = w.wanted, nil
	w.agent.cfg.Events.Normal(reference(w.pod, ""), reasonResizeStarted, "Pod resize started: generation %d", w.pod.Generation)
	w.state.Held = formatHolding(w.agent.cores.holds(string(w.uid)))
	w.save()
}

// unavailable takes what the edited pod needs, or says why it can't.
func (w *worker) unavailable(started bool) (reason, message string) {
	allocatable := w.agent.cfg.Node().Allocatable
	requests := resourcehelper.PodRequests(w.wanted, resourcehelper.PodResourcesOptions{})
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
		asked, has := requests[name], allocatable[name]
		if !has.IsZero() && asked.Cmp(has) > 0 {
			return v1.PodReasonInfeasible, fmt.Sprintf("Node didn't have enough capacity: %s, requested: %s, capacity: %s", name, asked.String(), has.String())
		}
	}
	err := w.agent.cores.admit(w.wanted, needs(w.wanted, started))
	refusal := new(cpuset.Refusal)
	switch {
	case !errors.As(err, &refusal):
		if !asksMore(w.wanted, w.pod) {
			w.agent.cfg.Given(w.wanted)
			return "", ""
		}
		if why := w.agent.cfg.Room(w.wanted); why != "" {
			_ = w.agent.cores.admit(w.pod, needs(w.pod, started)) // what it had
			return v1.PodReasonDeferred, why
		}
		return "", ""
	case refusal.Never:
		return v1.PodReasonInfeasible, refusal.Message
	}
	return v1.PodReasonDeferred, refusal.Message
}

// asksMore says whether an edit raises any of the pod's requests. One that does
// not is always granted (the kubelet's isResizeIncreasingRequests).
func asksMore(now, before *v1.Pod) bool {
	a, b := resourcehelper.PodRequests(now, resourcehelper.PodResourcesOptions{}), resourcehelper.PodRequests(before, resourcehelper.PodResourcesOptions{})
	return a.Cpu().Cmp(*b.Cpu()) > 0 || a.Memory().Cmp(*b.Memory()) > 0
}

// RetryResizes has the pods look again whose edited resources wait for room.
func (a *Agent) RetryResizes() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		if w.deferred.Load() {
			w.poke()
		}
	}
}

// pending notes why an edit waits, and says so once.
func (w *worker) pending(reason, message string) {
	before := w.seen.Resize
	w.seen.Resize = &pod.Failure{Reason: reason, Message: message, At: w.agent.cfg.Now(), Generation: w.wanted.Generation}
	if before != nil && before.Reason == reason && before.Generation == w.wanted.Generation {
		return
	}
	event := reasonResizeDeferred
	if reason == v1.PodReasonInfeasible {
		event = reasonResizeInfeasible
	}
	w.agent.cfg.Events.Warning(reference(w.wanted, ""), event, "Pod resize %s: %s", reason, message)
}

// keepHeld writes down what the pod holds, if that has changed.
func (w *worker) keepHeld() {
	if held := formatHolding(w.agent.cores.holds(string(w.uid))); !maps.Equal(held, w.state.Held) {
		w.state.Held = held
		w.save()
	}
}

func (w *worker) mainStarted() bool {
	for _, c := range w.pod.Spec.Containers {
		if a := w.seen.Containers[c.Name].Current; a != nil && !a.OldSandbox {
			return true
		}
	}
	return false
}

// withResources is the wanted pod with the resources of given.
func withResources(wanted, given *v1.Pod) *v1.Pod {
	p := wanted.DeepCopy()
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if c := findContainer(given, list[i].Name); c != nil {
				list[i].Resources = *c.Resources.DeepCopy()
			}
		}
	}
	return p
}

func sameResources(a, b *v1.Pod) bool {
	same := func(a, b []v1.Container) bool {
		for i := range a {
			if !equality.Semantic.DeepEqual(a[i].Resources, b[i].Resources) {
				return false
			}
		}
		return true
	}
	return same(a.Spec.InitContainers, b.Spec.InitContainers) && same(a.Spec.Containers, b.Spec.Containers)
}

// hasCpuset says whether the pod's scope has a cpuset of its own. The others'
// is that of their QoS class.
func (w *worker) hasCpuset() bool { return scope.QOS(w.pod) == v1.PodQOSGuaranteed }

// podResources is what the pod's scope may use.
func (a *Agent) podResources(p *v1.Pod, g cpuset.Grant) scope.Resources {
	r := scope.PodResources(p, a.cfg.Limits)
	if scope.QOS(p) != v1.PodQOSGuaranteed {
		return r
	}
	r.AllowedCPUs = g.Scope()
	if len(g.Own) > 0 {
		r = scope.Unthrottled(r)
	}
	return r
}

// containerResources is what one of the pod's containers may use.
func (a *Agent) containerResources(p *v1.Pod, c *v1.Container, at pod.CPUs) *specs.LinuxResources {
	r := scope.ContainerResources(p, c, a.cfg.Limits)
	if at.Set != "" {
		scope.Pin(r, at.Set, at.Own, a.cfg.Limits)
	}
	return r
}

// moveHelpers keeps the pause process and conmon off what the containers hold.
func (a *Agent) moveHelpers(cgroup string, g cpuset.Grant) error {
	set := cpuset.Set{}
	if len(g.Own) > 0 {
		set = g.Shared
	}
	return a.moveLeaf(filepath.Join(cgroup, "init"), set.String())
}

// moveLeaf has the processes of a cgroup below a pod's run on set; "" is
// wherever the pod does.
func (a *Agent) moveLeaf(dir, set string) error {
	if a.cfg.Limits.CgroupV1 || !a.cfg.Limits.Has("cpuset") {
		return nil
	}
	return scope.SetCPUs(dir, set)
}

// moveContainer has a running container run where it is to. Only one that comes
// to have processors to itself, or has them no more, needs other limits too.
func (w *worker) moveContainer(ctx context.Context, name string, number int, from, to pod.CPUs) error {
	if from.Own != to.Own || from.Unsure {
		r := w.agent.containerResources(w.pod, w.spec(name), to)
		if err := w.agent.cfg.Containers.Update(ctx, w.bundle(name, number), r); err != nil {
			return err
		}
	}
	return w.agent.moveLeaf(filepath.Join(w.state.Cgroup, container.Leaf(name)), to.Set)
}

// recoverResources takes up the resources that the pod was given when an earlier
// daemon ended; an edit may have come since. Where its processes run is known
// only after it was said again.
func (w *worker) recoverResources(last *v1.Pod) {
	w.admitted = true
	w.pod = withResources(w.wanted, last)
	w.agent.cfg.Given(w.pod)
	if !w.hasCpuset() || !w.agent.cores.pinning() {
		return
	}
	w.state.Limits = ""
	for _, cs := range w.state.Containers {
		if cs.Current != nil {
			cs.Current.CPUs.Unsure = true
		}
	}
}
