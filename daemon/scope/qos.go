package scope

import (
	v1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	v1qos "k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
)

// The slices that pods live in.
const (
	RootSlice       = "shoal.slice"
	BurstableSlice  = "shoal-burstable.slice"
	BestEffortSlice = "shoal-besteffort.slice"
)

// QOS is the pod's quality-of-service class, by Kubernetes' own code. What the
// pod's status says is not believed: it may come from a file.
func QOS(pod *v1.Pod) v1.PodQOSClass { return v1qos.ComputePodQOS(pod) }

// Slice is the slice that pods of a class live in. As with the kubelet,
// Guaranteed pods share the top level with the two other classes.
func Slice(qos v1.PodQOSClass) string {
	switch qos {
	case v1.PodQOSBurstable:
		return BurstableSlice
	case v1.PodQOSBestEffort:
		return BestEffortSlice
	}
	return RootSlice
}

// SliceResources is what each slice gets when pods are all that run, as the
// kubelet's setCPUCgroupConfig and setMemoryQoS
// (pkg/kubelet/cm/qos_container_manager_linux.go): the burstable class weighs as
// much as its pods' requests together, best effort as little as there is.
//
// shoal.slice keeps the default weight: pods and the host's own services
// share a busy machine evenly.
func SliceResources(pods []*v1.Pod, node NodeLimits) map[string]Resources {
	var cpu, guaranteed, burstable int64
	for _, pod := range pods {
		requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
		switch QOS(pod) {
		case v1.PodQOSGuaranteed:
			guaranteed += requests.Memory().Value()
		case v1.PodQOSBurstable:
			cpu += requests.Cpu().MilliValue()
			burstable += requests.Memory().Value()
		}
	}
	root, low := Resources{}, Resources{}
	low.CPUShares = shares(cpu)
	low.CPUWeight = weight(low.CPUShares)
	if node.MemoryQoS {
		// A child is protected only as far as its parent is.
		sum := guaranteed + burstable
		root.MemoryMin, low.MemoryLow = &sum, &burstable
	}
	low.AllowedCPUs = node.SharedCPUs
	return map[string]Resources{
		RootSlice:       root,
		BurstableSlice:  low,
		BestEffortSlice: {CPUShares: minShares, CPUWeight: weight(minShares), AllowedCPUs: node.SharedCPUs},
	}
}
