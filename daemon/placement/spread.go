package placement

import (
	"math"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// spread is one topology spread constraint, of a pod.
type spread struct {
	key                        string
	skew                       int64
	selector                   labels.Selector
	domains                    int // at least
	honorAffinity, honorTaints bool
	self                       bool // the pod itself counts

	tally  *tally
	counts map[string]int // pods that count, by the label's value; of nodes that count
	least  int            // in any domain
}

// defaultSpread is what pods that say nothing are spread by, where they have a
// controller or a Service (the scheduler's systemDefaultConstraints).
var defaultSpread = []v1.TopologySpreadConstraint{
	{TopologyKey: v1.LabelHostname, WhenUnsatisfiable: v1.ScheduleAnyway, MaxSkew: 3},
	{TopologyKey: v1.LabelTopologyZone, WhenUnsatisfiable: v1.ScheduleAnyway, MaxSkew: 5},
}

// spreads are the pod's constraints of one kind.
func (q *query) spreads(list []v1.TopologySpreadConstraint, kind v1.UnsatisfiableConstraintAction) (out []spread) {
	for _, from := range list {
		if from.WhenUnsatisfiable != kind {
			continue
		}
		s := spread{
			key: from.TopologyKey, skew: int64(from.MaxSkew), domains: 1,
			selector:      narrowed(selector(from.LabelSelector), q.pod.Labels, from.MatchLabelKeys, selection.In),
			honorAffinity: from.NodeAffinityPolicy == nil || *from.NodeAffinityPolicy == v1.NodeInclusionPolicyHonor,
			honorTaints:   from.NodeTaintsPolicy != nil && *from.NodeTaintsPolicy == v1.NodeInclusionPolicyHonor,
		}
		if from.MinDomains != nil {
			s.domains = int(*from.MinDomains)
		}
		s.self = s.selector.Matches(labels.Set(q.pod.Labels))
		out = append(out, s)
	}
	return out
}

// includes says whether a node's pods count for a constraint.
func (q *query) includes(s *spread, n *node) bool {
	return (!s.honorAffinity || q.wants(n)) && (!s.honorTaints || q.tolerates(n))
}

// tally is how many pods that a selector selects in a namespace are on each node.
// Those that are going do not count. Pods of one kind are placed one after the
// other: each would count all that are there again.
type tally struct {
	namespace string
	selector  labels.Selector
	nodes     []*node
	on        []int // by the node's index
}

func (t *tally) counts(p *placed) bool {
	return p.DeletionTimestamp == nil && p.Namespace == t.namespace && t.selector.Matches(labels.Set(p.Labels))
}

func (t *tally) count(n *node) (total int) {
	for _, p := range n.pods {
		total += count(t.counts(p))
	}
	return total
}

func (c *Cluster) tally(namespace string, s labels.Selector) *tally {
	key := namespace + "\x00" + s.String()
	t := c.tallies[key]
	if t == nil {
		t = &tally{namespace, s, c.nodes, make([]int, len(c.nodes))}
		for i, n := range c.nodes {
			t.on[i] = t.count(n)
		}
		if c.tallies == nil {
			c.tallies = make(map[string]*tally)
		}
		c.tallies[key] = t
	}
	return t
}

// countOn counts a node's pods that a constraint is about.
func (q *query) countOn(s *spread, n *node) int {
	if s.selector.Empty() {
		return 0
	}
	if s.tally == nil {
		s.tally = q.c.tally(q.pod.Namespace, s.selector)
	}
	if s.tally.nodes[n.index] != n { // a node as it would be
		return s.tally.count(n)
	}
	return s.tally.on[n.index]
}

func hasKeys(n *node, list []spread) bool {
	return !slices.ContainsFunc(list, func(s spread) bool {
		_, ok := n.Labels[s.key]
		return !ok
	})
}

// findSpread counts for the constraints that must hold.
func (q *query) findSpread() {
	q.hard = q.spreads(q.pod.Spec.TopologySpreadConstraints, v1.DoNotSchedule)
	for i := range q.hard {
		s := &q.hard[i]
		s.counts = make(map[string]int)
		for _, n := range q.c.nodes {
			if hasKeys(n, q.hard) && q.includes(s, n) {
				s.counts[n.Labels[s.key]] += q.countOn(s, n)
			}
		}
		if len(s.counts) == 0 {
			s.least = math.MaxInt32
		} else {
			s.least = math.MaxInt
			for _, count := range s.counts {
				s.least = min(s.least, count)
			}
		}
		if len(s.counts) < s.domains {
			s.least = 0
		}
	}
}

const unevenlySpread = "node(s) didn't match pod topology spread constraints"

// refusesSpread is the filter PodTopologySpread.
func (q *query) refusesSpread(n *node) (reason string, resolvable bool) {
	for i := range q.hard {
		s := &q.hard[i]
		value, ok := n.Labels[s.key]
		if !ok {
			return unevenlySpread + " (missing required label)", false
		}
		if int64(s.counts[value]+count(s.self)-s.least) > s.skew {
			return unevenlySpread, true
		}
	}
	return "", true
}

// scoreSpread is the score PodTopologySpread.
func (q *query) scoreSpread(points []int64) (scored bool) {
	explicit := len(q.pod.Spec.TopologySpreadConstraints) > 0
	soft := q.spreads(q.pod.Spec.TopologySpreadConstraints, v1.ScheduleAnyway)
	if !explicit && q.o.Siblings != nil && !q.o.Siblings.Empty() {
		soft = q.spreads(defaultSpread, v1.ScheduleAnyway)
		for i := range soft {
			soft[i].selector = q.o.Siblings
		}
	}
	if len(soft) == 0 {
		return false
	}
	// Nodes without all the labels are not scored, unless nobody asked for them.
	skipped := func(n *node) bool { return explicit && !hasKeys(n, soft) }
	weights := q.countSoft(soft, skipped)
	least, most := int64(math.MaxInt64), int64(0)
	for i, n := range q.fits {
		if skipped(n) {
			continue
		}
		var sum float64
		for k := range soft {
			s := &soft[k]
			value, ok := n.Labels[s.key]
			if !ok {
				continue
			}
			matching := s.counts[value]
			if s.key == v1.LabelHostname {
				matching = q.countOn(s, n)
			}
			sum += float64(matching)*weights[k] + float64(s.skew-1)
		}
		points[i] = int64(math.Round(sum))
		least, most = min(least, points[i]), max(most, points[i])
	}
	for i, n := range q.fits {
		switch {
		case skipped(n):
			points[i] = 0
		case most == 0:
			points[i] = maxPoints
		default:
			points[i] = maxPoints * (most + least - points[i]) / most
		}
	}
	return true
}

// countSoft counts for constraints that should hold, by domains of nodes that
// fit, and says what a pod counts for in each: the more domains, the more.
func (q *query) countSoft(soft []spread, skipped func(*node) bool) (weights []float64) {
	scored := slices.DeleteFunc(slices.Clone(q.fits), skipped)
	for k := range soft {
		s := &soft[k]
		s.counts = make(map[string]int)
		size := len(scored)
		if s.key != v1.LabelHostname {
			for _, n := range scored {
				s.counts[n.Labels[s.key]] = 0
			}
			size = len(s.counts)
			for _, n := range q.c.nodes {
				if _, candidate := s.counts[n.Labels[s.key]]; candidate && !skipped(n) && q.includes(s, n) {
					s.counts[n.Labels[s.key]] += q.countOn(s, n)
				}
			}
		}
		weights = append(weights, math.Log(float64(size+2)))
	}
	return weights
}
