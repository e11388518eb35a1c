package workload

import (
	"slices"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// surge is how many nodes of so many may have a second pod amid an update.
func (f *fleet) surge(nodes int) int {
	r := f.ds.Spec.UpdateStrategy.RollingUpdate
	if f.ds.Spec.UpdateStrategy.Type != apps.RollingUpdateDaemonSetStrategyType || r == nil {
		return 0
	}
	return int(scaled(r.MaxSurge, int32(nodes), true))
}

// unavailable is how many nodes of so many may be without an available pod.
func (f *fleet) unavailable(nodes int) int {
	r := f.ds.Spec.UpdateStrategy.RollingUpdate
	if r == nil {
		return 0
	}
	n := r.MaxUnavailable
	if n == nil {
		n = &intstr.IntOrString{Type: intstr.Int, IntVal: 1}
	}
	return int(scaled(n, int32(nodes), true))
}

// update replaces pods of older revisions, within what may be unavailable or
// surge (upstream's rollingUpdate).
func (f *fleet) update() {
	nodes := 0
	for _, node := range f.nodes {
		if run, _ := f.belongs(node); run {
			nodes++
		}
	}
	surge, unavailable := f.surge(nodes), f.unavailable(nodes)
	switch {
	case surge > 0:
		f.updateBySurge(surge, nodes)
	case unavailable == 0:
		f.updateInPlaces(1) // or nothing would ever move
	default:
		f.updateInPlaces(unavailable)
	}
}

// updateInPlaces deletes old pods where that leaves no more than so many nodes
// without an available one; manage then makes the new ones. Old pods that are
// not available go at once.
func (f *fleet) updateInPlaces(unavailable int) {
	var sick, candidates []*v1.Pod
	lacking := 0
	for _, node := range f.places() {
		fresh, old, ok := f.on(node)
		switch {
		case !ok || (fresh == nil) == (old == nil):
			lacking++ // manage sees to it
		case fresh != nil:
			if !f.c.available(fresh, f.ds.Spec.MinReadySeconds) {
				lacking++
			}
		case !f.c.available(old, f.ds.Spec.MinReadySeconds):
			lacking++
			sick = append(sick, old)
		default:
			candidates = append(candidates, old)
		}
	}
	f.delete(sick...)
	f.delete(candidates[:min(max(0, unavailable-lacking), len(candidates))]...)
}

// updateBySurge makes new pods beside old ones on so many nodes at a time, and
// deletes an old one when the new one is available. Old pods that are not
// available get their successor at once.
func (f *fleet) updateBySurge(surge, desired int) {
	var candidates, misplaced []*v1.Pod
	surging, available := 0, 0
	for _, node := range f.places() {
		fresh, old, ok := f.on(node)
		if !ok {
			surging++
			continue
		}
		works := func(p *v1.Pod) bool { return p != nil && f.c.available(p, f.ds.Spec.MinReadySeconds) }
		if works(old) || old == nil && works(fresh) {
			available++
		}
		switch {
		case old == nil:
		case fresh != nil && works(fresh):
			f.delete(old)
		case fresh != nil:
			surging++
		case !f.runs(node) && works(old):
			misplaced = append(misplaced, old)
		case !f.runs(node):
			f.delete(old)
		case works(old):
			candidates = append(candidates, old)
		default:
			f.create(node)
		}
	}
	f.delete(misplaced[:min(max(0, available-desired), len(misplaced))]...)
	for _, old := range candidates[:min(max(0, surge-surging), len(candidates))] {
		f.create(old.Spec.NodeName)
	}
}

func (f *fleet) runs(node string) bool {
	i := slices.IndexFunc(f.nodes, func(n *v1.Node) bool { return n.Name == node })
	if i < 0 {
		return false
	}
	run, _ := f.belongs(f.nodes[i])
	return run
}
