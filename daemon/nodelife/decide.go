// Package nodelife decides what becomes of nodes that are lost or not ready,
// and of the pods on them: Kubernetes' node lifecycle controller
// (pkg/controller/nodelifecycle) as a function of what a node sees.
//
// Every daemon calls Decide whenever a member or a node's status changes, when
// Outcome.Again says so and when it starts. Each gets verdicts on all nodes, so that
// the rates hold for all of a zone; the steward of a Node object publishes that
// node's. Verdict.Apply makes of it the Node that everybody sees, and taints
// drive pods out (daemon/workload's DrivenOutAt), each by its own steward.
package nodelife

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/node/topology"
)

// State is how a member is, in Serf's eyes.
type State int

// The states of members.
const (
	Unseen State = iota // not seen since this daemon started
	Alive
	Failed
	Left // it has said goodbye
)

// Node is what is known here of a member that was not forgotten.
type Node struct {
	Name  string
	State State
	Since time.Time // since when it is in that state; of Unseen, when this daemon started
	// Heard is the last sign of life before it failed, as far as that is known:
	// Serf's word comes the suspicion timeout later. Zero is Since.
	Heard time.Time

	Object *v1.Node // as the node itself published it; nil: it never did
	Was    Verdict  // what is in force of it, whoever decided that
}

// Verdict is what is decided of a node beside what it says of itself. The zero
// value is that there is nothing to add.
type Verdict struct {
	Conditions []v1.NodeCondition `json:"conditions,omitempty"` // in place of its own
	Taints     []v1.Taint         `json:"taints,omitempty"`
}

// Input is what to decide about.
type Input struct {
	Now    time.Time
	Config Config
	Nodes  []Node // all members that were not forgotten, this host among them
	Memory Memory // of the last outcome; zero at the start of the daemon
}

// Memory is what Decide hands to itself. It need not outlive the daemon.
type Memory struct {
	looked  bool
	frozen  bool
	thawed  time.Time            // since when there is enough in sight to evict
	granted map[string]time.Time // by zone: when a node was last given up
	tainted map[string]time.Time // by node: since when it is, though its steward may not have said so yet
}

// Outcome is what Decide decides.
type Outcome struct {
	Verdicts map[string]Verdict // by node; those with something to add
	Zones    map[string]ZoneState
	Frozen   string    // why nobody is evicted now; "" otherwise
	Again    time.Time // when to decide again if nothing happens; zero: no need to
	Memory   Memory
}

// Decide decides about all nodes.
func Decide(in Input) Outcome {
	d := &decider{Input: in, out: Outcome{Verdicts: make(map[string]Verdict)}}
	d.Nodes = slices.SortedFunc(slices.Values(in.Nodes), func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	healths := make(map[string]health)
	for _, n := range d.Nodes {
		healths[n.Name] = d.health(n)
	}
	d.out.Zones = d.zones(healths)
	d.freeze()
	d.give(healths)
	for _, n := range d.Nodes {
		h := healths[n.Name]
		v := Verdict{Conditions: d.conditions(n, h), Taints: d.taints(n, h)}
		if len(v.Conditions)+len(v.Taints) > 0 {
			d.out.Verdicts[n.Name] = v
		}
		if h.status != v1.ConditionTrue || n.State != Alive {
			d.again(d.Now.Add(d.Config.NodeMonitorPeriod))
		}
	}
	return d.out
}

type decider struct {
	Input
	out Outcome
}

// again asks for a look at a time to come.
func (d *decider) again(at time.Time) {
	if at.After(d.Now) && (d.out.Again.IsZero() || at.Before(d.out.Again)) {
		d.out.Again = at
	}
}

// health is whether a node is ready, and since when it is due that it is not.
type health struct {
	status v1.ConditionStatus // "": it has not said yet
	since  time.Time
	lost   bool // nobody hears of it: what it says of itself no longer counts
}

// health is upstream's tryUpdateNodeHealth, with Serf's word for heartbeats.
func (d *decider) health(n Node) health {
	own := condition(n.Object, v1.NodeReady)
	var said health
	if own != nil {
		said = health{status: own.Status, since: own.LastTransitionTime.Time}
	}
	due := n.Since
	switch heard := cmp.Or(n.Heard, n.Since); {
	case n.State == Alive && own != nil:
		return said
	case n.State == Left:
	case n.State == Failed && own != nil:
		due = later(n.Since, heard.Add(d.Config.NodeMonitorGracePeriod))
	default: // not seen, or it has never said how it is
		due = n.Since.Add(d.Config.NodeStartupGracePeriod)
	}
	if due.After(d.Now) {
		d.again(due)
		return said
	}
	return health{status: v1.ConditionUnknown, since: due, lost: true}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func condition(node *v1.Node, kind v1.NodeConditionType) *v1.NodeCondition {
	if node == nil {
		return nil
	}
	i := slices.IndexFunc(node.Status.Conditions, func(c v1.NodeCondition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return &node.Status.Conditions[i]
}

// stopped are the conditions that only the node itself can tell
// (tryUpdateNodeHealth).
var stopped = []v1.NodeConditionType{v1.NodeReady, v1.NodeMemoryPressure, v1.NodeDiskPressure, v1.NodePIDPressure}

// conditions are those of a node that is lost.
func (d *decider) conditions(n Node, h health) (list []v1.NodeCondition) {
	if !h.lost {
		return nil
	}
	for _, kind := range stopped {
		was := slices.IndexFunc(n.Was.Conditions, func(c v1.NodeCondition) bool { return c.Type == kind && c.Status == v1.ConditionUnknown })
		own := condition(n.Object, kind)
		switch {
		case own != nil && own.Status == v1.ConditionUnknown:
			list = append(list, *own)
		case was >= 0:
			list = append(list, n.Was.Conditions[was])
		case own == nil:
			list = append(list, v1.NodeCondition{Type: kind, Status: v1.ConditionUnknown, Reason: "NodeStatusNeverUpdated",
				Message: "Kubelet never posted node status.", LastHeartbeatTime: created(n), LastTransitionTime: d.second()})
		default:
			list = append(list, v1.NodeCondition{Type: kind, Status: v1.ConditionUnknown, Reason: "NodeStatusUnknown",
				Message: "Kubelet stopped posting node status.", LastHeartbeatTime: own.LastHeartbeatTime, LastTransitionTime: d.second()})
		}
	}
	return list
}

func created(n Node) metav1.Time {
	if n.Object != nil {
		return n.Object.CreationTimestamp
	}
	return metav1.NewTime(n.Since.Truncate(time.Second))
}

// second is now, as it is after a trip through JSON.
func (d *decider) second() metav1.Time { return metav1.NewTime(d.Now.Truncate(time.Second)) }

// zone is a node's, "" where it has no label.
func zone(n Node) string {
	if n.Object == nil {
		return ""
	}
	return topology.GetZoneKey(n.Object)
}

// freeze decides whether this host sees enough to evict anybody: at least half
// of the members that did not leave, and one node that is ready (upstream's
// "master disruption mode").
func (d *decider) freeze() {
	var alive, all int
	for _, n := range d.Nodes {
		if n.State != Left {
			all++
		}
		if n.State == Alive {
			alive++
		}
	}
	disrupted := len(d.out.Zones) > 0
	for _, state := range d.out.Zones {
		disrupted = disrupted && state == FullDisruption
	}
	switch {
	case alive*2 < all:
		d.out.Frozen = fmt.Sprintf("%d of %d members are in sight, less than half", alive, all)
	case disrupted:
		d.out.Frozen = "no node is ready"
	}
	d.out.Memory = Memory{looked: true, frozen: d.out.Frozen != "", thawed: d.Memory.thawed}
	if !d.out.Memory.frozen && (d.Memory.frozen || !d.Memory.looked) {
		d.out.Memory.thawed = d.Now
	}
}

// give decides which nodes are given up: those that are, and in each zone as
// many as its rate allows of those that are not ready, the longest first. Who is
// frozen gives up nobody, and takes back whom it gave up.
func (d *decider) give(healths map[string]health) {
	m := &d.out.Memory
	m.granted, m.tainted = maps.Clone(d.Memory.granted), make(map[string]time.Time)
	if m.granted == nil {
		m.granted = make(map[string]time.Time)
	}
	maps.DeleteFunc(m.granted, func(zone string, at time.Time) bool { return d.out.Zones[zone] == "" || at.After(d.Now) })
	if m.frozen {
		return
	}
	waiting := make(map[string][]Node)
	for _, n := range d.Nodes {
		h := healths[n.Name]
		if h.status != v1.ConditionFalse && h.status != v1.ConditionUnknown {
			continue
		}
		if at, is := d.givenUp(n); is {
			m.tainted[n.Name] = at
			if at.After(m.granted[zone(n)]) {
				m.granted[zone(n)] = at
			}
			continue
		}
		if hold := m.thawed.Add(d.Config.NodeMonitorGracePeriod); h.lost && n.State != Left && hold.After(d.Now) {
			d.again(hold) // those that come back after a cut do not come all at once
			continue
		}
		waiting[zone(n)] = append(waiting[zone(n)], n)
	}
	for zone, nodes := range waiting {
		slices.SortStableFunc(nodes, func(a, b Node) int { return healths[a.Name].since.Compare(healths[b.Name].since) })
		interval, any := d.interval(zone)
		for _, n := range nodes {
			last, before := m.granted[zone]
			if !any {
				break
			}
			if next := last.Add(interval); before && next.After(d.Now) {
				d.again(next)
				break
			}
			m.granted[zone], m.tainted[n.Name] = d.Now, d.Now
		}
	}
}

// givenUp is since when a node has been given up, if it has. A time to come is
// that of a steward whose clock is ahead.
func (d *decider) givenUp(n Node) (at time.Time, is bool) {
	for _, t := range n.Was.Taints {
		if t.Effect == v1.TaintEffectNoExecute && lifecycle(t) {
			is = true
			if at = d.Now; t.TimeAdded != nil && t.TimeAdded.Time.Before(d.Now) {
				at = t.TimeAdded.Time
			}
		}
	}
	if known, here := d.Memory.tainted[n.Name]; !is && here {
		return known, true
	}
	return at, is
}

// lifecycle says whether a taint is of this package.
func lifecycle(t v1.Taint) bool {
	return t.Key == v1.TaintNodeNotReady || t.Key == v1.TaintNodeUnreachable
}

// taints are those of a node that is not ready. Where a node goes from not ready
// to unreachable or back, the time that pods have tolerated it goes on.
func (d *decider) taints(n Node, h health) (list []v1.Taint) {
	key := map[v1.ConditionStatus]string{v1.ConditionFalse: v1.TaintNodeNotReady, v1.ConditionUnknown: v1.TaintNodeUnreachable}[h.status]
	if key == "" {
		return nil
	}
	since := d.second()
	for _, t := range n.Was.Taints {
		if t.Key == key && t.Effect == v1.TaintEffectNoSchedule && t.TimeAdded != nil {
			since = *t.TimeAdded
		}
	}
	list = append(list, v1.Taint{Key: key, Effect: v1.TaintEffectNoSchedule, TimeAdded: &since})
	if at, is := d.out.Memory.tainted[n.Name]; is {
		since := metav1.NewTime(at.Truncate(time.Second))
		list = append(list, v1.Taint{Key: key, Effect: v1.TaintEffectNoExecute, TimeAdded: &since})
	}
	return list
}

// interval is how long after another a node of a zone may be given up, and
// whether any may.
func (d *decider) interval(zone string) (time.Duration, bool) {
	rate := d.Config.NodeEvictionRate
	if d.out.Zones[zone] == PartialDisruption {
		rate = d.Config.SecondaryNodeEvictionRate
		if d.size(zone) <= d.Config.LargeClusterSizeThreshold {
			rate = 0
		}
	}
	if !(rate > 0) {
		return 0, false
	}
	return time.Duration(min(float64(time.Second)/rate, math.MaxInt64/4)), true
}
