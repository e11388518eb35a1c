package scope

import (
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/utils/cpuset"
)

// Resources is what a pod, or all pods of a slice, may use. The zero value
// limits nothing.
type Resources struct {
	CPUShares   uint64        // for cgroup v1, 2 to 262144; 0: the kernel's default
	CPUWeight   uint64        // for cgroup v2, 1 to 10000; 0: the kernel's default
	CPUQuota    time.Duration // CPU time per second, whole percents; 0: no limit
	CPUPeriod   time.Duration // in which the quota is handed out; 0: 100 ms
	AllowedCPUs cpuset.CPUSet // empty: all

	// In bytes; nil: none.
	MemoryMax  *int64
	MemoryHigh *int64
	MemoryMin  *int64
	MemoryLow  *int64

	TasksMax int64 // processes and threads; 0: no limit
}

// NodeLimits is what the limits of all pods of a node depend on. The zero value
// is a node with cgroup v2, no controllers and no extra limits.
type NodeLimits struct {
	// Controllers are those that work here, see [Host.Controllers]. What needs
	// another is left out of [ContainerResources]: OCI runtimes fail on files
	// that do not exist.
	Controllers []string
	// CgroupV1 says that controllers are those of cgroup v1.
	CgroupV1 bool
	// PodPidsLimit is the most processes and threads in one pod, as the
	// kubelet's podPidsLimit; 0: no limit. The pod's pause and conmon count.
	PodPidsLimit int64
	// MemoryQoS protects requested memory and throttles before the limit, as
	// the kubelet's feature of this name with memoryReservationPolicy
	// TieredReservation (KEP-2570). Off by default there and here.
	MemoryQoS bool
	// ThrottlingFactor is how far between request and limit MemoryQoS begins to
	// throttle, at most 1: the kubelet's memoryThrottlingFactor; 0: its default, 0.9.
	ThrottlingFactor float64
	// AllocatableMemory in bytes stands in for the limit of containers without
	// one where MemoryQoS is on; 0: such containers are not throttled.
	AllocatableMemory int64
	// SharedCPUs are those of pods below the slices of the QoS classes, which have
	// no cpuset of their own; empty: all, or what was set before.
	SharedCPUs cpuset.CPUSet
	// HugePageSizes are the kernel's, written as in "2MB" and "1GB", see
	// [HugePageSizes]. A container gets none of a size it does not ask for.
	HugePageSizes []string
}

// PodResources is what the pod as a whole may use, as the kubelet's
// ResourceConfigForPod (pkg/kubelet/cm/helpers_linux.go): requests and limits
// summed over containers, sidecars and init containers with the pod's overhead,
// or those of the pod itself where it has any; a limit only where each
// container or the pod declares it, since otherwise one may use any amount.
func PodResources(pod *v1.Pod, node NodeLimits) Resources {
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	limits, cpuLimited, memoryLimited := podLimits(pod)
	qos := QOS(pod)

	r := Resources{TasksMax: node.PodPidsLimit}
	r.CPUShares = shares(requests.Cpu().MilliValue())
	if qos == v1.PodQOSBestEffort {
		r.CPUShares = minShares
	}
	r.CPUWeight = weight(r.CPUShares)
	if q := quota(limits.Cpu().MilliValue(), defaultPeriod); cpuLimited && q > 0 {
		r.CPUQuota, r.CPUPeriod = perSecond(q, defaultPeriod), defaultPeriod
	}
	if m := limits.Memory().Value(); memoryLimited && m > 0 {
		r.MemoryMax = &m
	}
	if m := requests.Memory().Value(); node.MemoryQoS && m > 0 {
		if qos == v1.PodQOSGuaranteed {
			r.MemoryMin = &m
		} else {
			r.MemoryLow = &m
		}
	}
	return r
}

// podLimits sums the pod's limits, and says which of them bound all of it.
func podLimits(pod *v1.Pod) (limits v1.ResourceList, cpu, memory bool) {
	cpu, memory = true, true
	limits = resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{
		ContainerFn: func(l v1.ResourceList, _ resourcehelper.ContainerType) {
			cpu = cpu && !l.Cpu().IsZero()
			memory = memory && !l.Memory().IsZero()
		},
	})
	if resourcehelper.IsPodLevelResourcesSet(pod) {
		cpu = cpu || !pod.Spec.Resources.Limits.Cpu().IsZero()
		memory = memory || !pod.Spec.Resources.Limits.Memory().IsZero()
	}
	return limits, cpu, memory
}

// String lists what is set, in a fixed order.
func (r Resources) String() string {
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if r.CPUShares > 0 {
		add("shares=%d", r.CPUShares)
	}
	if r.CPUWeight > 0 {
		add("weight=%d", r.CPUWeight)
	}
	if r.CPUQuota > 0 {
		add("quota=%v/s", r.CPUQuota)
	}
	if !r.AllowedCPUs.IsEmpty() {
		add("cpus=%v", r.AllowedCPUs)
	}
	for _, m := range []struct {
		name  string
		bytes *int64
	}{{"max", r.MemoryMax}, {"high", r.MemoryHigh}, {"min", r.MemoryMin}, {"low", r.MemoryLow}} {
		if m.bytes != nil {
			add("memory.%s=%d", m.name, *m.bytes)
		}
	}
	if r.TasksMax > 0 {
		add("tasks=%d", r.TasksMax)
	}
	return strings.Join(words, " ")
}
