package placement

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// affinity is what a pod wants of the pods near it.
type affinity struct {
	required, anti              []term
	preferred, preferredAgainst []term
}

func (a *affinity) any() bool {
	return len(a.required)+len(a.anti)+len(a.preferred)+len(a.preferredAgainst) > 0
}

// term is one v1.PodAffinityTerm, of a pod.
type term struct {
	namespaces []string
	inside     labels.Selector // namespaces besides, by their labels
	selector   labels.Selector
	key        string // of the node's label that says what is near
	weight     int64
}

func affinityOf(p *v1.Pod) (a affinity) {
	if p.Spec.Affinity == nil {
		return a
	}
	if near := p.Spec.Affinity.PodAffinity; near != nil {
		a.required = terms(p, near.RequiredDuringSchedulingIgnoredDuringExecution)
		a.preferred = weighted(p, near.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if far := p.Spec.Affinity.PodAntiAffinity; far != nil {
		a.anti = terms(p, far.RequiredDuringSchedulingIgnoredDuringExecution)
		a.preferredAgainst = weighted(p, far.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return a
}

func terms(p *v1.Pod, list []v1.PodAffinityTerm) (out []term) {
	for i := range list {
		t := newTerm(p, &list[i])
		t.weight = hardAffinityWeight
		out = append(out, t)
	}
	return out
}

func weighted(p *v1.Pod, list []v1.WeightedPodAffinityTerm) (out []term) {
	for i := range list {
		t := newTerm(p, &list[i].PodAffinityTerm)
		t.weight = int64(list[i].Weight)
		out = append(out, t)
	}
	return out
}

func newTerm(p *v1.Pod, from *v1.PodAffinityTerm) term {
	t := term{
		namespaces: from.Namespaces, key: from.TopologyKey,
		selector: selector(from.LabelSelector), inside: selector(from.NamespaceSelector),
	}
	if len(from.Namespaces) == 0 && from.NamespaceSelector == nil {
		t.namespaces = []string{p.Namespace}
	}
	if from.LabelSelector != nil {
		t.selector = narrowed(t.selector, p.Labels, from.MatchLabelKeys, selection.In)
		t.selector = narrowed(t.selector, p.Labels, from.MismatchLabelKeys, selection.NotIn)
	}
	return t
}

// selector is a label selector; one that validation would have refused selects nothing.
func selector(s *metav1.LabelSelector) labels.Selector {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return sel
}

// narrowed is a selector that also looks at the values which a pod itself has
// of some labels (KEP-3633, KEP-3243: the apiserver writes that into the pod).
func narrowed(s labels.Selector, own map[string]string, keys []string, how selection.Operator) labels.Selector {
	for _, key := range keys {
		if value, ok := own[key]; ok {
			if r, err := labels.NewRequirement(key, how, []string{value}); err == nil {
				s = s.Add(*r)
			}
		}
	}
	return s
}

// matches says whether a term is about a pod in a namespace of these labels.
func (t *term) matches(p *v1.Pod, namespace labels.Set) bool {
	return (slices.Contains(t.namespaces, p.Namespace) || t.inside.Matches(namespace)) && t.selector.Matches(labels.Set(p.Labels))
}

func matchesAll(terms []term, p *v1.Pod, namespace labels.Set) bool {
	for i := range terms {
		if !terms[i].matches(p, namespace) {
			return false
		}
	}
	return len(terms) > 0
}

// area is the part of the cluster whose nodes have one value of a label.
type area struct{ key, value string }

// near counts what is in which area, for one pod that is to be placed.
type near struct {
	wanted  map[area]int // pods that match all its terms of affinity
	against map[area]int // pods that match a term of its anti-affinity
	refuse  map[area]int // pods whose anti-affinity matches it
}

func (q *query) findNear() {
	q.near = near{wanted: make(map[area]int), against: make(map[area]int), refuse: make(map[area]int)}
	own := q.c.namespaces[q.pod.Namespace]
	some := len(q.terms.required)+len(q.terms.anti) > 0
	for _, n := range q.c.nodes {
		if !some && n.withAnti == 0 {
			continue
		}
		for _, p := range n.pods {
			for i := range p.terms.anti {
				if t := &p.terms.anti[i]; t.matches(q.pod, own) {
					n.countIn(q.near.refuse, t.key)
				}
			}
			if !some {
				continue
			}
			theirs := q.c.namespaces[p.Namespace]
			if matchesAll(q.terms.required, p.Pod, theirs) {
				for i := range q.terms.required {
					n.countIn(q.near.wanted, q.terms.required[i].key)
				}
			}
			for i := range q.terms.anti {
				if t := &q.terms.anti[i]; t.matches(p.Pod, theirs) {
					n.countIn(q.near.against, t.key)
				}
			}
		}
	}
}

// countIn counts one in the node's area.
func (n *node) countIn(m map[area]int, key string) {
	if value, ok := n.Labels[key]; ok {
		m[area{key, value}]++
	}
}

// refusesNear is the filter InterPodAffinity.
func (q *query) refusesNear(n *node) (reason string, resolvable bool) {
	switch {
	case !q.hasCompany(n):
		return "node(s) didn't match pod affinity rules", false
	case slices.ContainsFunc(q.terms.anti, func(t term) bool {
		value, ok := n.Labels[t.key]
		return ok && q.near.against[area{t.key, value}] > 0
	}):
		return "node(s) didn't match pod anti-affinity rules", true
	}
	for a := range q.near.refuse {
		if value, ok := n.Labels[a.key]; ok && value == a.value {
			return "node(s) didn't satisfy existing pods anti-affinity rules", true
		}
	}
	return "", true
}

// hasCompany says whether the pods that a pod wants near it are near the node.
// The first of a series that want each other finds nobody anywhere, and must
// not wait for ever.
func (q *query) hasCompany(n *node) bool {
	all := true
	for i := range q.terms.required {
		key := q.terms.required[i].key
		value, ok := n.Labels[key]
		if !ok {
			return false
		}
		all = all && q.near.wanted[area{key, value}] > 0
	}
	return all || len(q.near.wanted) == 0 && matchesAll(q.terms.required, q.pod, q.c.namespaces[q.pod.Namespace])
}

// hardAffinityWeight is what an existing pod's required affinity counts for in
// the score of one that it wants near (the scheduler's hardPodAffinityWeight).
const hardAffinityWeight = 1

// scoreNear is the score InterPodAffinity.
func (q *query) scoreNear(points []int64) (scored bool) {
	own := q.c.namespaces[q.pod.Namespace]
	sums := make(map[area]int64)
	some := len(q.terms.preferred)+len(q.terms.preferredAgainst) > 0
	for _, n := range q.c.nodes {
		if len(n.Labels) == 0 || !some && n.withAffinity == 0 {
			continue
		}
		tally := func(list []term, p *v1.Pod, namespace labels.Set, times int64) {
			for i := range list {
				t := &list[i]
				if value, ok := n.Labels[t.key]; ok && t.matches(p, namespace) {
					sums[area{t.key, value}] += times * t.weight
				}
			}
		}
		for _, p := range n.pods {
			theirs := q.c.namespaces[p.Namespace]
			tally(q.terms.preferred, p.Pod, theirs, 1)
			tally(q.terms.preferredAgainst, p.Pod, theirs, -1)
			tally(p.terms.required, q.pod, own, 1)
			tally(p.terms.preferred, q.pod, own, 1)
			tally(p.terms.preferredAgainst, q.pod, own, -1)
		}
	}
	if len(sums) == 0 {
		return false
	}
	for i, n := range q.fits {
		for a, sum := range sums {
			if value, ok := n.Labels[a.key]; ok && value == a.value {
				points[i] += sum
			}
		}
	}
	least, most := slices.Min(points), slices.Max(points)
	for i := range points {
		if most > least {
			points[i] = int64(float64(maxPoints) * (float64(points[i]-least) / float64(most-least)))
		} else {
			points[i] = 0
		}
	}
	return true
}
