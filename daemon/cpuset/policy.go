package cpuset

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/utils/cpuset"
)

// Policy is how CPUs are handed out. The zero value is the kubelet's "none":
// nobody holds any.
type Policy struct {
	// Static gives CPUs to those who may hold some.
	Static bool
	// Reserved CPUs are never held: they are for the system and for whoever
	// shares (reservedSystemCPUs). Empty: those of the first core.
	Reserved Set
	// FullCoresOnly gives whole physical cores only, and refuses numbers that
	// do not fill them (full-pcpus-only).
	FullCoresOnly bool
	// Strict keeps those who share off the reserved CPUs
	// (strict-cpu-reservation).
	Strict bool
}

// Node is a host under a policy.
type Node struct {
	Topology Topology
	Policy   Policy
}

// NewNode checks the policy against the host, and fills in what it leaves open.
func NewNode(t Topology, p Policy) (Node, error) {
	n := Node{t, p}
	if !p.Static {
		return n, nil
	}
	if strange := p.Reserved.Difference(t.CPUs()); !strange.IsEmpty() {
		return n, fmt.Errorf("reserved CPUs %s are not online on this host, which has %s", strange, t.CPUs())
	}
	if p.Reserved.IsEmpty() {
		n.Policy.Reserved = t.withSiblings(one(t[0].ID))
	}
	if n.Policy.Strict && n.Policy.Reserved.Equals(t.CPUs()) {
		return n, fmt.Errorf("all CPUs of this host (%s) are reserved: none is left for pods", t.CPUs())
	}
	return n, nil
}

// Holding is the CPUs that each container of one pod holds.
type Holding map[string]Set

// CPUs are all that the pod holds.
func (h Holding) CPUs() Set {
	all := Set{}
	for _, set := range h {
		all = all.Union(set)
	}
	return all
}

// Held is what is held, by pod (its UID).
type Held map[string]Holding

// besides is what all pods but one hold.
func (h Held) besides(pod string) Set {
	all := Set{}
	for uid, holding := range h {
		if uid != pod {
			all = all.Union(holding.CPUs())
		}
	}
	return all
}

// Allocatable are the CPUs that may be held.
func (n Node) Allocatable() Set {
	if !n.Policy.Static {
		return Set{}
	}
	if n.Policy.FullCoresOnly {
		// A thread whose sibling is reserved is no whole core.
		return n.Topology.CPUs().Difference(n.Topology.withSiblings(n.Policy.Reserved))
	}
	return n.Topology.CPUs().Difference(n.Policy.Reserved)
}

// Shared are the CPUs of those who hold none.
func (n Node) Shared(held Held) Set {
	shared := n.Topology.CPUs().Difference(held.besides(""))
	if n.Policy.Static && n.Policy.Strict {
		shared = shared.Difference(n.Policy.Reserved)
	}
	return shared
}

// Place decides what a pod holds, from what it holds already and what others
// do. What it holds it keeps, as far as it needs it and may have it. A pod that
// can't get all that it needs is refused, with a *Refusal.
func (n Node) Place(held Held, pod string, needs []Need) (Holding, error) {
	if !n.Policy.Static {
		return nil, nil
	}
	p := placing{
		node: n, old: held[pod], new: make(Holding),
		free: n.Allocatable().Difference(held.besides(pod)),
	}
	// Those that run side by side come first: an init container is over by then
	// and makes do with theirs.
	for _, kind := range []Kind{Sidecar, App, Init} {
		for _, need := range needs {
			if need.Kind != kind || need.CPUs == 0 {
				continue
			}
			if err := p.place(need); err != nil {
				return nil, err
			}
		}
	}
	with := maps.Clone(held)
	if with == nil {
		with = make(Held)
	}
	with[pod] = p.new
	if len(p.new) > 0 && n.Shared(with).IsEmpty() {
		refusal := nothingShared(needs)
		refusal.Never = n.Shared(Held{pod: p.new}).IsEmpty()
		return nil, refusal
	}
	return p.new, nil
}

// nothingShared refuses the last CPUs, which with strict reservation are those
// that all other pods run on. (The kubelet gives them away, and then refuses to
// start.)
func nothingShared(needs []Need) *Refusal {
	last := needs[len(needs)-1]
	return &Refusal{
		Reason: UnexpectedAdmissionError, Container: last.Container, Wanted: last.CPUs,
		Message: "Allocate failed due to no cpu being left for pods that share cpus, which is unexpected",
	}
}

// placing gathers one pod's holding.
type placing struct {
	node Node
	old  Holding
	new  Holding
	free Set // nobody holds them, or the pod's containers did so far
	apps Set // held by containers that start after all init containers
}

func (p *placing) place(need Need) error {
	if err := p.aligned(need); err != nil {
		return err
	}
	t := p.node.Topology
	available := p.free
	if need.Kind == Init {
		available = available.Union(p.apps)
	}
	if need.CPUs > available.Size() {
		return p.tooFew(need, available)
	}
	keep := p.old[need.Container].Intersection(available)
	if p.node.Policy.FullCoresOnly && !t.withSiblings(keep).Equals(keep) {
		keep = Set{}
	}
	if keep.Size() > need.CPUs {
		keep, _ = t.take(keep, need.CPUs)
	}
	if keep.IsEmpty() && need.Kind == Init {
		keep, _ = t.take(p.apps, min(need.CPUs, p.apps.Size()))
	}
	// What the pod's other containers hold is left to them, if that can be.
	rest := available.Difference(p.reclaimed(need))
	if need.CPUs-keep.Size() > rest.Difference(keep).Size() {
		rest = available
	}
	got, _ := t.takeNear(keep, rest, need.CPUs-keep.Size())
	p.new[need.Container] = got
	switch need.Kind {
	case App:
		p.apps = p.apps.Union(got)
		p.free = p.free.Difference(got)
	case Sidecar:
		p.free = p.free.Difference(got)
	case Init: // the next one, and nobody else, may use them too
		p.apps = p.apps.Union(got)
		p.free = p.free.Difference(got)
	}
	return nil
}

// reclaimed is what the pod's other containers hold that were not placed yet.
func (p *placing) reclaimed(need Need) Set {
	all := Set{}
	for name, set := range p.old {
		if _, done := p.new[name]; !done && name != need.Container {
			all = all.Union(set)
		}
	}
	if p.node.Policy.FullCoresOnly { // half a core is no use to anybody
		return p.node.Topology.withSiblings(all)
	}
	return all
}

// aligned refuses what full cores can't give.
func (p *placing) aligned(need Need) error {
	threads := p.node.Topology.ThreadsPerCore()
	if !p.node.Policy.FullCoresOnly || need.CPUs%threads == 0 {
		return nil
	}
	return &Refusal{
		Reason: SMTAlignmentError, Container: need.Container, Wanted: need.CPUs, Never: true,
		Message: fmt.Sprintf("SMT Alignment Error: requested %d cpus not multiple cpus per core = %d", need.CPUs, threads),
	}
}

// tooFew says that there are fewer CPUs than asked for, in the kubelet's words.
func (p *placing) tooFew(need Need, available Set) error {
	r := &Refusal{
		Reason: UnexpectedAdmissionError, Container: need.Container, Wanted: need.CPUs, Available: available.Size(),
		Message: fmt.Sprintf("Allocate failed due to not enough cpus available to satisfy request: requested=%d, available=%d, which is unexpected",
			need.CPUs, available.Size()),
		Never: need.CPUs > p.node.Allocatable().Size(),
	}
	if p.node.Policy.FullCoresOnly {
		r.Reason = SMTAlignmentError
		r.Message = fmt.Sprintf("SMT Alignment Error: not enough free physical CPUs: available physical CPUs = %d, requested CPUs = %d, CPUs per core = %d",
			available.Size(), need.CPUs, p.node.Topology.ThreadsPerCore())
	}
	return r
}

// Reasons of refused pods; the kubelet's.
const (
	UnexpectedAdmissionError = "UnexpectedAdmissionError"
	SMTAlignmentError        = "SMTAlignmentError"
)

// Refusal is why a pod can't have the CPUs that it needs.
type Refusal struct {
	Reason    string // as the pod's status has it
	Message   string
	Container string
	Wanted    int
	Available int
	Never     bool // it would not fit even if nobody held any
}

func (r *Refusal) Error() string { return r.Message }

// Replan decides anew what pods hold, after the policy or the topology has
// changed: all pods that run, with what they need. Those who can keep what they
// hold do. Who can't get what it needs holds none, and shares.
func (n Node) Replan(held Held, needs map[string][]Need) Held {
	next, wishes := make(Held), make(Held)
	var moved []string
	for _, pod := range slices.Sorted(maps.Keys(needs)) {
		holding, err := n.Place(Held{pod: held[pod]}, pod, needs[pod])
		if err == nil && len(holding) > 0 && sameCPUs(holding, held[pod]) {
			next[pod] = holding
			continue
		}
		moved = append(moved, pod)
		wishes[pod] = held[pod]
	}
	for _, pod := range moved {
		with := maps.Clone(next)
		with[pod] = wishes[pod]
		if holding, err := n.Place(with, pod, needs[pod]); err == nil && len(holding) > 0 {
			next[pod] = holding
		}
	}
	return next
}

func sameCPUs(a, b Holding) bool {
	if len(a) != len(b) {
		return false
	}
	for name, set := range a {
		if other, ok := b[name]; !ok || !set.Equals(other) {
			return false
		}
	}
	return true
}

func one(id int) Set { return cpuset.New(id) }
