package daemon

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/nodelife"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/steward"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// lifeHosts are hosts of one cluster, each of which runs a pod that nobody really
// runs.
func lifeHosts(t *testing.T, names ...string) *fileHosts {
	h := openHosts(t, names...)
	for _, f := range h.nodes {
		f.now = h.nodes[0].now.Truncate(time.Second)
		f.goBare()
		f.Config.Eviction.Config = nodelife.Defaults()
		ready := metav1.NewTime(f.now.Add(-time.Hour))
		n := &v1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}}
		n.Name = f.Config.Node
		n.Status.Conditions = []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionTrue, LastTransitionTime: ready}}
		p := &v1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
		p.Name, p.Namespace, p.UID, p.Spec.NodeName = "on-"+n.Name, "default", types.UID("uid-of-on-"+n.Name), n.Name
		s := v1.PodStatus{Phase: v1.PodRunning, StartTime: &ready, Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue, LastTransitionTime: ready}}}
		values := make(map[record.Name]json.RawMessage)
		for name, value := range map[record.Name]any{
			{Section: record.Status, Key: f.nodeKey().String()}:    n,
			{Section: record.Decisions, Key: podKey(p).String()}:   p,
			{Section: record.Status, Key: podKey(p).String()}:      view.PodStatus{UID: p.UID, Status: s},
			{Section: record.Decisions, Key: f.nodeKey().String()}: nodeWish{Labels: map[string]string{"set": "by-people"}},
		} {
			raw, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			values[name] = raw
		}
		f.publish(values)
	}
	for _, f := range h.nodes {
		f.sees(h, nodelife.Alive)
	}
	h.meet()
	return h
}

// sees has a host see these members in this state from now on, all others of the
// cluster alive.
func (f *files) sees(h *fileHosts, state nodelife.State, names ...string) {
	var list []steward.Member
	var life []nodelife.Node
	for _, o := range h.nodes {
		name := o.Config.Node
		n := nodelife.Node{Name: name, State: nodelife.Alive, Since: f.now}
		if slices.Contains(names, name) {
			n.State, n.Heard = state, f.now.Add(-4*time.Second)
		}
		for _, old := range f.nodes.members {
			if old.Name == name && old.State == n.State {
				n = old
			}
		}
		life = append(life, n)
		list = append(list, steward.Member{Name: name, Alive: n.State == nodelife.Alive, Ready: name != f.unready})
	}
	f.fleet.list, f.nodes.members, f.nodes.look = list, life, true
	f.decideOnNodes()
}

func (f *files) decideOnNodes() {
	f.followMembers()
	f.lookAtNodes()
	f.lookAtNodes() // what it said itself
}

// after has time pass on these hosts.
func after(d time.Duration, hosts ...*files) {
	for _, f := range hosts {
		f.now = f.now.Add(d)
		f.decideOnNodes()
	}
}

// life is how a host sees a node and its pod.
func (f *files) life(name string) string {
	node := f.seenNode(name)
	o, _ := f.view.Get(manifests.Key{Kind: "Pod", Namespace: "default", Name: "on-" + name})
	var taints []string
	for _, t := range node.Spec.Taints {
		taints = append(taints, strings.TrimPrefix(t.Key, "node.kubernetes.io/")+":"+string(t.Effect))
	}
	p := o.(*v1.Pod)
	return strings.TrimSpace(fmt.Sprintf("Ready=%s %s pod=%s %s", node.Status.Conditions[0].Status, strings.Join(taints, " "), p.Status.Conditions[0].Status, p.Status.Reason))
}

// verdicts are the hosts whose records say something of a node that is not theirs.
func (h *fileHosts) verdicts(of string) (by []string) {
	key := manifests.Key{Kind: "Node", Name: of}
	for _, f := range h.nodes {
		if f.Config.Node != of && f.own(record.Name{Section: record.Decisions, Key: key.String()}) != nil {
			by = append(by, f.Config.Node)
		}
	}
	return by
}

func (h *fileHosts) lives(what, of, want string, hosts ...*files) {
	h.t.Helper()
	for _, f := range hosts {
		if got := f.life(of); got != want {
			h.t.Errorf("%s: %s sees %s as %s, want %s", what, f.Config.Node, of, got, want)
		}
	}
}

const (
	well    = "Ready=True  pod=True"
	given   = "Ready=Unknown unreachable:NoSchedule unreachable:NoExecute pod=False NodeLost"
	unheard = "Ready=Unknown unreachable:NoSchedule pod=False NodeLost"
)

func TestALostNodeLooksSoToAllUntilItIsBack(t *testing.T) {
	h := lifeHosts(t, "n1", "n2", "n3", "n4")
	n3, others := h.nodes[2], []*files{h.nodes[0], h.nodes[1], h.nodes[3]}
	h.lives("at first", "n3", well, h.nodes...)
	after(time.Minute, h.nodes...)
	for _, f := range others {
		f.sees(h, nodelife.Failed, "n3")
	}
	h.meet(others...)
	h.lives("lost", "n3", given, others...)
	by := h.verdicts("n3")
	if len(by) != 1 {
		t.Fatalf("decided by %v, want one host", by)
	}
	h.lives("lost", "n3", well, n3)

	// Its steward dies as well: the next one takes over, and nothing changes.
	var left []*files
	for _, f := range others {
		if f.Config.Node != by[0] {
			left = append(left, f)
		}
	}
	after(time.Minute, left...)
	since := left[0].seenNode("n3").Spec.Taints[1].TimeAdded
	for _, f := range left {
		f.sees(h, nodelife.Failed, "n3", by[0])
	}
	h.meet(left...)
	h.lives("without its steward", "n3", given, left...)
	if now := left[0].seenNode("n3").Spec.Taints[1].TimeAdded; !now.Equal(since) {
		t.Errorf("given up since %s, before since %s", now, since)
	}
	for _, f := range h.nodes {
		if node := f.seenNode("n3"); node.Labels != nil && node.Labels["set"] != "" {
			t.Errorf("what people set of a node is not for others' records: %v", node.Labels)
		}
	}

	// All are back. What was said is taken back on all, but not at once.
	after(time.Minute, h.nodes...)
	for _, f := range h.nodes {
		f.sees(h, nodelife.Alive)
	}
	h.meet()
	after(returned-time.Millisecond, h.nodes...)
	h.meet()
	h.lives("just back", "n3", given, left...)
	for range 3 {
		after(time.Millisecond, h.nodes...)
		h.meet()
	}
	h.lives("back", "n3", well, h.nodes...)
	h.lives("back", by[0], well, h.nodes...)
	for _, of := range []string{"n3", by[0]} {
		if by := h.verdicts(of); len(by) > 0 {
			t.Errorf("of %s, %v still say something", of, by)
		}
	}
}

// TestAWordIsTakenBackThoughAnotherHostDecidesByThen: a host that was restarted can decide again just when the lost one is back.
func TestAWordIsTakenBackThoughAnotherHostDecidesByThen(t *testing.T) {
	h := lifeHosts(t, "n1", "n2", "n3", "n4")
	others := []*files{h.nodes[0], h.nodes[1], h.nodes[3]}
	first := others[0].nodeSteward(manifests.Key{Kind: "Node", Name: "n3"})
	after(time.Minute, h.nodes...)
	for _, f := range others {
		f.unready = first
		f.sees(h, nodelife.Failed, "n3")
	}
	h.meet(others...)
	h.lives("lost", "n3", given, others...)
	if by := h.verdicts("n3"); len(by) != 1 || by[0] == first {
		t.Fatalf("%v said it, want one other than %s", by, first)
	}
	for _, f := range h.nodes {
		f.sees(h, nodelife.Alive)
	}
	h.meet()
	for _, f := range h.nodes { // what happens to n3 is nothing new to anybody
		for i := range f.fleet.list {
			f.fleet.list[i].Ready = true
		}
		f.unready = ""
	}
	for range 4 {
		after(time.Second, h.nodes...)
		h.meet()
	}
	h.lives("back", "n3", well, h.nodes...)
}

// A host that was cut off says that another is lost, again and again: each time its steward says once more that it is not.
func TestTheStewardsWordCountsHoweverOftenItIsContradicted(t *testing.T) {
	for _, ahead := range []time.Duration{0, 24 * time.Hour} {
		h := lifeHosts(t, "n1", "n2", "n3")
		steward, other := h.nodes[0], h.nodes[1]
		key := manifests.Key{Kind: "Node", Name: "n3"}
		if steward.nodeSteward(key) != "n1" {
			steward, other = other, steward
		}
		other.now = other.now.Add(ahead)
		after(time.Minute, h.nodes...)
		for range 3 {
			taint := v1.Taint{Key: v1.TaintNodeUnreachable, Effect: v1.TaintEffectNoSchedule, TimeAdded: &metav1.Time{Time: other.now}}
			value, err := json.Marshal(nodeVerdict{Verdict: nodelife.Verdict{Taints: []v1.Taint{taint}}})
			if err != nil {
				t.Fatal(err)
			}
			other.publish(map[record.Name]json.RawMessage{{Section: record.Decisions, Key: key.String()}: value})
			h.hears(steward, other)
			after(time.Second, h.nodes...)
			h.lives("contradicted by a host whose clock is ahead by "+ahead.String(), "n3", well, steward)
		}
		h.meet()
		after(time.Second, h.nodes...)
		h.meet()
		after(time.Second, h.nodes...)
		h.lives("all have met", "n3", well, h.nodes...)
		if by := h.verdicts("n3"); len(by) > 0 {
			t.Errorf("%v still say something", by)
		}
	}
}

// A pod was deleted and ended, and then a steward took over that had not heard of it: by its word the pod is to run.
func TestAPodWhoseDeletionIsOverruledRunsAgain(t *testing.T) {
	n1 := lifeHosts(t, "n1", "n2").nodes[0]
	const uid = "uid-of-on-n1"
	o, _ := n1.view.Get(manifests.Key{Kind: "Pod", Namespace: "default", Name: "on-n1"})
	deleted := o.(*v1.Pod).DeepCopy()
	workload.MarkDeleted(deleted, 0, n1.now)
	for _, c := range []struct {
		decided *v1.Pod
		runs    bool
	}{{deleted, false}, {o.(*v1.Pod), true}} {
		value, err := json.Marshal(c.decided)
		if err != nil {
			t.Fatal(err)
		}
		n1.publish(map[record.Name]json.RawMessage{{Section: record.Decisions, Key: podKey(c.decided).String()}: value})
		n1.leftovers.gone(uid)
		n1.gone = map[types.UID]bool{uid: true}
		n1.runPods()
		n1.leftovers.mu.Lock()
		if given := n1.leftovers.given[uid] != nil; given != c.runs {
			t.Errorf("deleted %v: the agent has it: %v, want %v", c.decided.DeletionTimestamp, given, c.runs)
		}
		n1.leftovers.mu.Unlock()
	}
}

func TestWhoSeesTooFewGivesNobodyUp(t *testing.T) {
	h := lifeHosts(t, "n1", "n2", "n3")
	n1, n3 := h.nodes[0], h.nodes[2]
	after(time.Minute, n1, n3)
	n1.sees(h, nodelife.Failed, "n2")
	n3.sees(h, nodelife.Failed, "n2")
	h.meet(n1, n3)
	h.lives("one of three is lost", "n2", given, n1, n3)
	n1.sees(h, nodelife.Failed, "n2", "n3")
	h.lives("two of three are lost", "n2", unheard, n1)
	h.lives("two of three are lost", "n3", unheard, n1)
}

func TestAHostWhoseClockIsAheadDelaysNothing(t *testing.T) {
	h := lifeHosts(t, "n1", "n2", "n3")
	for _, f := range h.nodes[:2] {
		f.now = f.now.Add(time.Minute)
		f.sees(h, nodelife.Failed, "n3")
	}
	by := h.verdicts("n3")
	of, hears := h.nodes[0], h.nodes[1]
	if slices.Contains(by, "n2") {
		of, hears = hears, of
	}
	key := manifests.Key{Kind: "Node", Name: "n3"}
	v := of.nodes.words["n3"].Verdict
	tomorrow := metav1.NewTime(of.now.Add(24 * time.Hour))
	for i := range v.Taints {
		v.Taints[i].TimeAdded = &tomorrow
	}
	value, err := json.Marshal(nodeVerdict{Verdict: v})
	if err != nil {
		t.Fatal(err)
	}
	of.publish(map[record.Name]json.RawMessage{{Section: record.Decisions, Key: key.String()}: value})
	h.hears(hears, of)
	heard := hears.now
	after(time.Second, hears)
	hears.fold([]manifests.Key{key})
	for _, taint := range hears.seenNode("n3").Spec.Taints {
		if !taint.TimeAdded.Time.Equal(heard) {
			t.Errorf("%s since %s, want since it was heard, %s", taint.Key, taint.TimeAdded, heard)
		}
	}
}

func TestMembersAsTheirLossIsDecided(t *testing.T) {
	at := time.Unix(1000, 0)
	s := sight{me: "n1", seen: []gossip.Member{
		{Name: "n2", Status: gossip.Alive, Since: at}, {Name: "n3", Status: gossip.Failed, Since: at},
		{Name: "n4", Status: gossip.Failed, Since: at, Tags: map[string]string{tagLeaving: "1"}}, {Name: "n5", Status: gossip.Left, Since: at},
		{Name: "n6", Status: gossip.Leaving, Since: at},
	}, known: []string{"n1", "n3", "n7", "n8"}, left: map[string]bool{"n3": true, "n8": true}}
	start := time.Unix(1, 0)
	want := []nodelife.Node{
		{Name: "n1", State: nodelife.Alive, Since: start}, {Name: "n2", State: nodelife.Alive, Since: at},
		{Name: "n3", State: nodelife.Failed, Since: at, Heard: at.Add(-4 * time.Second)}, {Name: "n4", State: nodelife.Left, Since: at},
		{Name: "n5", State: nodelife.Left, Since: at}, {Name: "n6", State: nodelife.Alive, Since: at}, {Name: "n7", State: nodelife.Unseen, Since: start},
		{Name: "n8", State: nodelife.Left, Since: start},
	}
	if got := s.life(start); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
