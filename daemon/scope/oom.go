package scope

import (
	v1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

const (
	guaranteedOOMScoreAdj = -997
	bestEffortOOMScoreAdj = 1000
)

// OOMScoreAdj is the oom_score_adj of a container's processes on a machine with
// memoryCapacity bytes, as the kubelet's GetContainerOOMScoreAdjust
// (pkg/kubelet/qos/policy.go): the more memory a container asks for, the later
// it is chosen when the machine runs out.
func OOMScoreAdj(pod *v1.Pod, c *v1.Container, memoryCapacity int64) int {
	if pod.Spec.PriorityClassName == "system-node-critical" {
		return guaranteedOOMScoreAdj
	}
	switch QOS(pod) {
	case v1.PodQOSGuaranteed:
		return guaranteedOOMScoreAdj
	case v1.PodQOSBestEffort:
		return bestEffortOOMScoreAdj
	}
	extra := unassignedMemory(pod)
	request := c.Resources.Requests.Memory().Value() + extra
	if isSidecar(pod, c) {
		// A sidecar must not go before the containers it serves.
		request = max(request, leastMemory(pod.Spec.Containers)+extra)
	}
	adj := 1000 - int(1000*request/max(memoryCapacity, 1))
	return min(max(adj, 1000+guaranteedOOMScoreAdj), bestEffortOOMScoreAdj-1)
}

// unassignedMemory is each container's part of the memory that the pod itself
// requests beyond its containers' requests (KEP-2837, OOM score adjustment).
func unassignedMemory(pod *v1.Pod) int64 {
	if pod.Spec.Resources == nil || pod.Spec.Resources.Requests.Memory().IsZero() {
		return 0
	}
	sum := resourcehelper.AggregateContainerRequests(pod, resourcehelper.PodResourcesOptions{})
	rest := pod.Spec.Resources.Requests.Memory().Value() - sum.Memory().Value()
	return rest / int64(len(pod.Spec.Containers)+len(pod.Spec.InitContainers))
}

func leastMemory(containers []v1.Container) int64 {
	least := containers[0].Resources.Requests.Memory().Value()
	for _, c := range containers[1:] {
		least = min(least, c.Resources.Requests.Memory().Value())
	}
	return least
}

func isSidecar(pod *v1.Pod, c *v1.Container) bool {
	if c.RestartPolicy == nil || *c.RestartPolicy != v1.ContainerRestartPolicyAlways {
		return false
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == c.Name {
			return true
		}
	}
	return false
}
