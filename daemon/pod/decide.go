package pod

import (
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// Verb is what is to be done.
type Verb string

// The verbs. Each is safe to repeat.
const (
	StartSandbox  Verb = "start sandbox"  // scope, namespaces, addresses, volumes
	ResizeSandbox Verb = "resize sandbox" // give the scope the limits that the pod asks for
	StopSandbox   Verb = "stop sandbox"   // everything that was made for the pod's processes goes
	Refresh       Verb = "refresh"        // bring the volumes up to date
	Start         Verb = "start"          // pull, create and start attempt Number
	Terminate     Verb = "terminate"      // send the stop signal; Grace until KILL
	Kill          Verb = "kill"           // send KILL
	Resize        Verb = "resize"         // put new resources in force
	PostStart     Verb = "post start"     // run the hook
	PreStop       Verb = "pre stop"       // run the hook; Grace until KILL, from now on
	Reset         Verb = "reset"          // what the containers did does not count: all start from the beginning
)

// Action is one thing to do.
type Action struct {
	Verb      Verb
	Container string        // "" for the sandbox and the volumes
	Number    int           // for Start: the attempt
	Grace     time.Duration // for Terminate and PreStop
	Reason    string        // why, for the event
}

func (a Action) String() string {
	s := string(a.Verb)
	if a.Container != "" {
		s += " " + a.Container
	}
	switch a.Verb {
	case Start:
		s += fmt.Sprintf(" #%d", a.Number)
	case Terminate, PreStop:
		s += fmt.Sprintf(" grace=%s", a.Grace)
	}
	if a.Reason != "" {
		s += " (" + a.Reason + ")"
	}
	return s
}

// Decision is what to do for a pod now, and what to say of it.
type Decision struct {
	Do     []Action
	Probe  []Probed // repeat these
	Status v1.PodStatus
	Wake   time.Time // look again then, if nothing happens before; zero: no need
	Ends   bool      // nothing of the pod is to run: what is being made for it is to be called off
	Gone   bool      // the pod is being deleted and nothing of it is left
}

// Decide is the kubelet's syncPod as a function. The pod's status is the one
// published last: conditions keep their transition times from it.
func Decide(pod *v1.Pod, seen Observed, now time.Time) Decision {
	d := decider{pod: pod, seen: seen, now: now}
	d.decide()
	return Decision{Do: d.do, Probe: d.probes(), Status: d.status(), Wake: d.wake, Ends: d.ends, Gone: d.gone}
}

// decider gathers one decision.
type decider struct {
	pod  *v1.Pod
	seen Observed
	now  time.Time

	do     []Action
	wake   time.Time
	ends   bool
	gone   bool
	hold   bool     // no container is to be started now
	hurry  bool     // no preStop hook is to be run
	failed *Failure // the pod as a whole failed (deadline)
}

func (d *decider) decide() {
	switch {
	case d.pod.DeletionTimestamp != nil:
		d.ends = true
		d.stopAll(d.pod.DeletionTimestamp.Sub(d.now), "")
		if !d.anyAlive() {
			d.stopSandbox()
			d.gone = !d.seen.Sandbox.Present && !d.seen.Sandbox.Busy && !d.anyBusy()
		}
	case d.rejected():
		d.ends = true
	case d.endedByNode(), d.deadlineExceeded(), d.finished():
		d.ends = true
		d.stopAll(d.grace(), "")
		if !d.anyAlive() {
			d.stopSandbox()
		}
	case d.lost():
		d.clear()
	case !d.seen.Sandbox.Ready:
		d.replaceSandbox()
	case d.restartingAll():
		d.restartAll()
	default:
		d.refreshVolumes()
		d.resizeSandbox()
		d.runEphemeral()
		d.runContainers()
	}
}

// act adds an action.
func (d *decider) act(a Action) { d.do = append(d.do, a) }

// lookAt makes sure that the pod is looked at again at t.
func (d *decider) lookAt(t time.Time) {
	if d.wake.IsZero() || t.Before(d.wake) {
		d.wake = t
	}
}

// stopAll ends every running container: the main ones first, then sidecars in
// the reverse of their order (KEP-753). Whoever is left when the grace is over
// gets KILL.
func (d *decider) stopAll(grace time.Duration, reason string) {
	mainAlive := false
	for _, c := range d.pod.Spec.Containers {
		mainAlive = d.stop(c.Name, grace, reason) || mainAlive
	}
	for _, c := range d.pod.Spec.EphemeralContainers {
		d.stop(c.Name, grace, reason) // nobody waits for them
	}
	waiting := mainAlive
	for _, c := range slices.Backward(d.pod.Spec.InitContainers) {
		if waiting && grace > 0 && isSidecar(&c) {
			d.preStop(&c, grace, reason) // hooks do not wait for their turn, the signal does
			continue
		}
		waiting = d.stop(c.Name, grace, reason) || waiting
	}
	if d.pod.DeletionTimestamp != nil && d.now.Before(d.pod.DeletionTimestamp.Time) && d.anyAlive() {
		d.lookAt(d.pod.DeletionTimestamp.Time)
	}
}

// stop ends one container and says whether it is still alive.
func (d *decider) stop(name string, grace time.Duration, reason string) bool {
	c := d.seen.Containers[name]
	if c.Busy {
		return true // the agent cancels it; look again then
	}
	a := c.Current
	if a == nil || a.State == Exited {
		return false
	}
	if f := c.StopFailure; f != nil && d.now.Before(f.again()) {
		d.lookAt(f.again())
		return true
	}
	grace = max(grace, 0)
	switch {
	case a.Killed:
	case c.Unsupervised:
		d.act(Action{Verb: Kill, Container: name, Reason: "Container " + name + " lost its supervisor conmon"})
	case a.State == Created:
		d.act(Action{Verb: Kill, Container: name, Reason: reason})
	case a.Signalled.IsZero():
		if grace == 0 && (d.silently(a) || c.StopFailure != nil) {
			d.act(Action{Verb: Kill, Container: name, Reason: reason})
			break
		}
		if d.preStop(d.spec(name), grace, reason) {
			break
		}
		if d.lingers() {
			break
		}
		if !a.Stopping.IsZero() {
			grace = d.stopBy(a, grace).Sub(d.now)
		}
		if !a.Stopping.IsZero() || grace == 0 {
			grace = max(grace, leastGrace)
		}
		d.act(Action{Verb: Terminate, Container: name, Grace: grace, Reason: reason})
		d.lookAt(d.now.Add(grace))
	default:
		deadline := d.stopBy(a, grace)
		if d.now.Before(deadline) {
			d.lookAt(deadline)
			break
		}
		d.act(Action{Verb: Kill, Container: name, Reason: reason})
	}
	return true
}

func (d *decider) stopSandbox() {
	if !d.seen.Sandbox.Present || d.seen.Sandbox.Busy || d.anyBusy() {
		return
	}
	if f := d.seen.Sandbox.StopFailure; f != nil && d.now.Before(f.retry()) {
		d.lookAt(f.retry())
		return
	}
	d.act(Action{Verb: StopSandbox})
}

// replaceSandbox makes the sandbox, after the remains of an older one are gone.
func (d *decider) replaceSandbox() {
	switch s := d.seen.Sandbox; {
	case s.Busy:
	case d.anyAlive():
		d.stopAll(GracePeriod(d.pod), "")
	case d.tooSoon(s.Failure):
	case s.Present:
		d.stopSandbox()
	case !d.mayStart():
	default:
		d.act(Action{Verb: StartSandbox})
	}
}

// refreshVolumes has the volumes follow the objects that they are made from.
// No container starts with what is about to be replaced, or without a volume.
func (d *decider) refreshVolumes() {
	v := d.seen.Volumes
	d.hold = v.Busy || v.Missing
	if !v.Stale || v.Busy || d.tooSoon(v.Failure) {
		return
	}
	d.act(Action{Verb: Refresh})
	d.hold = true
}

// resizeSandbox has the scope follow the pod's resources, whether or not a
// container runs; a container that is to be replaced for them ends before, or
// less memory might be the end of it.
func (d *decider) resizeSandbox() {
	if !d.seen.Sandbox.Outgrown || d.tooSoon(d.seen.Sandbox.ResizeFailure) {
		return
	}
	for _, list := range [][]v1.Container{d.pod.Spec.InitContainers, d.pod.Spec.Containers} {
		for i := range list {
			a := d.seen.Containers[list[i].Name].Current
			if a != nil && a.State != Exited && resizeRestarts(&list[i], a.Resources) {
				return
			}
		}
	}
	d.act(Action{Verb: ResizeSandbox})
}

// tooSoon says whether what failed must wait before the next try. What failed
// for an older version of the pod need not.
func (d *decider) tooSoon(f *Failure) bool {
	if f == nil || f.Generation != d.pod.Generation || !d.now.Before(f.retry()) {
		return false
	}
	d.lookAt(f.retry())
	return true
}

// runContainers starts what should run: init containers one by one, then the
// main containers side by side.
func (d *decider) runContainers() {
	initialized := true
	for i := range d.pod.Spec.InitContainers {
		c := &d.pod.Spec.InitContainers[i]
		if !initialized && !isSidecar(c) {
			break
		}
		if a := d.seen.Containers[c.Name].Current; !initialized && (a == nil || a.OldSandbox || a.Reset) {
			break // its turn has not come, in this sandbox
		}
		if isSidecar(c) {
			d.run(c, reset(d.seen.Containers[c.Name].Current))
			initialized = initialized && started(c, d.seen.Containers[c.Name].Current)
			continue
		}
		if d.mainStarted() || d.succeeded(c.Name) {
			continue
		}
		initialized = false
		a := d.seen.Containers[c.Name].Current
		d.run(c, a != nil && (a.OldSandbox || a.Reset))
	}
	if !initialized && !d.mainStarted() {
		return
	}
	for i := range d.pod.Spec.Containers {
		c := &d.pod.Spec.Containers[i]
		d.run(c, reset(d.seen.Containers[c.Name].Current))
	}
}

// run starts a container that should run and does not, and replaces one whose
// image or resources no longer fit, or that is not well. With again, what its
// last run came to does not count.
func (d *decider) run(c *v1.Container, again bool) {
	seen := d.seen.Containers[c.Name]
	if seen.Busy {
		return
	}
	a := seen.Current
	switch {
	case a == nil:
		d.start(c.Name, 0)
	case a.State == Exited:
		if !again && !d.restarts(c, a.ExitCode) && !replaced(c, a) {
			return
		}
		if a.Reset && stopping(a) {
			d.start(c.Name, a.Number+1) // it ended for another's exit
			return
		}
		if until := seen.Backoff.Until(a.Finished); a.Image == c.Image && d.now.Before(until) {
			d.lookAt(until)
			return
		}
		d.start(c.Name, a.Number+1)
	case seen.Unsupervised:
		d.stop(c.Name, 0, "")
	case a.PostStart == HookPending && !stopping(a):
		// Nothing else is done to a container before (the kubelet's startContainer).
		if !seen.PostStarting {
			d.act(Action{Verb: PostStart, Container: c.Name})
		}
	case a.Image != c.Image:
		d.stop(c.Name, GracePeriod(d.pod), "Container "+c.Name+" definition changed, will be restarted")
	case d.stopUnwell(c, a):
	case !equality.Semantic.DeepEqual(a.Resources, c.Resources):
		if resizeRestarts(c, a.Resources) {
			d.stop(c.Name, GracePeriod(d.pod), "Container "+c.Name+" resources changed, will be restarted")
			return
		}
		d.resize(c, seen)
	case a.CPUs != seen.CPUs && a.State == Running:
		d.resize(c, seen)
	case stopping(a):
		// It was asked to stop for a reason that no longer holds: let it end.
		d.stop(c.Name, a.Grace, "")
	}
}

// stopUnwell stops a container that a probe or its postStart hook has failed.
func (d *decider) stopUnwell(c *v1.Container, a *Attempt) bool {
	reason, grace := d.unwell(c, a)
	if reason != "" {
		d.stop(c.Name, grace, reason)
	}
	return reason != ""
}

// reset says whether a run ended for all to start from the beginning.
func reset(a *Attempt) bool { return a != nil && a.Reset }

// resize puts a running container's resources and processors in force.
func (d *decider) resize(c *v1.Container, seen Container) {
	if !d.tooSoon(seen.ResizeFailure) {
		d.act(Action{Verb: Resize, Container: c.Name})
	}
}

// start makes a container's next attempt, unless it must wait.
func (d *decider) start(name string, number int) {
	if d.hold || d.seen.Hold || !d.mayStart() || d.tooSoon(d.seen.Containers[name].Failure) {
		return
	}
	d.act(Action{Verb: Start, Container: name, Number: number})
}

// resizeRestarts says whether a changed resource wants a restart (resizePolicy).
func resizeRestarts(c *v1.Container, old v1.ResourceRequirements) bool {
	for _, p := range c.ResizePolicy {
		if p.RestartPolicy != v1.RestartContainer {
			continue
		}
		if !old.Limits[p.ResourceName].Equal(c.Resources.Limits[p.ResourceName]) ||
			!old.Requests[p.ResourceName].Equal(c.Resources.Requests[p.ResourceName]) {
			return true
		}
	}
	return false
}

// finished says whether nothing of the pod will run again by itself.
func (d *decider) finished() bool {
	if phase := d.pod.Status.Phase; phase == v1.PodSucceeded || phase == v1.PodFailed {
		return true
	}
	for i := range d.pod.Spec.InitContainers {
		c := &d.pod.Spec.InitContainers[i]
		a := d.seen.Containers[c.Name].Current
		if !isSidecar(c) && !d.mainStarted() && a != nil && !a.Reset && a.State == Exited && a.ExitCode != 0 && !d.restarts(c, a.ExitCode) {
			return true
		}
	}
	for _, c := range d.pod.Spec.Containers {
		seen := d.seen.Containers[c.Name]
		if seen.Busy || seen.Current == nil || seen.Current.State != Exited ||
			seen.Current.Reset || d.restarts(&c, seen.Current.ExitCode) || replaced(&c, seen.Current) {
			return false
		}
	}
	return true
}

// deadlineExceeded applies activeDeadlineSeconds to a pod that did not end
// before.
func (d *decider) deadlineExceeded() bool {
	limit, start := d.pod.Spec.ActiveDeadlineSeconds, d.pod.Status.StartTime
	if limit == nil || start == nil || over(d.pod.Status.Phase) {
		return false
	}
	deadline := start.Add(time.Duration(*limit) * time.Second)
	if d.finished() && d.endedBefore(deadline) {
		return false
	}
	if d.now.Before(deadline) {
		d.lookAt(deadline)
		return false
	}
	d.failed = &Failure{Reason: "DeadlineExceeded", Message: "Pod was active on the node longer than the specified deadline"}
	return true
}

// endedBefore says whether all that ran ended before t, and by itself.
func (d *decider) endedBefore(t time.Time) bool {
	for _, c := range d.seen.Containers {
		if a := c.Current; a != nil && (a.State != Exited || stopping(a) || !a.Finished.Before(t)) {
			return false
		}
	}
	return true
}

func (d *decider) anyAlive() bool {
	for _, c := range d.seen.Containers {
		if c.Busy || c.Current != nil && c.Current.State != Exited {
			return true
		}
	}
	return false
}

func (d *decider) anyBusy() bool {
	if d.seen.Volumes.Busy {
		return true
	}
	for _, c := range d.seen.Containers {
		if c.Busy {
			return true
		}
	}
	return false
}

// mainStarted says whether a main container was started in this sandbox: then
// init containers are done for good.
func (d *decider) mainStarted() bool {
	for _, c := range d.pod.Spec.Containers {
		if a := d.seen.Containers[c.Name].Current; a != nil && !a.OldSandbox && !a.Reset {
			return true
		}
	}
	return false
}

func (d *decider) succeeded(name string) bool {
	a := d.seen.Containers[name].Current
	return a != nil && a.State == Exited && a.ExitCode == 0 && !a.OldSandbox && !a.Reset
}

// replaced says whether a container ended because it was stopped for an edit:
// then its successor starts, whatever the policy.
func replaced(c *v1.Container, a *Attempt) bool {
	return stopping(a) && (a.Image != c.Image || !equality.Semantic.DeepEqual(a.Resources, c.Resources))
}

func isSidecar(c *v1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways
}

// GracePeriod is how long a pod's containers may take to end after they were
// asked to (spec.terminationGracePeriodSeconds).
func GracePeriod(pod *v1.Pod) time.Duration {
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return v1.DefaultTerminationGracePeriodSeconds * time.Second
}

// String lists the decision one thing a line; golden files and the log hold it.
func (d Decision) String() string {
	var b strings.Builder
	for _, a := range d.Do {
		fmt.Fprintln(&b, a)
	}
	if d.Gone {
		fmt.Fprintln(&b, "gone")
	}
	return b.String()
}
