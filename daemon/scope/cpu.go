package scope

import (
	"time"

	"k8s.io/utils/cpuset"
)

const (
	// Bounds of cpu.shares, from the kernel (MIN_SHARES and MAX_SHARES in
	// kernel/sched/sched.h).
	minShares = 2
	maxShares = 262144

	// defaultPeriod is the kernel's and the kubelet's CFS period.
	defaultPeriod = 100 * time.Millisecond
	// minQuota is the least CPU time per period the kernel accepts.
	minQuota = time.Millisecond
)

// shares converts a CPU request in millicores to cpu.shares, 1024 a core, as
// the kubelet's MilliCPUToShares (pkg/kubelet/cm/helpers_linux.go). No request
// is the least there is, not the kernel's default of 1024.
func shares(milliCPU int64) uint64 {
	return uint64(min(max(milliCPU*1024/1000, minShares), maxShares))
}

// weight converts cpu.shares to cpu.weight (1 to 10000) by the linear formula
// of KEP-2254, the one that the kubelet 1.36 uses for pods and QoS classes
// (getCPUWeight in pkg/kubelet/cm/cgroup_manager_linux.go).
//
// runc since 1.3.2 and crun since 1.23 convert by another one,
// ceil(10^((L*L+125*L)/612-7/34)) with L=log2(shares), which makes one core
// the default weight of 100 but no longer keeps proportions: requests of 3:1
// would share a busy core 2.3:1. We keep proportions, and tell the runtime the
// weight itself so that its version does not matter.
func weight(shares uint64) uint64 {
	shares = min(max(shares, minShares), maxShares)
	return 1 + (shares-minShares)*9999/(maxShares-minShares)
}

// quota converts a CPU limit in millicores to CPU time per period; 0 is none.
// It is the kubelet's MilliCPUToQuota (pkg/kubelet/cm/helpers_linux.go).
func quota(milliCPU int64, period time.Duration) time.Duration {
	if milliCPU <= 0 {
		return 0
	}
	return max(time.Duration(milliCPU)*period/1000, minQuota)
}

// perSecond is quota as systemd counts it, per second instead of per period,
// rounded up to whole percents: systemd keeps CPUQuota= as a whole percentage
// in the unit's file, and would come back from a reload with less than was
// promised. (runc's systemd driver rounds the same way.)
func perSecond(quota, period time.Duration) time.Duration {
	const percent = 10 * time.Millisecond
	second := quota * (time.Second / period)
	return (second + percent - 1) / percent * percent
}

// cpuMask is set in the form of systemd's AllowedCPUs: bit n%8 of byte n/8.
func cpuMask(set cpuset.CPUSet) []byte {
	mask := []byte{}
	for _, cpu := range set.List() {
		for len(mask) <= cpu/8 {
			mask = append(mask, 0)
		}
		mask[cpu/8] |= 1 << (cpu % 8)
	}
	return mask
}
