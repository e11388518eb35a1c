package workload

import (
	"fmt"
	"maps"
	"slices"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
)

// fleet is one look at a daemon set.
type fleet struct {
	c     Cluster
	out   *Outcome
	ds    *apps.DaemonSet
	hash  string // of its template: which revision's pods are up to date
	nodes []*v1.Node
	pods  map[string][]*v1.Pod // by node, from old to new; without those that ended and are being deleted
	done  map[string]bool      // names of pods that are being deleted already
}

// daemonSet keeps one pod on each node that should have one, as upstream's
// daemon set controller does.
func (c Cluster) daemonSet(ds *apps.DaemonSet) (out Outcome) {
	f := &fleet{c: c, out: &out, ds: ds.DeepCopy(), pods: make(map[string][]*v1.Pod), done: make(map[string]bool)}
	f.nodes = list[*v1.Node](c, KindNode, "")
	owned := claim(c, &out, ds, selectorOf(ds.Spec.Selector), list[*v1.Pod](c, KindPod, ds.Namespace))
	slices.SortFunc(owned, byAge)
	for _, p := range owned {
		if ended := p.Status.Phase == v1.PodFailed || p.Status.Phase == v1.PodSucceeded; ended && p.DeletionTimestamp != nil {
			continue
		}
		f.pods[meantFor(p)] = append(f.pods[meantFor(p)], p)
	}
	old := f.history()
	if f.hash == "" { // a name collided: the next look takes another
		out.change(Status, f.ds)
		return out
	}
	for _, node := range f.nodes {
		f.manage(node)
	}
	for name, pods := range f.pods {
		if !slices.ContainsFunc(f.nodes, func(n *v1.Node) bool { return n.Name == name }) {
			f.delete(pods...) // its node is gone, or has never been
		}
	}
	if ds.Spec.UpdateStrategy.Type == apps.RollingUpdateDaemonSetStrategyType {
		f.update()
	}
	f.cleanHistory(old, owned)
	f.status()
	return out
}

// belongs says whether a node should get a pod, and whether one that is there
// may stay (upstream's NodeShouldRunDaemonPod).
func (f *fleet) belongs(node *v1.Node) (run, stay bool) {
	spec := f.ds.Spec.Template.Spec.DeepCopy()
	if spec.NodeName != "" && spec.NodeName != node.Name {
		return false, false
	}
	tolerate(spec)
	if fits, err := nodeaffinity.GetRequiredNodeAffinity(&v1.Pod{Spec: *spec}).Match(node); err == nil && !fits {
		return false, false
	}
	untolerated := func(effects ...v1.TaintEffect) bool {
		_, found := corev1.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, spec.Tolerations,
			func(t *v1.Taint) bool { return slices.Contains(effects, t.Effect) }, false)
		return found
	}
	if untolerated(v1.TaintEffectNoExecute, v1.TaintEffectNoSchedule) {
		return false, !untolerated(v1.TaintEffectNoExecute)
	}
	return true, true
}

// tolerate adds what every daemon set's pods tolerate: they are to run whatever
// state the node is in (upstream's AddOrUpdateDaemonPodTolerations).
func tolerate(spec *v1.PodSpec) {
	add := func(effect v1.TaintEffect, keys ...string) {
		for _, key := range keys {
			t := v1.Toleration{Key: key, Operator: v1.TolerationOpExists, Effect: effect}
			spec.Tolerations = slices.DeleteFunc(spec.Tolerations, func(o v1.Toleration) bool { return t.MatchToleration(&o) })
			spec.Tolerations = append(spec.Tolerations, t)
		}
	}
	add(v1.TaintEffectNoExecute, v1.TaintNodeNotReady, v1.TaintNodeUnreachable)
	add(v1.TaintEffectNoSchedule, v1.TaintNodeDiskPressure, v1.TaintNodeMemoryPressure, v1.TaintNodePIDPressure, v1.TaintNodeUnschedulable)
	if spec.HostNetwork {
		add(v1.TaintEffectNoSchedule, v1.TaintNodeNetworkUnavailable)
	}
}

// manage sees to one node but for updates: a pod where there is none, none where
// none belongs, and not two.
func (f *fleet) manage(node *v1.Node) {
	run, stay := f.belongs(node)
	pods := f.pods[node.Name]
	switch {
	case run && len(pods) == 0:
		f.create(node.Name)
	case !stay:
		f.delete(pods...)
	default:
		f.trim(node.Name, f.running(node.Name), run)
	}
}

// running are a node's pods that are there to stay; those that ended are
// deleted, and the next look makes new ones.
func (f *fleet) running(node string) (running []*v1.Pod) {
	for _, p := range f.pods[node] {
		switch {
		case p.DeletionTimestamp != nil:
		case p.Status.Phase == v1.PodFailed:
			if wait := p.CreationTimestamp.Add(failedAgain); wait.After(f.c.Now) {
				f.out.again(wait)
				continue
			}
			f.out.event(f.ds, v1.EventTypeWarning, "FailedDaemonPod", fmt.Sprintf("Found failed daemon pod %s/%s on node %s, will try to kill it", p.Namespace, p.Name, node))
			f.delete(p)
		case p.Status.Phase == v1.PodSucceeded:
			f.out.event(f.ds, v1.EventTypeNormal, "SucceededDaemonPod", fmt.Sprintf("Found succeeded daemon pod %s/%s on node %s, will try to delete it", p.Namespace, p.Name, node))
			f.delete(p)
		default:
			running = append(running, p)
		}
	}
	return running
}

// trim deletes surplus pods of a node: all but the oldest, or, where an update
// may surge, all but the oldest of the old and the oldest of the new.
func (f *fleet) trim(node string, running []*v1.Pod, run bool) {
	if f.surge(1) == 0 {
		f.delete(running[min(1, len(running)):]...)
		return
	}
	if len(running) == 0 && run && len(f.failing(node)) == 0 {
		f.create(node)
	}
	if len(running) < 2 {
		return
	}
	var fresh, old *v1.Pod
	for _, p := range running {
		switch {
		case f.updated(p) && fresh == nil:
			fresh = p
		case !f.updated(p) && old == nil:
			old = p
		default:
			f.delete(p)
		}
	}
	if fresh != nil && old != nil && (!podutil.IsPodReady(old) || f.c.available(fresh, f.ds.Spec.MinReadySeconds)) {
		f.delete(old)
	}
}

// failing are a node's pods that failed too short a time ago to be replaced.
func (f *fleet) failing(node string) []*v1.Pod {
	return slices.DeleteFunc(slices.Clone(f.pods[node]), func(p *v1.Pod) bool {
		return p.Status.Phase != v1.PodFailed || f.done[p.Name]
	})
}

func (f *fleet) updated(p *v1.Pod) bool {
	return p.Labels[apps.DefaultDaemonSetUniqueLabelKey] == f.hash
}

func (f *fleet) create(node string) {
	template := f.ds.Spec.Template.DeepCopy()
	tolerate(&template.Spec)
	template.Labels = with(template.Labels, apps.DefaultDaemonSetUniqueLabelKey, f.hash)
	mean(&template.Spec, node)
	p := f.c.newPod(template, f.ds, KindDaemonSet, len(f.out.Changes))
	if err := f.c.createPod(f.out, p, f.ds); err != nil {
		f.out.again(f.c.Now.Add(refusedAgain))
	}
}

func (f *fleet) delete(pods ...*v1.Pod) {
	for _, p := range pods {
		if p.DeletionTimestamp == nil && !f.done[p.Name] {
			f.done[p.Name] = true
			f.c.deletePod(f.out, p, f.ds)
		}
	}
}

// status is upstream's updateDaemonSetStatus.
func (f *fleet) status() {
	ds := f.ds
	s := apps.DaemonSetStatus{ObservedGeneration: ds.Generation, CollisionCount: ds.Status.CollisionCount, Conditions: ds.Status.Conditions}
	for _, node := range f.nodes {
		run, _ := f.belongs(node)
		pods := f.pods[node.Name]
		switch {
		case run:
			s.DesiredNumberScheduled++
		case len(pods) > 0:
			s.NumberMisscheduled++
		}
		if !run || len(pods) == 0 {
			continue
		}
		s.CurrentNumberScheduled++
		p := pods[0]
		if f.updated(p) {
			s.UpdatedNumberScheduled++
		}
		if podutil.IsPodReady(p) {
			s.NumberReady++
			if f.c.available(p, ds.Spec.MinReadySeconds) {
				s.NumberAvailable++
			}
		}
	}
	for _, pods := range f.pods {
		for _, p := range pods {
			if podutil.IsPodReady(p) && !f.c.available(p, ds.Spec.MinReadySeconds) {
				f.out.again(availableAt(p, ds.Spec.MinReadySeconds))
			}
		}
	}
	s.NumberUnavailable = s.DesiredNumberScheduled - s.NumberAvailable
	ds.Status = s
	f.out.change(Status, ds)
}

// on are a node's pods that stay, by whether they are up to date; ok is false
// when there are more than one of a kind, which manage sees to first.
func (f *fleet) on(node string) (fresh, old *v1.Pod, ok bool) {
	for _, p := range f.pods[node] {
		switch {
		case p.DeletionTimestamp != nil || f.done[p.Name]:
		case f.updated(p) && fresh == nil:
			fresh = p
		case !f.updated(p) && old == nil:
			old = p
		default:
			return nil, nil, false
		}
	}
	return fresh, old, true
}

// places are the nodes that an update goes through, by name: those with pods and
// those that should have one.
func (f *fleet) places() []string {
	names := slices.Collect(maps.Keys(f.pods))
	for _, node := range f.nodes {
		if run, _ := f.belongs(node); run && !slices.Contains(names, node.Name) {
			names = append(names, node.Name)
		}
	}
	slices.Sort(names)
	return names
}
