package scope

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"k8s.io/utils/cpuset"
)

// Unthrottled is r without a quota: what a pod gets of which a container has
// CPUs to itself (the kubelet's DisableCPUQuotaWithExclusiveCPUs, on since
// 1.33). Those CPUs are the limit, and CFS throttles even who stays below its
// quota.
func Unthrottled(r Resources) Resources {
	r.CPUQuota, r.CPUPeriod = 0, 0
	return r
}

// Pin puts a container on CPUs, in the form of cpuset.cpus. One that has them
// to itself (own) has no quota.
func Pin(r *specs.LinuxResources, cpus string, own bool, node NodeLimits) {
	if own && r.CPU != nil {
		r.CPU.Quota, r.CPU.Period = nil, nil
		if r.Unified != nil {
			// Said, because it may replace one. crun takes a quota of -1 for none given.
			r.Unified["cpu.max"] = "max"
		}
	}
	if !node.Has("cpuset") {
		return
	}
	if r.CPU == nil {
		r.CPU = &specs.LinuxCPU{}
	}
	r.CPU.Cpus = cpus
}

// SetCPUs moves the processes of a cgroup (version 2) to CPUs, in the form of
// cpuset.cpus; "" is wherever its parent's are. One that is gone needs nothing.
func SetCPUs(dir, cpus string) error {
	// A lone newline is how cpuset is told "all".
	err := write(dir, "cpuset.cpus", cpus+"\n")
	if cpus == "" && errors.Is(err, syscall.ENOSPC) {
		// A cgroup with processes that had CPUs of its own can't go back to
		// having none (validate_change in the kernel's cpuset.c).
		var all cpuset.CPUSet
		if all, err = possibleCPUs(); err == nil {
			err = write(dir, "cpuset.cpus", all.String()+"\n")
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set cpuset.cpus of %s to %q: %w", dir, cpus, err)
	}
	return nil
}

// possibleCPUs are all that this kernel will ever have. As a cpuset they
// restrict nothing: what counts is what the parent has of them.
func possibleCPUs() (cpuset.CPUSet, error) {
	text, err := os.ReadFile("/sys/devices/system/cpu/possible")
	if err != nil {
		return cpuset.CPUSet{}, err
	}
	return cpuset.Parse(strings.TrimSpace(string(text)))
}

// lifted is r such that a cgroup with processes that has CPUs of its own is put
// wherever its parent's are, if r restricts them no more: see [SetCPUs].
func lifted(dir string, r Resources) (Resources, error) {
	if !r.AllowedCPUs.IsEmpty() {
		return r, nil
	}
	now, err := words(dir, "cpuset.cpus")
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(now) == 0) {
		return r, nil
	}
	if err == nil {
		r.AllowedCPUs, err = possibleCPUs()
	}
	return r, err
}
