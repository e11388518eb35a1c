package scope

import (
	"cmp"
	"os"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	v1helper "k8s.io/kubernetes/pkg/apis/core/v1/helper"
)

// defaultThrottlingFactor is the kubelet's default memoryThrottlingFactor.
const defaultThrottlingFactor = 0.9

var pageSize = int64(os.Getpagesize())

// ContainerResources is the container's part of its OCI spec, as the kubelet's
// generateLinuxContainerResources
// (pkg/kubelet/kuberuntime/kuberuntime_container_linux.go). Swap is off, as its
// default NoSwap says; an OOM kills the whole container on cgroup v2
// (memory.oom.group), as with singleProcessOOMKill=false, the default there.
func ContainerResources(pod *v1.Pod, c *v1.Container, node NodeLimits) *specs.LinuxResources {
	r := &specs.LinuxResources{}
	if !node.CgroupV1 {
		r.Unified = map[string]string{}
	}
	if node.Has("cpu") {
		containerCPU(r, pod, c)
	}
	if node.Has("memory") {
		containerMemory(r, pod, c, node)
	}
	if node.Has("pids") && node.PodPidsLimit > 0 {
		r.Pids = &specs.LinuxPids{Limit: &node.PodPidsLimit}
	}
	if node.Has("hugetlb") {
		r.HugepageLimits = hugePages(pod, c, node.HugePageSizes)
	}
	return r
}

// Has says whether a controller works here.
func (n NodeLimits) Has(controller string) bool {
	return slices.Contains(n.Controllers, controller)
}

func containerCPU(r *specs.LinuxResources, pod *v1.Pod, c *v1.Container) {
	limit := effectiveLimit(pod, c, v1.ResourceCPU)
	request, asked := c.Resources.Requests[v1.ResourceCPU]
	if !asked {
		request = limit // as API defaulting does
	}
	s := shares(request.MilliValue())
	r.CPU = &specs.LinuxCPU{Shares: &s}
	if r.Unified != nil {
		// Written last by crun and runc, so it replaces what they make of the
		// shares: see weight.
		r.Unified["cpu.weight"] = strconv.FormatUint(weight(s), 10)
	}
	if q := quota(limit.MilliValue(), defaultPeriod).Microseconds(); q > 0 {
		period := uint64(defaultPeriod.Microseconds())
		r.CPU.Quota, r.CPU.Period = &q, &period
	}
}

func containerMemory(r *specs.LinuxResources, pod *v1.Pod, c *v1.Container, node NodeLimits) {
	effective := effectiveLimit(pod, c, v1.ResourceMemory)
	if limit := effective.Value(); limit > 0 {
		r.Memory = &specs.LinuxMemory{Limit: &limit}
		if node.CgroupV1 && node.Has("swap") {
			r.Memory.Swap = &limit // memory and swap together, so no swap
		}
	}
	if r.Unified == nil {
		return
	}
	r.Unified["memory.oom.group"] = "1"
	if node.Has("swap") {
		r.Unified["memory.swap.max"] = "0"
	}
	if node.MemoryQoS {
		memoryQoS(r.Unified, pod, c, node)
	}
}

// memoryQoS adds what KEP-2570 asks for.
func memoryQoS(unified map[string]string, pod *v1.Pod, c *v1.Container, node NodeLimits) {
	request := c.Resources.Requests.Memory().Value()
	limit := c.Resources.Limits.Memory().Value()
	if request > 0 {
		key := "memory.low"
		if QOS(pod) == v1.PodQOSGuaranteed {
			key = "memory.min"
		}
		unified[key] = strconv.FormatInt(request, 10)
	}
	unified["memory.high"] = "max" // said, because it may replace another
	if request == limit {
		return // at the limit there is nothing left to throttle
	}
	if limit == 0 {
		limit = node.AllocatableMemory
	}
	high := request + int64(float64(limit-request)*cmp.Or(node.ThrottlingFactor, defaultThrottlingFactor))
	if high = high / pageSize * pageSize; high > request {
		unified["memory.high"] = strconv.FormatInt(high, 10)
	}
}

// effectiveLimit is the container's limit, or else the pod's: the kubelet's
// getCPULimit and getMemoryLimit.
func effectiveLimit(pod *v1.Pod, c *v1.Container, name v1.ResourceName) resource.Quantity {
	limit := c.Resources.Limits[name]
	if limit.IsZero() && resourcehelper.IsPodLevelResourcesSet(pod) {
		return pod.Spec.Resources.Limits[name]
	}
	return limit
}

// hugePages limits each of sizes, by the container's limit, else the pod's,
// else to none: the kubelet's GetHugepageLimitsFromResources.
func hugePages(pod *v1.Pod, c *v1.Container, sizes []string) []specs.LinuxHugepageLimit {
	wanted := map[string]uint64{}
	note := func(limits v1.ResourceList) {
		for name, amount := range limits {
			if !v1helper.IsHugePageResourceName(name) {
				continue
			}
			size, err := v1helper.HugePageSizeFromResourceName(name)
			if err != nil {
				continue // validation refuses such names
			}
			if unit, err := v1helper.HugePageUnitSizeFromByteSize(size.Value()); err == nil {
				wanted[unit] = uint64(amount.Value())
			}
		}
	}
	if resourcehelper.IsPodLevelResourcesSet(pod) {
		note(pod.Spec.Resources.Limits)
	}
	note(c.Resources.Limits)
	var limits []specs.LinuxHugepageLimit
	for _, size := range sizes {
		limits = append(limits, specs.LinuxHugepageLimit{Pagesize: size, Limit: wanted[size]})
	}
	return limits
}
