package plan

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// DrainNodes is what `shoal drain` of these nodes would do: they are cordoned,
// and their pods evicted as their disruption budgets allow, again and again
// until all are gone or none may go (kubectl drain).
func DrainNodes(w World, nodes ...string) (Outcome, error) {
	if err := w.check(nodes); err != nil {
		return Outcome{}, err
	}
	s := newWorld(w)
	out := s.outcome(Drain, nodes)
	before := s.count(nil)
	concerned := s.on(nodes)
	for _, name := range nodes {
		s.cordon(name)
	}
	s.settle()
	d := drain{world: s, least: before}
	for _, p := range concerned {
		f, flags := s.drained(p)
		out.Flags = append(out.Flags, flags...)
		if f.Fate != Stays {
			d.left = append(d.left, p)
		}
		out.Pods = append(out.Pods, f)
	}
	slices.Sort(out.Flags)
	out.Flags = slices.Compact(out.Flags)
	d.run()
	for i, p := range concerned {
		if why := d.refused[p]; why != "" && out.Pods[i].Fate != Stays {
			out.Pods[i].Fate, out.Pods[i].Why = Blocked, why
		}
	}
	s.conclude(&out, concerned, before, d.least)
	for i, p := range concerned {
		if waited := d.waited[p]; waited != "" && out.Pods[i].Fate == Moves {
			out.Notes = append(out.Notes, p.Namespace+"/"+p.Name+" waits until others of its kind are ready elsewhere: "+waited)
		}
	}
	return out, nil
}

// cordon keeps new pods off a node.
func (s *world) cordon(name string) {
	key := manifests.Key{Kind: workload.KindNode.Kind, Name: name}
	o, _ := s.Get(key)
	n := o.(*v1.Node).DeepCopy()
	n.Spec.Unschedulable = true
	taint := v1.Taint{Key: v1.TaintNodeUnschedulable, Effect: v1.TaintEffectNoSchedule}
	if !slices.ContainsFunc(n.Spec.Taints, func(t v1.Taint) bool { return t.MatchTaint(&taint) }) {
		n.Spec.Taints = append(n.Spec.Taints, taint)
	}
	s.own[name] = n
	s.put(key, n)
}

// drained is what a drain does with a pod, whatever budgets say, and the flags of
// `shoal drain` without which it would not begin (kubectl's pkg/drain filters).
func (s *world) drained(p *v1.Pod) (f Pod, flags []string) {
	f = s.about(p, Surplus)
	f.Why = "those that are left are enough"
	ref := metav1.GetControllerOf(p)
	switch {
	case workload.Static(p):
		f.Fate, f.Natural, f.Why = Stays, true, "a static pod of that host"
		return f, nil
	case ref != nil && ref.Kind == workload.KindDaemonSet.Kind:
		f.Fate, f.Natural, f.Why = Stays, true, "its daemon set has one on each node"
		return f, []string{"--ignore-daemonsets"}
	case ref == nil && s.Filed[podKey(p)] && s.bound(p):
		f.Fate, f.Why = Stays, "its file names its node (spec.nodeName): it ends, and is made anew there"
	case ref == nil && !s.Filed[podKey(p)]:
		f.Fate, f.Why = Ends, "nothing makes it anew: neither a file nor a controller"
	}
	if ref == nil {
		flags = append(flags, "--force")
	}
	if slices.ContainsFunc(p.Spec.Volumes, func(v v1.Volume) bool { return v.EmptyDir != nil }) {
		flags = append(flags, "--delete-emptydir-data")
	}
	return f, flags
}

// drain is the evictions of a drain.
type drain struct {
	*world
	left    []*v1.Pod
	refused map[*v1.Pod]string // why one may not go now
	waited  map[*v1.Pod]string // why one could not go at once
	least   counts
}

// run evicts until none is left, or none may go.
func (d *drain) run() {
	d.waited = make(map[*v1.Pod]string)
	for gone := true; gone; {
		gone, d.refused = false, make(map[*v1.Pod]string)
		var left []*v1.Pod
		for _, p := range d.left {
			now, ok := d.Get(podKey(p))
			if !ok || now.GetUID() != p.UID {
				gone = true // it made room for another, say
				continue
			}
			if why := d.mayNot(now.(*v1.Pod)); why != "" {
				d.refused[p], left = why, append(left, p)
				continue
			}
			d.end(now.(*v1.Pod))
			gone = true
		}
		for p, why := range d.refused {
			if d.waited[p] == "" {
				d.waited[p] = why
			}
		}
		d.left = left
		d.lower(d.count(nil))
		d.settle()
	}
}

// mayNot is why a pod may not be evicted now, "" if it may.
func (d *drain) mayNot(p *v1.Pod) string {
	budget, _, err := d.cluster().MayEvict(p)
	switch {
	case err == nil:
		return ""
	case budget == nil:
		return err.Error()
	}
	return "the disruption budget " + budget.Name + " " + err.Error()
}

// lower notes the least that was ready at any time.
func (d *drain) lower(now counts) {
	least := counts{ready: make(map[string]int), healthy: make(map[manifests.Key]int)}
	for group, n := range d.least.ready {
		least.ready[group] = min(n, now.ready[group])
	}
	for key, n := range d.least.healthy {
		least.healthy[key] = min(n, now.healthy[key])
	}
	d.least = least
}
