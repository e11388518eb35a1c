package placement

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
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
}

// Outcome is where a pod goes, or why nowhere.
type Outcome struct {
	Node    string    // "": nowhere
	Scores  []Score   // of the nodes that fit, by name; nil when it was one, and nothing to compare
	Refused []Refusal // the others, by name

	nodes      int
	conflict   string // why no node was looked at
	absent     string // why some were not
	preemption string // why nothing was made to give way
}

// Place finds the best node for a pod. Spec.nodeName, if it is set, is the only
// one that fits.
func (c *Cluster) Place(p *v1.Pod, o Options) Outcome {
	q := c.query(p, o)
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
		if reasons, resolvable := q.refuses(n); len(reasons) > 0 {
			out.Refused = append(out.Refused, Refusal{n.Name, reasons, resolvable})
			continue
		}
		q.fits = append(q.fits, n)
	}
	switch len(q.fits) {
	case 0:
		out.preemption = q.preemption(out)
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
	return h ^ h>>32
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
		return fmt.Sprintf("0/%d nodes are available: %s. %s", o.nodes, o.conflict, o.preemption)
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
	return fmt.Sprintf("0/%d nodes are available: %s. %s", o.nodes, histogram(reasons), o.preemption)
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

// notPreempted is said of a node from which Kubernetes would take pods of less
// priority to make room.
const notPreempted = "Preemption would help, and is not done by this version of Shoal"

// preemption is what the scheduler's PostFilter plugins say (DynamicResources,
// DefaultPreemption): of each node whether fewer pods on it would help.
func (q *query) preemption(out Outcome) string {
	const said = "no new claims to deallocate, preemption: "
	if policy := q.pod.Spec.PreemptionPolicy; policy != nil && *policy == v1.PreemptNever {
		return said + "not eligible due to preemptionPolicy=Never."
	}
	reasons := make(map[string]int)
	for _, r := range out.Refused {
		if !r.Resolvable {
			continue
		}
		for _, reason := range q.ifPreempted(q.c.byName[r.Node]) {
			reasons[reason]++
		}
	}
	resolvable := 0
	for _, r := range out.Refused {
		resolvable += count(r.Resolvable)
	}
	if rest := out.nodes - resolvable; rest > 0 {
		reasons["Preemption is not helpful for scheduling"] += rest
	}
	return fmt.Sprintf("%s0/%d nodes are available: %s.", said, out.nodes, histogram(reasons))
}

// ifPreempted says why a node would not take the pod without those of its pods
// that have less priority.
func (q *query) ifPreempted(n *node) []string {
	least := corev1.PodPriority(q.pod)
	lesser := func(p *placed) bool { return corev1.PodPriority(p.Pod) < least }
	if !slices.ContainsFunc(n.pods, lesser) {
		return []string{"No preemption victims found for incoming pod"}
	}
	c, without := q.c.without(n, lesser)
	if reasons, _ := c.query(q.pod, q.o).refuses(without); len(reasons) > 0 {
		return reasons
	}
	return []string{notPreempted}
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
