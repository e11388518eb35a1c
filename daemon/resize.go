package daemon

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/placement"
)

// roomFor says why the node has no room for what an edited pod asks for beside
// what the others were given; "" when it has: then the pod was given it
// (KEP-1287: a resize is admitted as a pod is).
func (d *Daemon) roomFor(p *v1.Pod) (why string) {
	o, ok := d.view.Get(d.nodeKey())
	if !ok {
		return "" // as in refuse
	}
	d.rooms.mu.Lock()
	defer d.rooms.mu.Unlock()
	var others []*v1.Pod
	for _, other := range append(d.pods(), d.leftovers.list()...) {
		if other.UID != p.UID && d.rooms.holds(other) {
			others = append(others, d.rooms.asGiven(other))
		}
	}
	if why := placement.Grow(p, o.(*v1.Node), others); why != "" {
		return why
	}
	d.rooms.give(p)
	return ""
}

// given notes what a pod has: less than before, or what an earlier daemon gave it.
func (d *Daemon) given(p *v1.Pod) {
	d.rooms.mu.Lock()
	defer d.rooms.mu.Unlock()
	d.rooms.give(p)
}

func (r *rooms) give(p *v1.Pod) {
	if r.given == nil {
		r.given = make(map[types.UID]*v1.Pod)
	}
	r.given[p.UID] = p
}

// holds says whether the node has taken the pod in. The caller has the lock.
func (r *rooms) holds(p *v1.Pod) bool { return p.Status.StartTime != nil || r.taken[p.UID] }

// asGiven is a pod with the requests that it was given, not those of an edit that
// waits: two such would keep each other waiting.
func (r *rooms) asGiven(p *v1.Pod) *v1.Pod {
	p = p.DeepCopy()
	given := r.given[p.UID]
	for _, c := range containersOf(p) {
		if given != nil {
			if g := slices.IndexFunc(containersOf(given), func(o *v1.Container) bool { return o.Name == c.Name }); g >= 0 {
				c.Resources = containersOf(given)[g].Resources
			}
			continue
		}
		for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			if s.Name == c.Name && s.AllocatedResources != nil {
				c.Resources.Requests = s.AllocatedResources
			}
		}
	}
	return p
}

func containersOf(p *v1.Pod) (list []*v1.Container) {
	for _, containers := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			list = append(list, &containers[i])
		}
	}
	return list
}
