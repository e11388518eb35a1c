package scope

import (
	"math"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// unlimited is infinity for every limit on systemd's bus, and "not set" for
// weights.
const unlimited uint64 = math.MaxUint64

// properties is r as systemd.resource-control(5) has it, whole: what r leaves
// out is reset, so the same list starts a scope and updates it.
func properties(r Resources) []systemd.Property {
	return []systemd.Property{
		property("CPUWeight", orUnlimited(r.CPUWeight)),
		property("CPUQuotaPerSecUSec", orUnlimited(uint64(r.CPUQuota.Microseconds()))),
		property("CPUQuotaPeriodUSec", uint64(orDefault(r.CPUPeriod).Microseconds())),
		property("AllowedCPUs", cpuMask(r.AllowedCPUs)),
		property("MemoryMax", bytesOr(r.MemoryMax, unlimited)),
		property("MemoryHigh", bytesOr(r.MemoryHigh, unlimited)),
		property("MemoryMin", bytesOr(r.MemoryMin, 0)),
		property("MemoryLow", bytesOr(r.MemoryLow, 0)),
		property("TasksMax", orUnlimited(uint64(r.TasksMax))),
	}
}

// sliceProperties is only what r sets: an administrator may have given our
// slices limits of their own, which are not ours to lift.
func sliceProperties(r Resources) []systemd.Property {
	var list []systemd.Property
	if r.CPUWeight > 0 {
		list = append(list, property("CPUWeight", r.CPUWeight))
	}
	if !r.AllowedCPUs.IsEmpty() {
		list = append(list, property("AllowedCPUs", cpuMask(r.AllowedCPUs)))
	}
	if r.MemoryMin != nil {
		list = append(list, property("MemoryMin", uint64(*r.MemoryMin)))
	}
	if r.MemoryLow != nil {
		list = append(list, property("MemoryLow", uint64(*r.MemoryLow)))
	}
	return list
}

// defaultStopTimeout bounds the machine's shutdown where the pod says nothing.
const defaultStopTimeout = 10 * time.Second

// scopeProperties is all that systemd is told of a new scope. systemd's version
// decides about OOMPolicy, which scopes have since 253; before, a scope goes on
// when the kernel kills one of its processes, which is what we ask for.
func scopeProperties(spec Spec, systemdVersion int) []systemd.Property {
	stop := spec.StopTimeout
	if stop <= 0 {
		stop = defaultStopTimeout
	}
	pids := make([]uint32, len(spec.PIDs))
	for i, pid := range spec.PIDs {
		pids[i] = uint32(pid)
	}
	list := []systemd.Property{
		property("Description", spec.Description),
		property("Slice", spec.Slice),
		property("PIDs", pids),
		property("Delegate", true),
		property("CollectMode", "inactive-or-failed"),
		property("TimeoutStopUSec", uint64(stop.Microseconds())),
	}
	if systemdVersion >= 253 {
		list = append(list, property("OOMPolicy", "continue"))
	}
	if spec.BindsTo != "" {
		// After: the scope is stopped first when both are, and the other one sees its end.
		list = append(list, property("BindsTo", []string{spec.BindsTo}), property("After", []string{spec.BindsTo}))
	}
	return append(list, properties(spec.Resources)...)
}

func property(name string, value any) systemd.Property {
	return systemd.Property{Name: name, Value: dbus.MakeVariant(value)}
}

func orUnlimited(v uint64) uint64 {
	if v == 0 {
		return unlimited
	}
	return v
}

func bytesOr(b *int64, unset uint64) uint64 {
	if b == nil {
		return unset
	}
	return uint64(*b)
}
