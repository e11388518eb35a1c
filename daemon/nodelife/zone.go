package nodelife

import v1 "k8s.io/api/core/v1"

// ZoneState is how much of a zone is not ready (upstream's ComputeZoneState).
type ZoneState string

// The states of a zone.
const (
	Normal            ZoneState = "Normal"
	PartialDisruption ZoneState = "PartialDisruption" // at least three nodes, and a large part, are not ready
	FullDisruption    ZoneState = "FullDisruption"    // no node is ready
)

// excluded is the label of nodes that do not count for a zone's state.
const excluded = "node.kubernetes.io/exclude-disruption"

// counts says whether a node counts for its zone's state. One that has left is
// no sign of a disruption: somebody meant it.
func counts(n Node) bool {
	if n.State == Left {
		return false
	}
	if n.Object == nil {
		return true
	}
	_, out := n.Object.Labels[excluded]
	return !out
}

func (d *decider) zones(healths map[string]health) map[string]ZoneState {
	ready, not := make(map[string]int), make(map[string]int)
	states := make(map[string]ZoneState)
	for _, n := range d.Nodes {
		z := zone(n)
		states[z] = Normal // if only by one that does not count
		switch {
		case !counts(n):
		case healths[n.Name].status == v1.ConditionTrue:
			ready[z]++
		default:
			not[z]++
		}
	}
	for z := range states {
		switch {
		case ready[z] == 0 && not[z] > 0:
			states[z] = FullDisruption
		case not[z] > 2 && float64(not[z])/float64(not[z]+ready[z]) >= d.Config.UnhealthyZoneThreshold:
			states[z] = PartialDisruption
		}
	}
	return states
}

// size is how many nodes count for a zone's state.
func (d *decider) size(of string) (n int) {
	for _, node := range d.Nodes {
		if counts(node) && zone(node) == of {
			n++
		}
	}
	return n
}
