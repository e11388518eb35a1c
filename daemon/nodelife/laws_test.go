package nodelife

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// given says whether a node's verdict drives pods out.
func given(v Verdict) bool {
	return slices.ContainsFunc(v.Taints, func(t v1.Taint) bool { return t.Effect == v1.TaintEffectNoExecute })
}

// TestLawsHoldWhateverHappens: hosts fail, come back, leave and report not
// ready at any time, in two zones.
func TestLawsHoldWhateverHappens(t *testing.T) {
	var gave, froze int
	rapid.Check(t, func(rt *rapid.T) {
		f := newFleet(t)
		a, b := rapid.IntRange(1, 6).Draw(rt, "in zone a"), rapid.IntRange(0, 4).Draw(rt, "in zone b")
		f.node([]string{fmt.Sprintf("a1-%d", a), "zone=a"})
		f.node([]string{fmt.Sprintf("b1-%d", b), "zone=b"})
		f.config.LargeClusterSizeThreshold = rapid.SampledFrom([]int{2, 50}).Draw(rt, "large")
		last := make(map[string]time.Time) // by zone
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			n := rapid.SampledFrom(f.nodes).Draw(rt, "node")
			what := rapid.SampledFrom([]string{"alive", "alive", "failed", "failed", "left", "unseen", "ready", "unready", "", ""}).Draw(rt, "what")
			if what != "" {
				f.happen([]string{n.Name}, what)
			}
			before := f.input()
			o := f.decide()

			shuffled := before
			shuffled.Nodes = slices.Clone(before.Nodes)
			rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "order"), 0)).Shuffle(len(shuffled.Nodes), func(i, j int) {
				shuffled.Nodes[i], shuffled.Nodes[j] = shuffled.Nodes[j], shuffled.Nodes[i]
			})
			if other := Decide(shuffled); !reflect.DeepEqual(o, other) {
				rt.Fatalf("in another order of nodes\n%s\nnot\n%s", other, o)
			}
			var alive, all int
			for _, n := range before.Nodes {
				v := o.Verdicts[n.Name]
				if n.State != Left {
					all++
				}
				if n.State == Alive {
					alive++
				}
				if ready := condition(n.Object, v1.NodeReady); n.State == Alive && ready.Status == v1.ConditionTrue && v.String() != "" {
					rt.Fatalf("%s is well, and yet %s", n.Name, v)
				}
				if given(v) && !given(n.Was) {
					gave++
					zone := n.Name[:1]
					if gap := f.now.Sub(last[zone]); gap < 10*time.Second {
						rt.Fatalf("%s is given up %s after another of its zone", n.Name, gap)
					}
					last[zone] = f.now
				}
			}
			if alive*2 < all {
				froze++
				if o.Frozen == "" || slices.ContainsFunc(f.nodes, func(n *Node) bool { return given(n.Was) }) {
					rt.Fatalf("%d of %d are in sight, and yet\n%s", alive, all, o)
				}
			}
			// Who looks earlier than it was asked to finds nothing new.
			wait := time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(rt, "wait"))
			if !o.Again.IsZero() && f.now.Add(wait).After(o.Again) {
				wait = o.Again.Sub(f.now)
			}
			early := f.input()
			early.Now = f.now.Add(wait)
			if o.Again.IsZero() || early.Now.Before(o.Again) {
				if sooner := Decide(early); !reflect.DeepEqual(sooner.Verdicts, o.Verdicts) || sooner.Frozen != o.Frozen {
					rt.Fatalf("%s later, before %s\n%s\nnot\n%s", wait, o.Again, sooner, o)
				}
			}
			f.now = f.now.Add(wait)
		}
	})
	if (gave == 0 || froze == 0) && !testing.Short() { // with -short there are 20 cases
		t.Errorf("%d nodes were given up, %d times too few were in sight: the test shows nothing", gave, froze)
	}
}

// TestWhoeverTakesOverGoesOn: a daemon that has just started, and is the steward
// now, keeps since when a node is given up, as what is in force says it.
func TestWhoeverTakesOverGoesOn(t *testing.T) {
	f := newFleet(t)
	f.node([]string{"n1-3"})
	f.run(f.now.Add(10 * time.Second))
	f.happen([]string{"n3"}, "failed")
	f.run(f.now.Add(20 * time.Second))
	was := f.last.Verdicts["n3"]
	if !given(was) {
		t.Fatalf("n3: %s", was)
	}
	f.memory, f.last = Memory{}, Outcome{}
	for range 5 {
		f.now = f.now.Add(700 * time.Millisecond)
		if got := f.decide().Verdicts["n3"]; !reflect.DeepEqual(got, was) {
			t.Fatalf("got %+v\nwant %+v", got, was)
		}
	}
	future := metav1.NewTime(f.now.Add(24 * time.Hour)) // by a steward whose clock is ahead
	for i := range f.nodes[2].Was.Taints {
		f.nodes[2].Was.Taints[i].TimeAdded = &future
	}
	f.memory = Memory{}
	for _, taint := range f.decide().Verdicts["n3"].Taints {
		if taint.Effect == v1.TaintEffectNoExecute && taint.TimeAdded.After(f.now) {
			t.Errorf("%s since a day from now: pods would stay as long", taint.Key)
		}
	}
}

// TestANodeIsGivenUpOnceThoughItsStewardSaysNothingYet: a daemon counts what
// others are to say.
func TestANodeIsGivenUpOnceThoughItsStewardSaysNothingYet(t *testing.T) {
	f := newFleet(t)
	f.node([]string{"n1-7"})
	f.decide()
	f.happen([]string{"n6", "n7"}, "failed")
	var got []string
	for ; f.now.Before(epoch.Add(30 * time.Second)); f.now = f.now.Add(time.Second) {
		o := f.decide()
		for _, n := range f.nodes {
			if v := o.Verdicts[n.Name]; given(v) {
				got = append(got, fmt.Sprint(n.Name, " ", v.Taints[1].TimeAdded.Sub(epoch)))
			}
			n.Was = Verdict{}
		}
	}
	if got = slices.Compact(slices.Sorted(slices.Values(got))); !slices.Equal(got, []string{"n6 4s", "n7 14s"}) {
		t.Errorf("given up: %v", got)
	}
}

func TestSuspicionIsPartOfTheGracePeriod(t *testing.T) {
	f := newFleet(t)
	f.node([]string{"n1-3"})
	f.decide()
	f.now = f.now.Add(time.Minute)
	f.happen([]string{"n3"}, "failed")
	for heard, want := range map[time.Duration]time.Duration{0: 4 * time.Second, 3 * time.Second: time.Second, 10 * time.Second: 0} {
		f.nodes[2].Heard, f.nodes[2].Was = f.now.Add(-heard), Verdict{}
		in := f.input()
		if want > 0 {
			if o := Decide(in); len(o.Verdicts) > 0 {
				t.Errorf("heard of %s ago: %s", heard, o)
			}
		}
		in.Now = f.now.Add(want)
		if o := Decide(in); !given(o.Verdicts["n3"]) {
			t.Errorf("heard of %s ago, %s after it failed: %s", heard, want, o)
		}
	}
}

func TestANodeThatIsLostLooksSoToAll(t *testing.T) {
	f := newFleet(t)
	f.node([]string{"n1-3"})
	own := f.nodes[2].Object
	cordon := v1.Taint{Key: v1.TaintNodeUnschedulable, Effect: v1.TaintEffectNoSchedule}
	own.Spec.Taints = []v1.Taint{cordon, {Key: v1.TaintNodeMemoryPressure, Effect: v1.TaintEffectNoSchedule}, {Key: v1.TaintNodeNotReady, Effect: v1.TaintEffectNoSchedule}}
	own.Status.Conditions[0].Status = v1.ConditionTrue
	heartbeat := metav1.NewTime(epoch.Add(-time.Second))
	own.Status.Conditions[3].LastHeartbeatTime = heartbeat
	f.decide()
	f.happen([]string{"n3"}, "failed")
	f.now = f.now.Add(4*time.Second + 300*time.Millisecond)
	before := own.DeepCopy()
	node := f.decide().Verdicts["n3"].Apply(own)
	if !reflect.DeepEqual(own, before) {
		t.Error("its own object was changed")
	}
	now := metav1.NewTime(epoch.Add(4 * time.Second))
	want := []v1.Taint{cordon, {Key: v1.TaintNodeUnreachable, Effect: v1.TaintEffectNoSchedule, TimeAdded: &now}, {Key: v1.TaintNodeUnreachable, Effect: v1.TaintEffectNoExecute, TimeAdded: &now}}
	if !reflect.DeepEqual(node.Spec.Taints, want) {
		t.Errorf("taints %+v\nwant %+v", node.Spec.Taints, want)
	}
	for _, c := range node.Status.Conditions {
		if c.Status != v1.ConditionUnknown || c.Reason != "NodeStatusUnknown" || c.Message != "Kubelet stopped posting node status." || c.LastTransitionTime != now {
			t.Errorf("%+v", c)
		}
	}
	if c := condition(node, v1.NodeReady); c.LastHeartbeatTime != heartbeat || len(node.Status.Conditions) != 4 {
		t.Errorf("%+v of %d", c, len(node.Status.Conditions))
	}
	f.happen([]string{"n3"}, "alive")
	if v := f.decide().Verdicts["n3"]; v.Apply(own) != own {
		t.Errorf("it is back, and yet %s", v)
	}
}

func TestPodsWithoutTolerationsOfTheirOwnGetTheDefault(t *testing.T) {
	hour := int64(3600)
	for _, c := range []struct {
		name    string
		own     []v1.Toleration
		timeout time.Duration
		added   string
	}{
		{"none", nil, 2 * time.Second, "not-ready:2 unreachable:2"},
		{"rounded up", nil, 1500 * time.Millisecond, "not-ready:2 unreachable:2"},
		{"no time", nil, 0, "not-ready:0 unreachable:0"},
		{"one of its own", []v1.Toleration{{Key: v1.TaintNodeUnreachable, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute, TolerationSeconds: &hour}}, 2 * time.Second, "not-ready:2"},
		{"of another effect", []v1.Toleration{{Key: v1.TaintNodeUnreachable, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoSchedule}}, 2 * time.Second, "not-ready:2 unreachable:2"},
		{"of all effects", []v1.Toleration{{Key: v1.TaintNodeNotReady, Operator: v1.TolerationOpExists}}, 2 * time.Second, "unreachable:2"},
		{"of everything", []v1.Toleration{{Operator: v1.TolerationOpExists}}, 2 * time.Second, ""},
	} {
		spec := v1.PodSpec{Tolerations: slices.Clone(c.own)}
		Tolerate(&spec, c.timeout)
		var added []string
		for _, o := range spec.Tolerations[len(c.own):] {
			if o.Effect != v1.TaintEffectNoExecute || o.Operator != v1.TolerationOpExists {
				t.Errorf("%s: %+v", c.name, o)
			}
			added = append(added, fmt.Sprint(strings.TrimPrefix(o.Key, "node.kubernetes.io/"), ":", *o.TolerationSeconds))
		}
		if got := strings.Join(added, " "); got != c.added {
			t.Errorf("%s: got %q, want %q", c.name, got, c.added)
		}
		again := spec.DeepCopy()
		if Tolerate(again, time.Hour); !reflect.DeepEqual(*again, spec) {
			t.Errorf("%s: given twice", c.name)
		}
	}
}

func TestAPodOfALostNodeIsNotReady(t *testing.T) {
	status := v1.PodStatus{Conditions: []v1.PodCondition{{Type: v1.PodScheduled, Status: v1.ConditionTrue}, {Type: v1.PodReady, Status: v1.ConditionTrue}}}
	before := status.DeepCopy()
	kept := status
	if !NotReady(&status, epoch) || status.Conditions[1].Status != v1.ConditionFalse || !status.Conditions[1].LastTransitionTime.Equal(&metav1.Time{Time: epoch}) {
		t.Errorf("%+v", status)
	}
	if !reflect.DeepEqual(kept, *before) {
		t.Error("what was handed over was changed")
	}
	if NotReady(&status, epoch.Add(time.Hour)) || NotReady(&v1.PodStatus{}, epoch) {
		t.Error("what is not ready is made so again")
	}
}

func TestSettingsThatMakeNoSenseAreNamed(t *testing.T) {
	Defaults().Validate(func(key, got, want string) { t.Errorf("the default of %s, %s: %s", key, got, want) })
	var bad []string
	Config{NodeMonitorPeriod: -1, PodEvictionTimeout: -time.Second, NodeStartupGracePeriod: math.MaxInt64, NodeEvictionRate: math.NaN(),
		SecondaryNodeEvictionRate: math.Inf(1), UnhealthyZoneThreshold: 55, LargeClusterSizeThreshold: -1}.Validate(func(key, got, want string) {
		bad = append(bad, strings.TrimPrefix(key, "eviction."))
	})
	want := []string{"node_status_update_frequency", "node_monitor_period", "node_startup_grace_period", "pod_eviction_timeout",
		"node_eviction_rate", "secondary_node_eviction_rate", "unhealthy_zone_threshold", "large_cluster_size_threshold"}
	if !slices.Equal(bad, want) {
		t.Errorf("got %v\nwant %v", bad, want)
	}
}

// BenchmarkDecide1000 is a fleet of a thousand hosts, one in ten of which fails.
func BenchmarkDecide1000(b *testing.B) {
	f := &fleet{now: epoch, config: Defaults()}
	f.node([]string{"n1-1000"})
	f.decide()
	f.happen([]string{"n1-100"}, "failed")
	f.now = f.now.Add(10 * time.Second)
	in := f.input()
	for b.Loop() {
		Decide(in)
	}
}
