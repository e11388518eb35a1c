package cpuset

import (
	"cmp"
	"slices"
)

// take chooses n of the available CPUs, as the kubelet's
// takeByTopologyNUMAPacked (pkg/kubelet/cm/cpumanager/cpu_assignment.go): whole
// memory nodes and sockets where n is that large, then whole cores, then single
// threads; always from the part of the host that has the fewest left, so that
// the others stay whole. It reports false when there are too few.
func (t Topology) take(available Set, n int) (Set, bool) {
	available = available.Intersection(t.CPUs())
	taken := Set{}
	if n > available.Size() {
		return taken, false
	}
	grab := func(groups []Set, whole map[string]bool) {
		for _, g := range groups {
			if whole[g.String()] && g.Size() <= n-taken.Size() && g.IsSubsetOf(available) {
				taken, available = taken.Union(g), available.Difference(g)
			}
		}
	}
	outer, inner := numa, socket
	if len(t.by(socket)) < len(t.by(numa)) {
		outer, inner = socket, numa
	}
	grab(t.only(available).sorted(outer), t.complete(outer))
	grab(t.only(available).nested(outer, inner), t.complete(inner))
	// Where cores differ (hybrid processors), large ones first: an even number of
	// CPUs then never ends in half a core.
	cores := t.only(available).nested(outer, inner, core)
	slices.SortStableFunc(cores, func(a, b Set) int { return cmp.Compare(b.Size(), a.Size()) })
	grab(cores, t.complete(core))
	for _, c := range t.only(available).nested(outer, inner, core) {
		for _, id := range c.List() {
			if taken.Size() < n {
				taken = taken.Union(one(id))
			}
		}
	}
	return taken, true
}

// takeNear adds n of the available CPUs to have: the rest of its cores first,
// then what is near, then any.
func (t Topology) takeNear(have, available Set, n int) (Set, bool) {
	if n > available.Difference(have).Size() {
		return have, false
	}
	for _, where := range []Set{t.withSiblings(have), t.nearby(have), t.CPUs()} {
		free := where.Intersection(available).Difference(have)
		more, _ := t.take(free, min(n, free.Size()))
		have, n = have.Union(more), n-more.Size()
	}
	return have, n == 0
}

// complete are the sets that make up a whole part of the host.
func (t Topology) complete(part func(CPU) int) map[string]bool {
	whole := make(map[string]bool)
	for _, set := range t.by(part) {
		whole[set.String()] = true
	}
	return whole
}

// sorted are the CPUs grouped by a part, smallest group first, then by number.
func (t Topology) sorted(part func(CPU) int) []Set {
	groups := t.by(part)
	numbers := make([]int, 0, len(groups))
	for n := range groups {
		numbers = append(numbers, n)
	}
	slices.SortFunc(numbers, func(a, b int) int {
		return cmp.Or(cmp.Compare(groups[a].Size(), groups[b].Size()), cmp.Compare(a, b))
	})
	sets := make([]Set, len(numbers))
	for i, n := range numbers {
		sets[i] = groups[n]
	}
	return sets
}

// nested are the CPUs grouped by the last part, in the order of the parts
// before it.
func (t Topology) nested(parts ...func(CPU) int) []Set {
	groups := t.sorted(parts[0])
	if len(parts) == 1 {
		return groups
	}
	var sets []Set
	for _, g := range groups {
		sets = append(sets, t.only(g).nested(parts[1:]...)...)
	}
	return sets
}
