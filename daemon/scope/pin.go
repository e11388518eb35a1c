package scope

import (
	"errors"
	"fmt"
	"io/fs"

	specs "github.com/opencontainers/runtime-spec/specs-go"
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
		none := int64(-1) // said, because it may replace one
		r.CPU.Quota, r.CPU.Period = &none, nil
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
	if err := write(dir, "cpuset.cpus", cpus+"\n"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set cpuset.cpus of %s to %q: %w", dir, cpus, err)
	}
	return nil
}
