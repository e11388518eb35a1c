package placement

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
)

// Options is what a placement may need besides the objects.
type Options struct {
	Strategy Strategy
	// Siblings selects the pods of the same controller and Services, from which
	// a pod without constraints of its own is kept apart (the scheduler's
	// DefaultSelector); nil or empty: there are none.
	Siblings labels.Selector
	// Except are nodes that are not to be looked at now, by name, with the reason
	// that the message is to give.
	Except map[string]string
	// Budgets are the cluster's disruption budgets, with their status.
	Budgets []*policy.PodDisruptionBudget
}

// Outcome is where a pod goes, or why nowhere.
type Outcome struct {
	Node    string    // "": nowhere
	Scores  []Score   // of the nodes that fit, by name; nil when it was one, and nothing to compare
	Refused []Refusal // the others, by name

	// Preemption is what would have to go for the pod to fit somewhere; nil: nothing
	// that may be made to go would help, or it goes already.
	Preemption *Preemption
	// Nominated is the node that is kept for the pod meanwhile, or "".
	Nominated string

	nodes    int
	conflict string // why no node was looked at
	absent   string // why some were not
	helpless string // why nothing is made to give way
}

// Place finds the best node for a pod. Spec.nodeName, if it is set, is the only
// one that fits. One that it was nominated to is taken if it fits.
func (c *Cluster) Place(p *v1.Pod, o Options) Outcome {
	q := c.query(p, o)
	if at, ok := c.nominated[p.UID]; ok {
		n := c.byName[at.node]
		names, conflict := q.names()
		_, not := o.Except[n.Name]
		if reasons, _ := q.refusesKept(n); len(reasons) == 0 && !not && conflict == "" && (names == nil || names[n.Name]) {
			return Outcome{Node: n.Name, nodes: len(c.nodes)}
		}
	}
	out := Outcome{nodes: len(c.nodes)}
	names, conflict := q.names()
	out.conflict = conflict
	for _, n := range c.nodes {
		if conflict != "" {
			break
		}
		if names != nil && !names[n.Name] {
			out.absent = "node(s) didn't satisfy plugin(s) [NodeAffinity]"
			continue
		}
		if why, not := o.Except[n.Name]; not {
			out.Refused = append(out.Refused, Refusal{n.Name, []string{why}, false})
			continue
		}
		if reasons, resolvable := q.refusesKept(n); len(reasons) > 0 {
			out.Refused = append(out.Refused, Refusal{n.Name, reasons, resolvable})
			continue
		}
		q.fits = append(q.fits, n)
	}
	switch len(q.fits) {
	case 0:
		var keep bool
		if out.Preemption, out.helpless, keep = q.preempt(out); out.Preemption != nil {
			out.Nominated = out.Preemption.Node
		} else if keep {
			out.Nominated = c.nominated[p.UID].node
		}
	case 1:
		out.Node = q.fits[0].Name
	default:
		out.Scores = q.score()
		out.Node = best(p, out.Scores)
	}
	return out
}

// best is the node with the most points; of several that which ranks first for
// this pod (rendezvous hashing).
func best(p *v1.Pod, list []Score) (node string) {
	var most int64
	var highest uint64
	pod := mix(offset, string(p.UID))
	for _, s := range list {
		total := s.Total()
		if node != "" && total < most {
			continue
		}
		rank := mix(pod, s.Node)
		if node == "" || total > most || rank > highest || rank == highest && s.Node < node {
			node, most, highest = s.Node, total, rank
		}
	}
	return node
}

// FNV-1a (RFC 9923), 64 bits wide.
const (
	offset = 0xcbf29ce484222325
	prime  = 0x100000001b3
)

// mix is h, hashed on with text. hash/fnv would cost an allocation for each node.
func mix(h uint64, text string) uint64 {
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * prime
	}
	// Names often differ in their last byte alone, which FNV leaves in the lowest
	// bits: the finalizer of MurmurHash3 spreads it over all, or one node would win
	// most ties.
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// Message is why the pod is nowhere, as the scheduler says it (FitError in
// pkg/scheduler/framework/types.go); "" when it is somewhere.
func (o Outcome) Message() string {
	switch {
	case o.Node != "":
		return ""
	case o.nodes == 0:
		return "no nodes available to schedule pods"
	case o.conflict != "":
		return fmt.Sprintf("0/%d nodes are available: %s.", o.nodes, o.conflict) + o.postFilter()
	}
	reasons := make(map[string]int)
	for _, r := range o.Refused {
		for _, reason := range r.Reasons {
			reasons[reason]++
		}
	}
	if o.absent != "" {
		reasons[o.absent] += o.nodes - len(o.Refused)
	}
	return fmt.Sprintf("0/%d nodes are available: %s.", o.nodes, histogram(reasons)) + o.postFilter()
}

// postFilter is what the scheduler's PostFilter plugins say (DynamicResources,
// DefaultPreemption): nothing where something was made to give way.
func (o Outcome) postFilter() string {
	if o.Preemption != nil {
		return ""
	}
	return " no new claims to deallocate, preemption: " + o.helpless
}

// histogram is how often each reason was given, sorted as text.
func histogram(reasons map[string]int) string {
	var words []string
	for reason, n := range reasons {
		words = append(words, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// Lines is the outcome node by node, for people: the reasons of those that
// refuse, or the scores of those that fit, the best first.
func (o Outcome) Lines() []string {
	var lines []string
	if o.conflict != "" {
		lines = append(lines, o.conflict)
	}
	list := slices.Clone(o.Scores)
	slices.SortStableFunc(list, func(a, b Score) int {
		if (a.Node == o.Node) != (b.Node == o.Node) {
			return count(b.Node == o.Node) - count(a.Node == o.Node)
		}
		return int(b.Total() - a.Total())
	})
	for _, s := range list {
		lines = append(lines, s.String())
	}
	if len(o.Scores) == 0 && o.Node != "" {
		lines = append(lines, o.Node+" is the only node that fits")
	}
	for _, r := range o.Refused {
		lines = append(lines, r.Node+": "+strings.Join(r.Reasons, ", "))
	}
	if p := o.Preemption; p != nil {
		var names []string
		for _, v := range p.Victims {
			names = append(names, v.Namespace+"/"+v.Name)
		}
		line := p.Node + " is kept for the pod; these make room: " + strings.Join(names, ", ")
		if p.Violations > 0 {
			line += fmt.Sprintf(" (%d against a disruption budget)", p.Violations)
		}
		lines = append(lines, line)
	}
	return lines
}

// tolerations are the pod's, and that of memory pressure, which every pod has
// that requests anything: it is able to cope with it (Kubernetes' documentation,
// "Taints and Tolerations", taint nodes by condition).
func tolerations(p *v1.Pod) []v1.Toleration {
	if qos.ComputePodQOS(p) == v1.PodQOSBestEffort {
		return p.Spec.Tolerations
	}
	return append(slices.Clip(p.Spec.Tolerations), v1.Toleration{
		Key: v1.TaintNodeMemoryPressure, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoSchedule,
	})
}

// Sort puts pods in the order in which they are to be placed: by priority, then
// by age (the scheduler's PrioritySort, by creation: this order must be the
// same wherever it is asked for).
func Sort(pods []*v1.Pod) {
	slices.SortFunc(pods, func(a, b *v1.Pod) int {
		return cmp.Or(
			cmp.Compare(corev1.PodPriority(b), corev1.PodPriority(a)),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.UID, b.UID))
	})
}

// Matters says whether a change of a pod from old to now (either may be nil)
// may make a difference to where others can go, or to where it can itself.
func Matters(old, now *v1.Pod) bool {
	if old == nil || now == nil {
		return true
	}
	ended := func(p *v1.Pod) bool { return p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed }
	if old.UID != now.UID || old.Generation != now.Generation || old.Spec.NodeName != now.Spec.NodeName ||
		ended(old) != ended(now) || (old.DeletionTimestamp == nil) != (now.DeletionTimestamp == nil) ||
		!maps.Equal(old.Labels, now.Labels) || len(old.Spec.SchedulingGates) != len(now.Spec.SchedulingGates) {
		return true
	}
	a, b := requests(old), requests(now) // a resize has come into force
	return a.cpu != b.cpu || a.memory != b.memory
}
