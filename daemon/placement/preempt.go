package placement

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1"
)

// Preemption is what has to go from a node for a pod to fit there.
type Preemption struct {
	Node string
	// Victims are the pods that have to go, the most important first. Some may be
	// going already.
	Victims []*v1.Pod
	// Violations is how many of them a disruption budget would keep: they go all
	// the same where nothing else helps.
	Violations int
}

// Of so many nodes at least is found out what would have to go (the arguments of
// the scheduler's DefaultPreemption): a tenth, and 100.
const (
	leastCandidates = 100
	candidatePart   = 10
)

// Nominate keeps room on a node for a pod that others were made to give way to
// (status.nominatedNodeName): those of less priority are placed as if it were
// there. For "", or no node of the cluster, none is kept any more.
func (c *Cluster) Nominate(p *v1.Pod, node string) {
	delete(c.nominated, p.UID)
	if c.byName[node] == nil {
		return
	}
	if c.nominated == nil {
		c.nominated = make(map[types.UID]nomination)
	}
	c.nominated[p.UID] = nomination{node, place(p)}
}

// Follow takes up an outcome of Place. Where others are made to give way, those
// of less priority that waited for the same node do so no longer, and may look
// for another.
func (c *Cluster) Follow(p *v1.Pod, out Outcome) {
	if out.Preemption != nil {
		for uid, other := range c.nominated {
			if other.node == out.Nominated && corev1.PodPriority(other.pod.Pod) < corev1.PodPriority(p) {
				delete(c.nominated, uid)
			}
		}
	}
	c.Nominate(p, out.Nominated)
}

// nomination is a pod without a node for which one is kept.
type nomination struct {
	node string
	pod  *placed
}

// kept are the pods for which room on a node is kept, as far as that matters to p.
func (c *Cluster) kept(p *v1.Pod, n *node) (list []*placed) {
	for uid, other := range c.nominated {
		if other.node == n.Name && uid != p.UID && corev1.PodPriority(other.pod.Pod) >= corev1.PodPriority(p) {
			list = append(list, other.pod)
		}
	}
	return list
}

// refusesKept is refuses, with the pods for which room on the node is kept; and
// without them, for the pod may need to be near something that has to be there
// (the scheduler's RunFilterPluginsWithNominatedPods).
func (q *query) refusesKept(n *node) (reasons []string, resolvable bool) {
	kept := q.c.kept(q.pod, n)
	if len(kept) > 0 {
		c, with := q.c.with(n, kept)
		if reasons, resolvable = c.query(q.pod, q.o).refuses(with); len(reasons) > 0 {
			return reasons, resolvable
		}
	}
	return q.refuses(n)
}

// preempt finds the node where the least has to go for the pod to fit. It says
// why there is none; keep is whether the pod's nomination stays as it is then
// (pkg/scheduler/framework/preemption: Preempt).
func (q *query) preempt(out Outcome) (best *Preemption, why string, keep bool) {
	if policy := q.pod.Spec.PreemptionPolicy; policy != nil && *policy == v1.PreemptNever {
		return nil, "not eligible due to preemptionPolicy=Never.", true
	}
	if q.awaited(out) {
		return nil, "not eligible due to a terminating pod on the nominated node.", true
	}
	var able []*node
	for _, r := range out.Refused {
		if r.Resolvable {
			able = append(able, q.c.byName[r.Node])
		}
	}
	reasons := make(map[string]int)
	if rest := out.nodes - len(able); rest > 0 {
		reasons["Preemption is not helpful for scheduling"] = rest
	}
	var found []*Preemption
	for _, n := range fromSomewhere(able, q.pod) {
		if len(found) >= max(leastCandidates, len(able)/candidatePart) && slices.ContainsFunc(found, func(p *Preemption) bool { return p.Violations == 0 }) {
			break
		}
		p, whyNot := q.victims(n)
		if p != nil {
			found = append(found, p)
		}
		for _, reason := range whyNot {
			reasons[reason]++
		}
	}
	if len(found) == 0 {
		return nil, fmt.Sprintf("0/%d nodes are available: %s.", out.nodes, histogram(reasons)), false
	}
	return slices.MinFunc(found, q.gentler), "", false
}

// fromSomewhere is the nodes, beginning at one that depends on the pod: not all
// pods are to look at the same ones first.
func fromSomewhere(nodes []*node, p *v1.Pod) []*node {
	if len(nodes) == 0 {
		return nil
	}
	first := int(mix(offset, string(p.UID)) % uint64(len(nodes)))
	return slices.Concat(nodes[first:], nodes[:first])
}

// awaited says whether pods that were made to give way to this one are still
// going: it makes no others go meanwhile.
func (q *query) awaited(out Outcome) bool {
	at, ok := q.c.nominated[q.pod.UID]
	if !ok {
		return false
	}
	if slices.ContainsFunc(out.Refused, func(r Refusal) bool { return r.Node == at.node && !r.Resolvable }) {
		return false
	}
	return slices.ContainsFunc(q.c.byName[at.node].pods, func(p *placed) bool { return q.mayGo(p) && Preempted(p.Pod) })
}

// Preempted says whether a pod is going because another of more priority was to
// have its room.
func Preempted(p *v1.Pod) bool {
	return p.DeletionTimestamp != nil && slices.ContainsFunc(p.Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == v1.DisruptionTarget && c.Status == v1.ConditionTrue && c.Reason == v1.PodReasonPreemptionByScheduler
	})
}

// mayGo says whether a pod may be made to give way: one of less priority that is
// not its host's own.
func (q *query) mayGo(p *placed) bool {
	ref := metav1.GetControllerOf(p.Pod)
	static := ref != nil && ref.Kind == "Node"
	return !static && corev1.PodPriority(p.Pod) < corev1.PodPriority(q.pod)
}

// victims are those who have to go from a node, as few and as unimportant as can
// be (SelectVictimsOnNode in plugins/defaultpreemption); or why that would not
// help.
func (q *query) victims(n *node) (*Preemption, []string) {
	var list []*placed
	gone := make(map[types.UID]bool)
	for _, p := range n.pods {
		if q.mayGo(p) {
			list, gone[p.UID] = append(list, p), true
		}
	}
	if len(list) == 0 {
		return nil, []string{"No preemption victims found for incoming pod"}
	}
	refuses := func() []string {
		c, without := q.c.without(n, func(p *placed) bool { return gone[p.UID] })
		reasons, _ := c.query(q.pod, q.o).refusesKept(without)
		return reasons
	}
	if reasons := refuses(); len(reasons) > 0 {
		return nil, reasons
	}
	slices.SortFunc(list, moreImportant)
	held, free := q.budgeted(list)
	out := &Preemption{Node: n.Name}
	for i, p := range slices.Concat(held, free) {
		delete(gone, p.UID)
		if len(refuses()) == 0 {
			continue
		}
		gone[p.UID] = true
		out.Violations += count(i < len(held))
	}
	for _, p := range list {
		if gone[p.UID] {
			out.Victims = append(out.Victims, p.Pod)
		}
	}
	return out, nil
}

// moreImportant puts pods of more priority first, and of those the ones that
// have run for longer (util.MoreImportantPod).
func moreImportant(a, b *placed) int {
	return cmp.Or(
		cmp.Compare(corev1.PodPriority(b.Pod), corev1.PodPriority(a.Pod)),
		began(a.Pod).Compare(began(b.Pod)),
		cmp.Compare(a.UID, b.UID))
}

// began is when a pod's node took it in; one that it did not yet is the youngest.
func began(p *v1.Pod) time.Time {
	if p.Status.StartTime == nil {
		return time.Unix(math.MaxInt32, 0)
	}
	return p.Status.StartTime.Time
}

// budgeted tells the pods that a disruption budget holds from the others, if all
// of them went in this order (filterPodsWithPDBViolation).
func (q *query) budgeted(list []*placed) (held, free []*placed) {
	allowed := make([]int32, len(q.o.Budgets))
	for i, b := range q.o.Budgets {
		allowed[i] = b.Status.DisruptionsAllowed
	}
	for _, p := range list {
		violates := false
		for i, b := range q.o.Budgets {
			if covers(b, p.Pod) {
				allowed[i]--
				violates = violates || allowed[i] < 0
			}
		}
		if violates {
			held = append(held, p)
		} else {
			free = append(free, p)
		}
	}
	return held, free
}

// covers says whether a budget counts a pod's end. One that the API evicted
// already was counted then.
func covers(b *policy.PodDisruptionBudget, p *v1.Pod) bool {
	if b.Namespace != p.Namespace || len(p.Labels) == 0 {
		return false
	}
	if _, evicted := b.Status.DisruptedPods[p.Name]; evicted {
		return false
	}
	s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return err == nil && !s.Empty() && s.Matches(labels.Set(p.Labels))
}

// gentler orders preemptions: fewer violations, then less important victims,
// then a smaller sum of their priorities, fewer of them, those that run for the
// shortest time (pickOneNodeForPreemption); at last by a hash.
func (q *query) gentler(a, b *Preemption) int {
	pod := mix(offset, string(q.pod.UID))
	return cmp.Or(
		cmp.Compare(a.Violations, b.Violations),
		cmp.Compare(corev1.PodPriority(a.Victims[0]), corev1.PodPriority(b.Victims[0])),
		cmp.Compare(a.sum(), b.sum()),
		cmp.Compare(len(a.Victims), len(b.Victims)),
		b.earliest().Compare(a.earliest()),
		cmp.Compare(mix(pod, b.Node), mix(pod, a.Node)),
		cmp.Compare(a.Node, b.Node))
}

// sum is that of the victims' priorities, each made positive: more victims are
// never better, however unimportant.
func (p *Preemption) sum() (sum int64) {
	for _, v := range p.Victims {
		sum += int64(corev1.PodPriority(v)) + math.MaxInt32 + 1
	}
	return sum
}

// earliest is when the first of the most important victims began.
func (p *Preemption) earliest() time.Time {
	first := began(p.Victims[0])
	for _, v := range p.Victims[1:] {
		if corev1.PodPriority(v) == corev1.PodPriority(p.Victims[0]) && began(v).Before(first) {
			first = began(v)
		}
	}
	return first
}
