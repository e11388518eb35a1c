package api

import (
	"fmt"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func init() {
	tables[schema.GroupKind{Kind: "Pod"}] = show(
		"Name Ready Status Restarts Age *IP *Node *Nominated_Node *Readiness_Gates", podCells)
}

func podCells(p *v1.Pod, now time.Time) []any {
	s := summarize(p)
	restarts := strconv.Itoa(s.restarts)
	if s.restarts != 0 && !s.lastRestart.IsZero() {
		restarts += fmt.Sprintf(" (%s ago)", since(s.lastRestart, now))
	}
	ip := p.Status.PodIP
	if len(p.Status.PodIPs) > 0 {
		ip = p.Status.PodIPs[0].IP
	}
	return []any{
		p.Name, fmt.Sprintf("%d/%d", s.ready, s.containers), s.reason, restarts, age(p, now),
		or(ip, "<none>"), or(p.Spec.NodeName, "<none>"), or(p.Status.NominatedNodeName, "<none>"), gates(p),
	}
}

// gates is how many of a pod's readiness gates are open.
func gates(p *v1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return "<none>"
	}
	open := 0
	for _, g := range p.Spec.ReadinessGates {
		if condition(p, g.ConditionType) == v1.ConditionTrue {
			open++
		}
	}
	return fmt.Sprintf("%d/%d", open, len(p.Spec.ReadinessGates))
}

func condition(p *v1.Pod, kind v1.PodConditionType) v1.ConditionStatus {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return ""
}

// summary is what kubectl shows of a pod's containers.
type summary struct {
	ready, containers, restarts int
	lastRestart                 metav1.Time
	reason                      string
}

// restarted counts a container's restarts.
func (s *summary) restarted(c v1.ContainerStatus) {
	s.restarts += int(c.RestartCount)
	if t := c.LastTerminationState.Terminated; t != nil && s.lastRestart.Before(&t.FinishedAt) {
		s.lastRestart = t.FinishedAt
	}
}

// summarize is upstream's printPod.
func summarize(p *v1.Pod) summary {
	s := summary{containers: len(p.Spec.Containers), reason: or(p.Status.Reason, string(p.Status.Phase))}
	for _, c := range p.Status.Conditions {
		if c.Type == v1.PodScheduled && c.Reason == v1.PodReasonSchedulingGated {
			s.reason = v1.PodReasonSchedulingGated
		}
	}
	sidecars := map[string]bool{} // init containers that keep running
	for _, c := range p.Spec.InitContainers {
		if deref(c.RestartPolicy) == v1.ContainerRestartPolicyAlways {
			sidecars[c.Name] = true
			s.containers++
		}
	}
	own := s
	initializing := s.initContainers(p, sidecars, &own)
	if !initializing || condition(p, v1.PodInitialized) == v1.ConditionTrue {
		s.restarts, s.lastRestart = own.restarts, own.lastRestart
		s.mainContainers(p)
	}
	if p.DeletionTimestamp != nil {
		if p.Status.Reason == "NodeLost" {
			s.reason = "Unknown"
		} else if p.Status.Phase != v1.PodFailed && p.Status.Phase != v1.PodSucceeded {
			s.reason = "Terminating"
		}
	}
	return s
}

// initContainers counts init containers, up to the first that is not done, and
// says whether there is one. Restarts of sidecars are counted in own too.
func (s *summary) initContainers(p *v1.Pod, sidecars map[string]bool, own *summary) bool {
	for i, c := range p.Status.InitContainerStatuses {
		s.restarted(c)
		if sidecars[c.Name] {
			own.restarted(c)
		}
		ended, waiting := c.State.Terminated, c.State.Waiting
		switch {
		case ended != nil && ended.ExitCode == 0:
			continue
		case sidecars[c.Name] && deref(c.Started):
			if c.Ready {
				s.ready++
			}
			continue
		case ended != nil:
			s.reason = "Init:" + endReason(ended)
		case waiting != nil && waiting.Reason != "" && waiting.Reason != "PodInitializing":
			s.reason = "Init:" + waiting.Reason
		default:
			s.reason = fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
		return true
	}
	return false
}

// mainContainers counts the others; the first that has something to say gives
// the reason.
func (s *summary) mainContainers(p *v1.Pod) {
	running, failure := false, ""
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := p.Status.ContainerStatuses[i]
		s.restarted(c)
		ended, waiting := c.State.Terminated, c.State.Waiting
		switch {
		case waiting != nil && waiting.Reason != "":
			s.reason = waiting.Reason
		case ended != nil:
			s.reason = endReason(ended)
			if ended.ExitCode != 0 {
				failure = s.reason
			}
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	if s.reason != "Completed" {
		return
	}
	switch {
	case running && condition(p, v1.PodReady) == v1.ConditionTrue:
		s.reason = "Running"
	case failure != "":
		s.reason = failure
	case running:
		s.reason = "NotReady"
	}
}

func endReason(t *v1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}
