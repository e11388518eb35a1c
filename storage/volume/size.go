package volume

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// tmpfsSize is the size of a volume in memory, in bytes: the least of what the node has for pods, what the pod may use
// and the volume's own limit (the kubelet's calculateEmptyDirMemorySize). Zero means that nothing limits it, so the
// kernel's default of half the RAM holds.
func tmpfsSize(pod *v1.Pod, limit *resource.Quantity, node NodeInfo) int64 {
	size := node.Allocatable.Memory().Value()
	for _, v := range []int64{podMemoryLimit(pod), valueOf(limit)} {
		if v > 0 && (size == 0 || v <= size) {
			size = v
		}
	}
	return size
}

func valueOf(q *resource.Quantity) int64 {
	if q == nil {
		return 0
	}
	return q.Value()
}

// podMemoryLimit is the memory limit of the pod's cgroup in bytes, 0 when a container has none and the pod sets none
// for all of them (pkg/kubelet/cm ResourceConfigForPod).
func podMemoryLimit(pod *v1.Pod) int64 {
	declared := true
	limits := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{
		ContainerFn: func(container v1.ResourceList, _ resourcehelper.ContainerType) {
			declared = declared && !container.Memory().IsZero()
		},
	})
	if pod.Spec.Resources != nil && !pod.Spec.Resources.Limits.Memory().IsZero() {
		declared = true
	}
	if !declared {
		return 0
	}
	return limits.Memory().Value()
}
