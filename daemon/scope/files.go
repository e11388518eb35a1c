package scope

import (
	"strconv"
	"time"
)

// setting is one value for one file of a cgroup.
type setting struct{ Controller, File, Value string }

// settings is r for cgroup v2, whole: what r leaves out gets the kernel's
// default, so the same list makes a cgroup and updates it.
func settings(r Resources) []setting {
	cpuWeight := r.CPUWeight
	if cpuWeight == 0 {
		cpuWeight = 100
	}
	period := orDefault(r.CPUPeriod)
	cpuMax := "max"
	if r.CPUQuota > 0 {
		cpuMax = micros(perPeriod(r.CPUQuota, period))
	}
	list := []setting{
		{"cpu", "cpu.weight", strconv.FormatUint(cpuWeight, 10)},
		{"cpu", "cpu.max", cpuMax + " " + micros(period)},
		{"memory", "memory.max", orWord(r.MemoryMax, "max")},
		{"memory", "memory.high", orWord(r.MemoryHigh, "max")},
		{"memory", "memory.min", orWord(r.MemoryMin, "0")},
		{"memory", "memory.low", orWord(r.MemoryLow, "0")},
		{"pids", "pids.max", orWord(positive(r.TasksMax), "max")},
		// A lone newline is how cpuset is told "all".
		{"cpuset", "cpuset.cpus", r.AllowedCPUs.String() + "\n"},
	}
	return list
}

// settingsV1 is r for cgroup v1, which has no memory.high, min and low.
// cpuset there must name its CPUs, see inheritCPUs.
func settingsV1(r Resources) []setting {
	cpuShares := r.CPUShares
	if cpuShares == 0 {
		cpuShares = 1024
	}
	period := orDefault(r.CPUPeriod)
	cpuQuota := "-1"
	if r.CPUQuota > 0 {
		cpuQuota = micros(perPeriod(r.CPUQuota, period))
	}
	list := []setting{
		{"cpu", "cpu.shares", strconv.FormatUint(cpuShares, 10)},
		{"cpu", "cpu.cfs_period_us", micros(period)},
		{"cpu", "cpu.cfs_quota_us", cpuQuota},
		{"memory", "memory.limit_in_bytes", orWord(r.MemoryMax, "-1")},
		{"pids", "pids.max", orWord(positive(r.TasksMax), "max")},
	}
	if !r.AllowedCPUs.IsEmpty() {
		list = append(list, setting{"cpuset", "cpuset.cpus", r.AllowedCPUs.String()})
	}
	return list
}

func orDefault(period time.Duration) time.Duration {
	if period == 0 {
		return defaultPeriod
	}
	return period
}

func perPeriod(second, period time.Duration) time.Duration {
	return time.Duration(second.Microseconds()*period.Microseconds()/1e6) * time.Microsecond
}

func micros(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }

func positive(n int64) *int64 {
	if n <= 0 {
		return nil
	}
	return &n
}

func orWord(n *int64, unset string) string {
	if n == nil {
		return unset
	}
	return strconv.FormatInt(*n, 10)
}
