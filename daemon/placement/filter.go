package placement

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// query is one pod that is to be placed, with all that can be found out about
// it once for all nodes.
type query struct {
	c   *Cluster
	pod *v1.Pod
	o   Options

	required    nodeaffinity.RequiredNodeAffinity
	selective   bool // it selects nodes at all
	tolerations []v1.Toleration
	ports       []hostPort
	requested   resources
	nonZero     scored
	terms       affinity
	near        near
	hard        []spread

	fits []*node // that no filter refused
}

func (c *Cluster) query(p *v1.Pod, o Options) *query {
	q := &query{
		c: c, pod: p, o: o, required: nodeaffinity.GetRequiredNodeAffinity(p), tolerations: tolerations(p),
		ports: hostPorts(p), requested: requests(p), nonZero: nonZeroRequests(p), terms: affinityOf(p),
	}
	q.selective = p.Spec.NodeSelector != nil || p.Spec.Affinity != nil && p.Spec.Affinity.NodeAffinity != nil
	q.findNear()
	q.findSpread()
	return q
}

// Refusal is why one node does not take a pod.
type Refusal struct {
	Node    string
	Reasons []string // in the scheduler's words, those of the first filter that refuses
	// Resolvable says that it might with less on it.
	Resolvable bool
}

// refuses runs the filters in the scheduler's order; the first that refuses has
// the word.
func (q *query) refuses(n *node) (reasons []string, resolvable bool) {
	one := func(reason string, resolvable bool) ([]string, bool) { return []string{reason}, resolvable }
	switch {
	case n.Spec.Unschedulable && !q.toleratesCordon():
		return one("node(s) were unschedulable", false)
	case q.pod.Spec.NodeName != "" && q.pod.Spec.NodeName != n.Name:
		return one("node(s) didn't match the requested node name", false)
	case !q.tolerates(n):
		return one("node(s) had untolerated taint(s)", false)
	case !q.wants(n):
		return one(nodeNotWanted, false)
	case !n.portsFree(q.ports):
		return one(portsTaken, true)
	}
	resolvable = true
	for _, s := range n.shortages(&q.requested) {
		reasons = append(reasons, s.reason())
		resolvable = resolvable && !s.never()
	}
	if len(reasons) > 0 {
		return reasons, resolvable
	}
	if reason, resolvable := q.refusesSpread(n); reason != "" {
		return one(reason, resolvable)
	}
	if reason, resolvable := q.refusesNear(n); reason != "" {
		return one(reason, resolvable)
	}
	return nil, true
}

const (
	nodeNotWanted = "node(s) didn't match Pod's node affinity/selector"
	portsTaken    = "node(s) didn't have free ports for the requested pod ports"
)

// wants says whether the pod's node selector and required node affinity let it
// run there.
func (q *query) wants(n *node) bool {
	if !q.selective {
		return true
	}
	match, err := q.required.Match(n.Node)
	return match && err == nil
}

func (q *query) tolerates(n *node) bool {
	if len(n.Spec.Taints) == 0 {
		return true
	}
	return !q.outstays(n) && tolerated(n.Spec.Taints, q.tolerations, func(t *v1.Taint) bool {
		return t.Effect == v1.TaintEffectNoSchedule || t.Effect == v1.TaintEffectNoExecute
	})
}

// outstays says whether a node is lost, or does not work, for longer than the pod
// would stay there. The scheduler takes no notice of tolerationSeconds: there, a
// pod that tolerates the taints' NoSchedule for ever and their NoExecute for a
// while is put onto a dead node, driven out, and put there again.
func (q *query) outstays(n *node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t v1.Taint) bool {
		if t.Effect != v1.TaintEffectNoExecute || t.Key != v1.TaintNodeUnreachable && t.Key != v1.TaintNodeNotReady {
			return false
		}
		// The first that matches counts, as when the taint drives pods out.
		by := slices.IndexFunc(q.tolerations, func(o v1.Toleration) bool { return o.ToleratesTaint(klog.Logger{}, &t, false) })
		return by >= 0 && q.tolerations[by].TolerationSeconds != nil
	})
}

// cordon is the taint whose toleration lets a pod onto a cordoned node.
var cordon = v1.Taint{Key: v1.TaintNodeUnschedulable, Effect: v1.TaintEffectNoSchedule}

func (q *query) toleratesCordon() bool {
	return tolerated([]v1.Taint{cordon}, q.tolerations, func(*v1.Taint) bool { return true })
}

// tolerated says whether the taints that count are all tolerated.
func tolerated(taints []v1.Taint, by []v1.Toleration, counts func(*v1.Taint) bool) bool {
	_, found := corev1.FindMatchingUntoleratedTaint(klog.Logger{}, taints, by, counts, false)
	return !found
}

// conflict says why no node can match what the pod says about node names; and
// else which names all its terms allow, nil for any (NodeAffinity's PreFilter).
func (q *query) names() (names map[string]bool, conflict string) {
	a := q.pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil, ""
	}
	names = make(map[string]bool)
	terms := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	for _, t := range terms {
		var allowed map[string]bool
		for _, r := range t.MatchFields {
			if r.Key != "metadata.name" || r.Operator != v1.NodeSelectorOpIn {
				continue
			}
			next := make(map[string]bool)
			for _, name := range r.Values {
				if allowed == nil || allowed[name] {
					next[name] = true
				}
			}
			allowed = next
		}
		if allowed == nil {
			return nil, ""
		}
		for name := range allowed {
			names[name] = true
		}
	}
	if len(terms) > 0 && len(names) == 0 {
		return nil, "pod affinity terms conflict"
	}
	if len(names) == 0 {
		return nil, ""
	}
	return names, ""
}
