package pressure

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal is something that a host may run out of.
type Signal string

// The signals; the kubelet's (pkg/kubelet/eviction/api). nodefs is the file
// system with pods' volumes and logs, imagefs that of the image store.
const (
	MemoryAvailable   Signal = "memory.available"
	NodeFSAvailable   Signal = "nodefs.available"
	NodeFSInodesFree  Signal = "nodefs.inodesFree"
	ImageFSAvailable  Signal = "imagefs.available"
	ImageFSInodesFree Signal = "imagefs.inodesFree"
	PIDAvailable      Signal = "pid.available"
)

// Signals are all there are, those that are relieved first in front.
var Signals = []Signal{MemoryAvailable, NodeFSAvailable, NodeFSInodesFree, ImageFSAvailable, ImageFSInodesFree, PIDAvailable}

// What pods are evicted for, beside memory and ephemeral-storage.
const (
	inodes v1.ResourceName = "inodes"
	pids   v1.ResourceName = "pids"
)

// Resource is what a signal is about, in the kubelet's words.
func (s Signal) Resource() v1.ResourceName {
	switch s {
	case MemoryAvailable:
		return v1.ResourceMemory
	case PIDAvailable:
		return pids
	case NodeFSInodesFree, ImageFSInodesFree:
		return inodes
	}
	return v1.ResourceEphemeralStorage
}

// Condition is what the node says of itself when the signal is low.
func (s Signal) Condition() v1.NodeConditionType {
	switch s {
	case MemoryAvailable:
		return v1.NodeMemoryPressure
	case PIDAvailable:
		return v1.NodePIDPressure
	}
	return v1.NodeDiskPressure
}

// Value is an amount, or a share of the capacity. The zero Value is none.
type Value struct {
	Quantity string  // in canonical form; "": Percent counts
	Percent  float64 // of the capacity
}

// of is the value as a quantity, for a capacity.
func (v Value) of(capacity int64) resource.Quantity {
	if v.Quantity != "" {
		return resource.MustParse(v.Quantity) // parsed before
	}
	return *resource.NewQuantity(int64(float64(capacity)*v.Percent/100), resource.BinarySI)
}

// Threshold is how low a signal may fall. Two with the same fields are the same.
type Threshold struct {
	Signal     Signal
	Value      Value
	MinReclaim Value         // how far above Value relief has to bring it
	Soft       bool          // pods get a grace
	Grace      time.Duration // how long it may be low before pods are evicted
}

// Parse reads thresholds as the kubelet's configuration has them: hard ones
// evict at once, soft ones after their grace period, minReclaim holds for both.
// "0%" and "100%" mean none. All errors are reported at once.
func Parse(hard, soft, grace, minReclaim map[string]string) ([]Threshold, error) {
	var list []Threshold
	var errs []error
	bad := func(key, signal, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s.%q: %s", key, signal, fmt.Sprintf(format, args...)))
	}
	known := func(key string, m map[string]string) []string {
		names := slices.Sorted(maps.Keys(m))
		return slices.DeleteFunc(names, func(name string) bool {
			if !slices.Contains(Signals, Signal(name)) {
				bad(key, name, "there is no such signal: want one of %v", Signals)
				return true
			}
			return false
		})
	}
	reclaim := make(map[string]Value)
	for _, name := range known("minimum_reclaim", minReclaim) {
		v, err := parseValue(minReclaim[name])
		if err != nil {
			bad("minimum_reclaim", name, "%v", err)
		}
		reclaim[name] = v
	}
	add := func(key, name, text string, t Threshold) {
		v, err := parseValue(text)
		if err != nil {
			bad(key, name, "%v", err)
		}
		if v != (Value{}) {
			t.Signal, t.Value, t.MinReclaim = Signal(name), v, reclaim[name]
			list = append(list, t)
		}
	}
	for _, name := range known("hard", hard) {
		add("hard", name, hard[name], Threshold{})
	}
	for _, name := range known("soft", soft) {
		d, err := time.ParseDuration(grace[name])
		if err != nil || d < 0 {
			bad("soft_grace_period", name, `want how long it may be low before pods are evicted, such as "90s"; every soft threshold needs it`)
			continue
		}
		add("soft", name, soft[name], Threshold{Soft: true, Grace: d})
	}
	for _, name := range known("soft_grace_period", grace) {
		if _, ok := soft[name]; !ok {
			bad("soft_grace_period", name, "there is no soft threshold for it")
		}
	}
	slices.SortStableFunc(list, func(a, b Threshold) int {
		return cmp.Compare(slices.Index(Signals, a.Signal), slices.Index(Signals, b.Signal))
	})
	return list, errors.Join(errs...)
}

func parseValue(text string) (Value, error) {
	if share, ok := strings.CutSuffix(text, "%"); ok {
		p, err := strconv.ParseFloat(share, 64)
		if err != nil || !(p >= 0 && p <= 100) {
			return Value{}, fmt.Errorf("%q: want a percentage from 0%% to 100%%", text)
		}
		if p == 0 || p == 100 {
			return Value{}, nil
		}
		return Value{Percent: p}, nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() <= 0 {
		return Value{}, fmt.Errorf(`%q: want a quantity such as "100Mi" or a percentage such as "10%%"; "0%%" is none`, text)
	}
	return Value{Quantity: q.String()}, nil
}

// Observation is how much of something there is, and is left: bytes, inodes or
// processes.
type Observation struct {
	Available, Capacity int64
}

// Observations are what could be measured; a signal that is not in it is never low.
type Observations map[Signal]Observation

// low says whether a threshold is crossed. With reclaim, it is until what has to
// be reclaimed is.
func (o Observations) low(t Threshold, reclaim bool) bool {
	seen, known := o[t.Signal]
	if !known {
		return false
	}
	limit := t.Value.of(seen.Capacity)
	if reclaim && t.MinReclaim != (Value{}) {
		limit.Add(t.MinReclaim.of(seen.Capacity))
	}
	return limit.CmpInt64(seen.Available) > 0
}

// State is what is remembered from look to look. The zero value remembers nothing.
type State struct {
	Since map[Threshold]time.Time            // low without a break since then
	Last  map[v1.NodeConditionType]time.Time // when a condition last held
	met   []Threshold                        // low for longer than their grace
}

// Restored is the state of a daemon that was restarted while these conditions held.
func Restored(conditions []v1.NodeConditionType, now time.Time) State {
	s := State{Last: make(map[v1.NodeConditionType]time.Time)}
	for _, c := range conditions {
		s.Last[c] = now
	}
	return s
}

// Verdict is what a look amounts to.
type Verdict struct {
	Conditions []v1.NodeConditionType // that hold, or held within the transition period; sorted
	Starved    []Threshold            // to be relieved now, the most urgent first
}

// Look judges observations (the kubelet's synchronize, pkg/kubelet/eviction/
// eviction_manager.go). A condition holds until it was not seen for as long as
// transition says, so that it does not come and go with each eviction.
func Look(thresholds []Threshold, transition time.Duration, s State, o Observations, now time.Time) (State, Verdict) {
	next := State{Since: make(map[Threshold]time.Time), Last: make(map[v1.NodeConditionType]time.Time)}
	maps.Copy(next.Last, s.Last)
	var v Verdict
	for _, t := range thresholds {
		unresolved := slices.Contains(s.met, t) && o.low(t, true)
		if !o.low(t, false) && !unresolved {
			continue
		}
		since, was := s.Since[t]
		if !was {
			since = now
		}
		next.Since[t] = since
		next.Last[t.Signal.Condition()] = now
		if now.Sub(since) >= t.Grace {
			v.Starved = append(v.Starved, t)
		}
	}
	next.met = v.Starved
	for c, at := range next.Last {
		if now.Sub(at) >= transition && now.After(at) {
			delete(next.Last, c)
			continue
		}
		v.Conditions = append(v.Conditions, c)
	}
	slices.Sort(v.Conditions)
	return next, v
}

// Relieved says whether nothing is low any more, with what has to be reclaimed
// beyond the thresholds: then no pod needs to go.
func Relieved(thresholds []Threshold, o Observations) bool {
	return !slices.ContainsFunc(thresholds, func(t Threshold) bool { return o.low(t, true) })
}
