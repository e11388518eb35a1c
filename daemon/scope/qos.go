package scope

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	v1qos "k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
)

// The slices that pods live in. Those of exclusive pods lie below a slice of
// their own, which the lease process freezes and kills as a whole.
const (
	RootSlice       = "shoal.slice"
	BurstableSlice  = "shoal-burstable.slice"
	BestEffortSlice = "shoal-besteffort.slice"

	ExclusiveSlice           = "shoal-exclusive.slice"
	ExclusiveBurstableSlice  = "shoal-exclusive-burstable.slice"
	ExclusiveBestEffortSlice = "shoal-exclusive-besteffort.slice"
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

// ExclusiveSliceOf is Slice for exclusive pods.
func ExclusiveSliceOf(qos v1.PodQOSClass) string {
	switch qos {
	case v1.PodQOSBurstable:
		return ExclusiveBurstableSlice
	case v1.PodQOSBestEffort:
		return ExclusiveBestEffortSlice
	}
	return ExclusiveSlice
}

// SliceResources is what each slice gets when pods are all that run, as the
// kubelet's setCPUCgroupConfig and setMemoryQoS
// (pkg/kubelet/cm/qos_container_manager_linux.go): the burstable class weighs as
// much as its pods' requests together, best effort as little as there is. Pods
// that have ended ask for nothing. Unlike with the kubelet an edit that can't be
// had counts only when it can (KEP-1287's allocated resources): nobody makes his
// class heavier by asking for what the node hasn't got.
//
// shoal.slice keeps the default weight: pods and the host's own services
// share a busy machine evenly. The exclusive pods' slice weighs as much as they
// all do together, and is divided in the same way.
func SliceResources(pods []*v1.Pod, exclusive func(*v1.Pod) bool, node NodeLimits) map[string]Resources {
	var shared, held requested
	for _, pod := range pods {
		if exclusive != nil && exclusive(pod) {
			held.add(pod)
		} else {
			shared.add(pod)
		}
	}
	top := Resources{CPUShares: shares(held.guaranteedCPU + held.burstableCPU)}
	top.CPUWeight = weight(top.CPUShares)
	root, low, heldLow := Resources{}, burstable(shared, node), burstable(held, node)
	if node.MemoryQoS {
		// A child is protected only as far as its parent is.
		sum, inTop := shared.memory()+held.memory(), held.memory()
		root.MemoryMin, top.MemoryMin = &sum, &inTop
	}
	least := Resources{CPUShares: minShares, CPUWeight: weight(minShares), AllowedCPUs: node.SharedCPUs}
	return map[string]Resources{
		RootSlice: root, BurstableSlice: low, BestEffortSlice: least,
		ExclusiveSlice: top, ExclusiveBurstableSlice: heldLow, ExclusiveBestEffortSlice: least,
	}
}

// requested is what some pods ask for together, in milli-CPUs and bytes.
type requested struct{ guaranteedCPU, burstableCPU, guaranteedMemory, burstableMemory int64 }

func (r *requested) add(pod *v1.Pod) {
	if pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed {
		return
	}
	requests := resourcehelper.PodRequests(given(pod), resourcehelper.PodResourcesOptions{})
	switch QOS(pod) {
	case v1.PodQOSGuaranteed:
		r.guaranteedCPU += requests.Cpu().MilliValue()
		r.guaranteedMemory += requests.Memory().Value()
	case v1.PodQOSBurstable:
		r.burstableCPU += requests.Cpu().MilliValue()
		r.burstableMemory += requests.Memory().Value()
	}
}

func (r requested) memory() int64 { return r.guaranteedMemory + r.burstableMemory }

// burstable is what the slice of that class gets.
func burstable(r requested, node NodeLimits) Resources {
	res := Resources{CPUShares: shares(r.burstableCPU), AllowedCPUs: node.SharedCPUs}
	res.CPUWeight = weight(res.CPUShares)
	if node.MemoryQoS {
		res.MemoryLow = &r.burstableMemory
	}
	return res
}

// given is the pod with the requests that it has: while an edit waits, not those
// that it asks for.
func given(pod *v1.Pod) *v1.Pod {
	waits := func(c v1.PodCondition) bool { return c.Type == v1.PodResizePending && c.Status == v1.ConditionTrue }
	if !slices.ContainsFunc(pod.Status.Conditions, waits) {
		return pod
	}
	has := make(map[string]v1.ResourceList)
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if s.State.Running != nil {
			has[s.Name] = s.AllocatedResources
		}
	}
	pod = pod.DeepCopy()
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if requests, running := has[list[i].Name]; running {
				list[i].Resources.Requests = requests
			}
		}
	}
	return pod
}
