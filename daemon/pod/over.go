package pod

import (
	v1 "k8s.io/api/core/v1"
)

// unknown is how a container has ended of which nobody knows how, or whether it
// ever began, when its pod is over; in the kubelet's words.
func unknown() v1.ContainerState {
	return v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
		Reason: "ContainerStatusUnknown", Message: "The container could not be located when the pod was terminated", ExitCode: 137,
	}}
}

// end gives all containers of a pod that is over an end: those that were still to
// start count as failed, but containers behind init containers that did not get
// through, and the last of these that had not begun, go on waiting (the kubelet's
// TerminatePod, pkg/kubelet/status/status_manager.go).
func (d *decider) end(s *v1.PodStatus) {
	if d.hasInitialized(s) {
		endAll(s.ContainerStatuses)
	}
	begun := min(1, len(s.InitContainerStatuses)) // always the first
	for i, cs := range s.InitContainerStatuses {
		if hasBegun(cs) {
			begun = i + 1
		}
	}
	endAll(s.InitContainerStatuses[:begun])
}

func endAll(list []v1.ContainerStatus) {
	for i := range list {
		if list[i].State.Terminated == nil {
			list[i].State = unknown()
		}
	}
}

// hasBegun says that there is evidence of a run.
func hasBegun(cs v1.ContainerStatus) bool {
	return cs.State.Waiting == nil || cs.LastTerminationState.Terminated != nil
}

// hasInitialized is the kubelet's hasPodInitialized: any main container has begun,
// or the last init container has ended well.
func (d *decider) hasInitialized(s *v1.PodStatus) bool {
	for _, cs := range s.ContainerStatuses {
		if hasBegun(cs) {
			return true
		}
	}
	n := len(s.InitContainerStatuses)
	if n == 0 {
		return true
	}
	last := s.InitContainerStatuses[n-1]
	if isSidecar(&d.pod.Spec.InitContainers[n-1]) {
		return last.State.Running != nil && last.Started != nil && *last.Started
	}
	for _, t := range []*v1.ContainerStateTerminated{last.State.Terminated, last.LastTerminationState.Terminated} {
		if t != nil && t.ExitCode == 0 {
			return true
		}
	}
	return false
}
