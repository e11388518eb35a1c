package pod

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of waiting containers and of conditions; the kubelet's.
const (
	reasonCreating     = "ContainerCreating"
	reasonInitializing = "PodInitializing"
	reasonCrashLoop    = "CrashLoopBackOff"
	reasonImageBackoff = "ImagePullBackOff"
	reasonCompleted    = "PodCompleted"
	reasonRunContainer = "RunContainerError"
	reasonPostStart    = "PostStartHookError"
	reasonTerminating  = "PodTerminating" // ours: the kubelet leaves it to the endpoints' controllers
)

// status is the pod's status as the kubelet computes it (pkg/kubelet/
// kubelet_pods.go: generateAPIPodStatus, getPhase; status/generate.go).
func (d *decider) status() v1.PodStatus {
	if d.rejected() {
		return d.rejectedStatus()
	}
	old := d.pod.Status
	s := v1.PodStatus{
		StartTime:          old.StartTime,
		QOSClass:           old.QOSClass,
		ObservedGeneration: d.pod.Generation,
		Reason:             old.Reason,
		Message:            old.Message,
	}
	if s.StartTime == nil {
		t := metav1.NewTime(d.now)
		s.StartTime = &t
	}
	for _, ip := range d.seen.HostIPs {
		s.HostIPs = append(s.HostIPs, v1.HostIP{IP: ip})
		s.HostIP = d.seen.HostIPs[0]
	}
	for _, ip := range d.seen.Sandbox.IPs {
		s.PodIPs = append(s.PodIPs, v1.PodIP{IP: ip})
		s.PodIP = d.seen.Sandbox.IPs[0]
	}
	for i := range d.pod.Spec.InitContainers {
		c := &d.pod.Spec.InitContainers[i]
		s.InitContainerStatuses = append(s.InitContainerStatuses, d.containerStatus(c, reasonInitializing))
	}
	waiting := reasonCreating
	if len(d.pod.Spec.InitContainers) > 0 {
		waiting = reasonInitializing
	}
	for i := range d.pod.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, d.containerStatus(&d.pod.Spec.Containers[i], waiting))
	}
	s.EphemeralContainerStatuses = d.ephemeralStatuses()
	if s.Phase = d.phase(s); over(s.Phase) && !d.anyRuns() {
		d.end(&s)
	}
	if len(s.PodIPs) == 0 && over(s.Phase) {
		s.PodIP, s.PodIPs = old.PodIP, old.PodIPs // of a pod that is over people still ask what it was
	}
	if d.failed != nil && over(s.Phase) {
		s.Reason, s.Message = d.failed.Reason, d.failed.Message
	}
	if f := d.seen.Sandbox.Failure; f != nil && !d.seen.Sandbox.Ready && s.Phase == v1.PodPending {
		s.Message = f.Message
	} else if d.failed == nil && s.Phase != v1.PodFailed {
		s.Reason, s.Message = "", ""
	}
	s.Conditions = d.conditions(s)
	return s
}

// containerStatus is one container's status. Waiting is the reason of one that
// was never made.
func (d *decider) containerStatus(c *v1.Container, waiting string) v1.ContainerStatus {
	seen := d.seen.Containers[c.Name]
	s := v1.ContainerStatus{Name: c.Name, Image: c.Image, ImageID: seen.Image}
	if seen.Last != nil {
		s.LastTerminationState.Terminated = seen.Last.DeepCopy()
	}
	a := seen.Current
	if a != nil {
		s.RestartCount = int32(a.Number)
		s.ContainerID = containerID(a.ID)
		s.ImageID = a.ImageID
		s.User = a.User
	}
	started := started(c, a)
	switch {
	case a != nil && a.State == Running && a.PostStart != HookPending:
		s.State.Running = &v1.ContainerStateRunning{StartedAt: metav1.NewTime(a.Started)}
		s.Ready = ready(c, a) && (a.Signalled.IsZero() || d.pod.DeletionTimestamp == nil)
		s.AllocatedResources = c.Resources.Requests
		resources := a.Resources
		s.Resources = &resources
	case a != nil && a.State == Exited && !d.willStart(c, seen):
		s.State.Terminated = Terminated(a)
		s.Ready = a.ExitCode == 0 && d.isInit(c.Name) && !isSidecar(c)
	default:
		s.State.Waiting = d.waiting(c, seen, waiting)
		if a != nil && a.State == Exited {
			s.LastTerminationState.Terminated = Terminated(a)
		}
	}
	s.Started = &started
	return s
}

// willStart says whether an exited container is to be started again: then it
// waits, and its exit is its last termination state.
func (d *decider) willStart(c *v1.Container, seen Container) bool {
	if d.pod.DeletionTimestamp != nil || d.failed != nil || over(d.pod.Status.Phase) {
		return false
	}
	if d.isEphemeral(c.Name) {
		return false
	}
	if seen.Making || seen.Failure != nil || seen.Current.Reset {
		return true
	}
	switch init := d.isInit(c.Name); {
	case init && isSidecar(c):
		return !d.finished()
	case init && d.mainStarted():
		return false
	}
	return d.restarts(c, seen.Current.ExitCode) || replaced(c, seen.Current)
}

// waiting is why a container does not run yet.
func (d *decider) waiting(c *v1.Container, seen Container, reason string) *v1.ContainerStateWaiting {
	w := &v1.ContainerStateWaiting{Reason: reason}
	if f := seen.Failure; f != nil && !seen.Busy {
		w.Reason, w.Message = f.Reason, f.Message
		if IsPullReason(f.Reason) && f.Tries > 1 {
			w.Reason = reasonImageBackoff
			w.Message = fmt.Sprintf("Back-off pulling image %q: %s: %s", c.Image, f.Reason, f.Message)
		}
		return w
	}
	if !d.mayStart() && !seen.Busy {
		w.Reason, w.Message = reasonWaitingForClaim, d.seen.Claim.Message
		return w
	}
	a := seen.Current
	if a != nil && a.State == Exited && a.Reason == StartError {
		w.Reason, w.Message = reasonRunContainer, a.Message
	}
	if a != nil && a.State == Exited && a.PostStart == HookFailed {
		w.Reason, w.Message = reasonPostStart, a.PostStartMessage
	}
	if a != nil && a.State == Exited && seen.Backoff.Tries > 0 && !seen.Busy && d.now.Before(seen.Backoff.Until(a.Finished)) {
		w.Reason = reasonCrashLoop
		w.Message = fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)", delay(seen.Backoff.Tries), c.Name, d.pod.Name, d.pod.Namespace, d.pod.UID)
	}
	return w
}

// Terminated is an exited attempt as an API object.
func Terminated(a *Attempt) *v1.ContainerStateTerminated {
	reason := a.Reason
	switch {
	case reason != "":
	case a.OOMKilled:
		reason = "OOMKilled"
	case a.ExitCode == 0:
		reason = "Completed"
	default:
		reason = "Error"
	}
	t := &v1.ContainerStateTerminated{
		ExitCode: int32(a.ExitCode), Reason: reason, Message: a.Message,
		StartedAt: metav1.NewTime(a.Started), FinishedAt: metav1.NewTime(a.Finished), ContainerID: containerID(a.ID),
	}
	if a.Started.IsZero() {
		t.StartedAt = metav1.Time{}
	}
	return t
}

// containerID is an ID as Kubernetes spells it, with the runtime's name.
func containerID(id string) string {
	if id == "" {
		return ""
	}
	return "shoal://" + id
}

func (d *decider) isInit(name string) bool {
	return slices.ContainsFunc(d.pod.Spec.InitContainers, func(c v1.Container) bool { return c.Name == name })
}

// over says that a pod in this phase never runs again.
func over(phase v1.PodPhase) bool { return phase == v1.PodSucceeded || phase == v1.PodFailed }

// phase is what the containers amount to. A pod is not over while anything of
// it may run: others wait for that to take what it holds (the kubelet's
// mergePodStatus, pkg/kubelet/status/status_manager.go).
func (d *decider) phase(s v1.PodStatus) v1.PodPhase {
	old := d.pod.Status.Phase
	if over(old) {
		return old
	}
	if phase := d.reached(s); !over(phase) || !d.anyRuns() {
		return phase
	}
	return cmp.Or(old, v1.PodPending)
}

// anyRuns says whether a process of any container runs, or soon may.
func (d *decider) anyRuns() bool {
	for _, c := range d.seen.Containers {
		if c.Making || c.Current != nil && c.Current.State != Exited {
			return true
		}
	}
	return false
}

// reached is the kubelet's getPhase.
func (d *decider) reached(s v1.PodStatus) v1.PodPhase {
	if d.failed != nil {
		return v1.PodFailed
	}
	for i, cs := range s.InitContainerStatuses {
		c := &d.pod.Spec.InitContainers[i]
		if isSidecar(c) || d.mainStarted() {
			continue
		}
		t := cs.State.Terminated
		if t != nil && t.ExitCode != 0 && !d.restarts(c, int(t.ExitCode)) {
			return v1.PodFailed
		}
		if t == nil || t.ExitCode != 0 {
			return v1.PodPending
		}
	}
	var waiting, running, stopped, succeeded, restarting int
	for i, cs := range s.ContainerStatuses {
		switch {
		case cs.State.Running != nil:
			running++
		case cs.State.Terminated != nil:
			stopped++
			if d.restarts(&d.pod.Spec.Containers[i], int(cs.State.Terminated.ExitCode)) {
				restarting++
			}
			if cs.State.Terminated.ExitCode == 0 {
				succeeded++
			}
		case cs.LastTerminationState.Terminated != nil:
			stopped++
			restarting++
		default:
			waiting++
		}
	}
	switch {
	case waiting > 0:
		return v1.PodPending
	case running > 0:
		return v1.PodRunning
	case d.pod.DeletionTimestamp != nil && stopped == len(s.ContainerStatuses):
		// A deleted pod's containers all ended: it is over whatever the policy.
		if succeeded == stopped {
			return v1.PodSucceeded
		}
		return v1.PodFailed
	case restarting > 0:
		return v1.PodRunning
	case stopped == succeeded:
		return v1.PodSucceeded
	}
	return v1.PodFailed
}

// conditions are the pod's conditions; each keeps the time of its last change.
func (d *decider) conditions(s v1.PodStatus) []v1.PodCondition {
	over := over(s.Phase)
	var uninitialized, unready []string
	for i, cs := range s.InitContainerStatuses {
		sidecar := isSidecar(&d.pod.Spec.InitContainers[i])
		done := cs.State.Terminated != nil && cs.State.Terminated.ExitCode == 0
		if sidecar {
			done = cs.Started != nil && *cs.Started || over
		}
		if !done && !d.initialized() && (sidecar || !d.mainStarted()) {
			uninitialized = append(uninitialized, cs.Name)
		}
		if sidecar && !cs.Ready {
			unready = append(unready, cs.Name)
		}
	}
	for _, cs := range s.ContainerStatuses {
		if !cs.Ready {
			unready = append(unready, cs.Name)
		}
	}
	condition := func(kind v1.PodConditionType, bad []string, reason, words string) v1.PodCondition {
		c := v1.PodCondition{Type: kind, Status: v1.ConditionTrue}
		if len(bad) > 0 {
			c.Status, c.Reason = v1.ConditionFalse, reason
			c.Message = fmt.Sprintf("%s: [%s]", words, strings.Join(bad, " "))
		}
		switch {
		case !over || kind == v1.PodScheduled:
		case kind != v1.PodInitialized:
			c.Status, c.Message = v1.ConditionFalse, ""
			c.Reason = map[v1.PodPhase]string{v1.PodSucceeded: reasonCompleted, v1.PodFailed: "PodFailed"}[s.Phase]
		case s.Phase == v1.PodSucceeded:
			c.Status, c.Reason, c.Message = v1.ConditionTrue, reasonCompleted, ""
		}
		return c
	}
	var noSandbox []string
	if !d.seen.Sandbox.Ready {
		noSandbox = []string{"sandbox"}
	}
	sandbox := condition(v1.PodReadyToStartContainers, noSandbox, "", "")
	sandbox.Reason, sandbox.Message = "", ""
	if over {
		sandbox.Status = v1.ConditionFalse
	}
	ready := condition(v1.PodReady, unready, "ContainersNotReady", "containers with unready status")
	if ready.Status == v1.ConditionTrue {
		ready = d.beyondContainers(ready)
	}
	list := []v1.PodCondition{
		sandbox,
		condition(v1.PodInitialized, uninitialized, "ContainersNotInitialized", "containers with incomplete status"),
		ready,
		condition(v1.ContainersReady, unready, "ContainersNotReady", "containers with unready status"),
		condition(v1.PodScheduled, nil, "", ""),
	}
	if d.mayRestartAll() {
		list = append(list, d.restartingCondition(s.Phase))
	}
	if c := d.disruption(); c != nil {
		list = append(list, *c)
	}
	if c := d.exclusiveCondition(); c != nil && !over {
		list = append(list, *c)
	}
	list = append(list, d.resizeConditions()...)
	for i := range list {
		list[i].ObservedGeneration = d.pod.Generation
		list[i].LastTransitionTime = d.since(list[i])
	}
	return append(list, d.seen.Conditions...)
}

// since is when a condition took its status.
func (d *decider) since(c v1.PodCondition) metav1.Time {
	for _, old := range d.pod.Status.Conditions {
		if old.Type == c.Type && old.Status == c.Status {
			return old.LastTransitionTime
		}
	}
	return metav1.NewTime(d.now.Truncate(time.Second))
}
