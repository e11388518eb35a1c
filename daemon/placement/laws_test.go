package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

func quantity(s string) resource.Quantity { return resource.MustParse(s) }

func uid(s string) types.UID { return types.UID(s) }

// world is a random cluster, small enough that filters collide.
func world(t *rapid.T) (nodes []*v1.Node, pods []*v1.Pod, next *v1.Pod) {
	zones := []string{"a", "b", "c"}
	for i := range rapid.IntRange(1, 6).Draw(t, "nodes") {
		n := &v1.Node{}
		n.Name = "n" + strconv.Itoa(i)
		n.Labels = map[string]string{v1.LabelHostname: n.Name}
		if rapid.Bool().Draw(t, "zoned") {
			n.Labels[v1.LabelTopologyZone] = rapid.SampledFrom(zones).Draw(t, "zone")
		}
		n.Spec.Unschedulable = rapid.IntRange(0, 5).Draw(t, "cordon") == 0
		if rapid.IntRange(0, 3).Draw(t, "taint") == 0 {
			n.Spec.Taints = []v1.Taint{{Key: "k", Effect: rapid.SampledFrom([]v1.TaintEffect{
				v1.TaintEffectNoSchedule, v1.TaintEffectNoExecute, v1.TaintEffectPreferNoSchedule}).Draw(t, "effect")}}
		}
		n.Status.Allocatable = v1.ResourceList{
			v1.ResourceCPU:    *resource.NewMilliQuantity(rapid.Int64Range(100, 2000).Draw(t, "cpu"), resource.DecimalSI),
			v1.ResourceMemory: *resource.NewQuantity(rapid.Int64Range(1, 1000).Draw(t, "memory"), resource.DecimalSI),
			v1.ResourcePods:   *resource.NewQuantity(rapid.Int64Range(1, 8).Draw(t, "pods"), resource.DecimalSI)}
		nodes = append(nodes, n)
	}
	for i := range rapid.IntRange(0, 12).Draw(t, "placed") {
		p := randomPod(t, "p"+strconv.Itoa(i))
		p.Spec.NodeName = rapid.SampledFrom(nodes).Draw(t, "on").Name
		pods = append(pods, p)
	}
	return nodes, pods, randomPod(t, "next")
}

func randomPod(t *rapid.T, name string) *v1.Pod {
	p := &v1.Pod{}
	p.Name, p.Namespace, p.UID = name, "default", types.UID(name)
	p.Labels = map[string]string{"app": rapid.SampledFrom([]string{"x", "y"}).Draw(t, "app")}
	p.Spec.Containers = []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{Requests: v1.ResourceList{
		v1.ResourceCPU: *resource.NewMilliQuantity(rapid.Int64Range(0, 700).Draw(t, "asks"), resource.DecimalSI)}}}}
	if rapid.IntRange(0, 3).Draw(t, "port") == 0 {
		p.Spec.Containers[0].Ports = []v1.ContainerPort{{HostPort: 80, ContainerPort: 80}}
	}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": rapid.SampledFrom([]string{"x", "y"}).Draw(t, "other")}}
	key := rapid.SampledFrom([]string{v1.LabelHostname, v1.LabelTopologyZone}).Draw(t, "key")
	near := []v1.PodAffinityTerm{{LabelSelector: selector, TopologyKey: key}}
	soft := []v1.WeightedPodAffinityTerm{{Weight: 7, PodAffinityTerm: near[0]}}
	switch rapid.IntRange(0, 7).Draw(t, "what") {
	case 0:
		p.Spec.Affinity = &v1.Affinity{PodAffinity: &v1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: near}}
	case 1:
		p.Spec.Affinity = &v1.Affinity{PodAntiAffinity: &v1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: near}}
	case 2:
		p.Spec.Affinity = &v1.Affinity{PodAntiAffinity: &v1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: soft}}
	case 3:
		p.Spec.TopologySpreadConstraints = []v1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: key, LabelSelector: selector,
			WhenUnsatisfiable: rapid.SampledFrom([]v1.UnsatisfiableConstraintAction{v1.DoNotSchedule, v1.ScheduleAnyway}).Draw(t, "hard")}}
	case 4:
		p.Spec.NodeSelector = map[string]string{v1.LabelTopologyZone: "a"}
	case 5:
		p.Spec.Tolerations = []v1.Toleration{{Operator: v1.TolerationOpExists}}
	}
	return p
}

// The rules, written down again without any of the package's code: a slow and
// obvious judge of where a pod ended up.
func breaksRule(nodes []*v1.Node, pods []*v1.Pod, p *v1.Pod, at *v1.Node) string {
	used, there := p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue(), int64(1)
	tolerant := len(p.Spec.Tolerations) > 0
	labels := make(map[string]map[string]string)
	for _, n := range nodes {
		labels[n.Name] = n.Labels
	}
	for _, o := range pods {
		if o.Spec.NodeName != at.Name {
			continue
		}
		there++
		used += o.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
		if len(o.Spec.Containers[0].Ports) > 0 && len(p.Spec.Containers[0].Ports) > 0 {
			return "port 80 twice"
		}
	}
	switch asked := p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue(); {
	case asked > 0 && used > at.Status.Allocatable.Cpu().MilliValue():
		return "too little cpu"
	case there > at.Status.Allocatable.Pods().Value():
		return "too many pods"
	case at.Spec.Unschedulable && !tolerant:
		return "cordoned"
	case len(at.Spec.Taints) > 0 && at.Spec.Taints[0].Effect != v1.TaintEffectPreferNoSchedule && !tolerant:
		return "tainted"
	case p.Spec.NodeSelector != nil && at.Labels[v1.LabelTopologyZone] != "a":
		return "another zone was asked for"
	}
	same := func(key, a, b string) bool {
		x, ok := labels[a][key]
		y, also := labels[b][key]
		return ok && also && x == y
	}
	against := func(who, whom *v1.Pod) bool {
		a := who.Spec.Affinity
		if a == nil || a.PodAntiAffinity == nil {
			return false
		}
		for _, t := range a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			if t.LabelSelector.MatchLabels["app"] == whom.Labels["app"] && same(t.TopologyKey, pick(who.Spec.NodeName, at.Name), pick(whom.Spec.NodeName, at.Name)) {
				return true
			}
		}
		return false
	}
	for _, o := range pods {
		if against(p, o) || against(o, p) {
			return "anti-affinity with " + o.Name
		}
	}
	return ""
}

func pick(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func TestNoPodIsPlacedWhereARuleForbidsIt(t *testing.T) {
	placed := 0
	rapid.Check(t, func(t *rapid.T) {
		nodes, pods, next := world(t)
		out := New(nodes, pods, nil).Place(next, Options{})
		if out.Node == "" {
			if out.Message() == "" || len(out.Refused) != len(nodes) {
				t.Fatalf("nowhere, and %d of %d nodes say why: %q", len(out.Refused), len(nodes), out.Message())
			}
			return
		}
		placed++
		i := slices.IndexFunc(nodes, func(n *v1.Node) bool { return n.Name == out.Node })
		if broken := breaksRule(nodes, pods, next, nodes[i]); broken != "" {
			t.Fatalf("placed on %s: %s", out.Node, broken)
		}
		for _, s := range out.Scores {
			for kind, points := range s.points {
				if points < 0 || points > maxPoints*scores[kind].weight {
					t.Fatalf("%s gives %d points", scores[kind].name, points)
				}
			}
		}
	})
	if placed == 0 {
		t.Error("no pod was ever placed: the worlds are too hard")
	}
}

func TestTheOrderOfTheInputMakesNoDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, pods, next := world(t)
		want := New(nodes, pods, nil).Place(next, Options{})
		chance := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		chance.Shuffle(len(nodes), func(i, k int) { nodes[i], nodes[k] = nodes[k], nodes[i] })
		chance.Shuffle(len(pods), func(i, k int) { pods[i], pods[k] = pods[k], pods[i] })
		c := New(nodes, pods, nil)
		for range 2 { // and asking changes nothing
			got := c.Place(next, Options{})
			if got.Node != want.Node || got.Message() != want.Message() || !slices.Equal(got.Lines(), want.Lines()) {
				t.Fatalf("got %s %q %v, want %s %q %v", got.Node, got.Message(), got.Lines(), want.Node, want.Message(), want.Lines())
			}
		}
	})
}

func TestAPodThatIsTakenAwayLeavesNothingBehind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, pods, next := world(t)
		want := New(nodes, pods, nil).Place(next, Options{})
		c := New(nodes, pods, nil)
		extra := randomPod(t, "extra")
		extra.Spec.NodeName = nodes[0].Name
		c.Add(extra)
		c.Place(next, Options{})
		c.Remove(extra)
		if got := c.Place(next, Options{}); got.Node != want.Node || got.Message() != want.Message() {
			t.Fatalf("got %s %q, want %s %q", got.Node, got.Message(), want.Node, want.Message())
		}
	})
}

// Alike nodes: who comes first is by chance, but the same chance everywhere, and
// not the same node for every pod.
// What is counted once for many pods is right whatever comes and goes between
// them.
func TestAClusterThatIsFollowedIsTheOneMadeAnew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, pods, _ := world(t)
		c := New(nodes, nil, nil)
		var there []*v1.Pod
		options := Options{Siblings: labels.SelectorFromSet(labels.Set{"app": "x"})}
		for i, p := range pods {
			if len(there) > 0 && rapid.IntRange(0, 2).Draw(t, "go") == 0 {
				gone := rapid.IntRange(0, len(there)-1).Draw(t, "gone")
				c.Remove(there[gone])
				there = slices.Delete(there, gone, gone+1)
			}
			c.Add(p)
			there = append(there, p)
			next := randomPod(t, "next"+strconv.Itoa(i))
			got, want := c.Place(next, options), New(nodes, there, nil).Place(next, options)
			if fmt.Sprint(got.Lines(), got.Message()) != fmt.Sprint(want.Lines(), want.Message()) {
				t.Fatalf("followed:\n%v %s\nanew:\n%v %s", got.Lines(), got.Message(), want.Lines(), want.Message())
			}
		}
	})
}

func TestOfEqualNodesNotAlwaysTheSameIsTaken(t *testing.T) {
	var nodes []*v1.Node
	for i := range 5 {
		n := &v1.Node{}
		n.Name = "n" + strconv.Itoa(i)
		n.Status.Allocatable = v1.ResourceList{v1.ResourcePods: quantity("10")}
		nodes = append(nodes, n)
	}
	taken := make(map[string]int)
	for i := range 100 {
		p := &v1.Pod{}
		p.UID = uid(fmt.Sprint("pod", i))
		taken[New(nodes, nil, nil).Place(p, Options{}).Node]++
	}
	for _, n := range nodes {
		if taken[n.Name] < 5 {
			t.Errorf("%s was taken %d times of 100: %v", n.Name, taken[n.Name], taken)
		}
	}
}

func BenchmarkPlace1000PodsOn100Nodes(b *testing.B) { benchmark(b, 100, 1000) }

func BenchmarkPlace1000PodsOn1000Nodes(b *testing.B) { benchmark(b, 1000, 1000) }

func BenchmarkPlace10000PodsOn1000Nodes(b *testing.B) { benchmark(b, 1000, 10000) }

func benchmark(b *testing.B, nodes, pods int) {
	siblings := labels.SelectorFromSet(labels.Set{"app": "web"})
	var list []*v1.Node
	for i := range nodes {
		n := &v1.Node{}
		n.Name = "n" + strconv.Itoa(i)
		n.Labels = map[string]string{v1.LabelHostname: n.Name, v1.LabelTopologyZone: strconv.Itoa(i % 3)}
		n.Status.Allocatable = v1.ResourceList{v1.ResourceCPU: quantity("8"), v1.ResourceMemory: quantity("32Gi"), v1.ResourcePods: quantity("110")}
		list = append(list, n)
	}
	for b.Loop() {
		c := New(list, nil, nil)
		for i := range pods {
			p := &v1.Pod{}
			p.Name, p.Namespace, p.UID = "p"+strconv.Itoa(i), "default", uid("p"+strconv.Itoa(i))
			p.Spec.Containers = []v1.Container{{Name: "c", Image: "nginx", Resources: v1.ResourceRequirements{
				Requests: v1.ResourceList{v1.ResourceCPU: quantity("50m"), v1.ResourceMemory: quantity("64Mi")}}}}
			p.Labels = map[string]string{"app": "web"}
			out := c.Place(p, Options{Siblings: siblings})
			if out.Node == "" {
				b.Fatal(out.Message())
			}
			p.Spec.NodeName = out.Node
			c.Add(p)
		}
	}
	b.ReportMetric(float64(b.N*pods)/b.Elapsed().Seconds(), "placements/s")
}

// TestPreemptionMakesRoomAndNoMore: without the victims the pod fits by the
// judge's rules, none of them is as important as the pod, and with any one of
// them left it does not fit.
func TestPreemptionMakesRoomAndNoMore(t *testing.T) {
	preempted := 0
	rapid.Check(t, func(t *rapid.T) {
		nodes, pods, next := world(t)
		for _, p := range append(slices.Clone(pods), next) {
			priority := rapid.Int32Range(0, 3).Draw(t, "priority")
			p.Spec.Priority = &priority
		}
		var budgets []*policy.PodDisruptionBudget
		if rapid.Bool().Draw(t, "budget") {
			b := &policy.PodDisruptionBudget{}
			b.Namespace, b.Spec.Selector = "default", &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}
			b.Status.DisruptionsAllowed = rapid.Int32Range(0, 2).Draw(t, "allowed")
			budgets = append(budgets, b)
		}
		o := Options{Budgets: budgets}
		out := New(nodes, pods, nil).Place(next, o)
		room := out.Preemption
		if room == nil {
			if out.Node == "" && out.Nominated != "" {
				t.Fatalf("nominated to %s, with nothing made to go", out.Nominated)
			}
			return
		}
		preempted++
		if len(room.Victims) == 0 || out.Nominated != room.Node {
			t.Fatalf("%d victims on %s, nominated to %q", len(room.Victims), room.Node, out.Nominated)
		}
		without := func(spared types.UID) []*v1.Pod {
			return slices.DeleteFunc(slices.Clone(pods), func(p *v1.Pod) bool {
				return p.UID != spared && slices.ContainsFunc(room.Victims, func(v *v1.Pod) bool { return v.UID == p.UID })
			})
		}
		i := slices.IndexFunc(nodes, func(n *v1.Node) bool { return n.Name == room.Node })
		if broken := breaksRule(nodes, without(""), next, nodes[i]); broken != "" {
			t.Fatalf("without the victims: %s", broken)
		}
		for _, v := range room.Victims {
			if *v.Spec.Priority >= *next.Spec.Priority || v.Spec.NodeName != room.Node {
				t.Fatalf("%s of priority %d on %s makes room on %s for one of %d", v.Name, *v.Spec.Priority, v.Spec.NodeName, room.Node, *next.Spec.Priority)
			}
			only := next.DeepCopy() // whether it fits there, and not elsewhere
			only.Spec.NodeName = room.Node
			if again := New(nodes, without(v.UID), nil).Place(only, o); again.Node != "" {
				t.Fatalf("%s goes, and need not", v.Name)
			}
		}
		slices.Reverse(nodes)
		slices.Reverse(pods)
		if other := New(nodes, pods, nil).Place(next, o).Preemption; other == nil || other.Node != room.Node || !slices.Equal(other.Victims, room.Victims) {
			t.Fatalf("in another order: %+v, was %+v", other, room)
		}
	})
	if preempted == 0 && !testing.Short() {
		t.Error("nothing was ever preempted")
	}
}

// TestTiesAreSharedOutEvenly: the names of hosts often differ in one byte alone.
func TestTiesAreSharedOutEvenly(t *testing.T) {
	const pods = 4000
	for _, format := range []string{"n%d", "web-%02d", "edge-berlin-%d.example.org"} {
		var list []Score
		for i := range 4 {
			list = append(list, Score{Node: fmt.Sprintf(format, i+1)})
		}
		won := make(map[string]int)
		for i := range pods {
			p := &v1.Pod{}
			p.UID = uid(fmt.Sprintf("%08x-0000-4000-8000-000000000000", i))
			won[best(p, list)]++
		}
		for _, s := range list {
			// Six standard deviations of a fair draw.
			if n := won[s.Node]; n < pods/4-165 || n > pods/4+165 {
				t.Errorf("%s won %d of %d ties among 4 nodes", s.Node, n, pods)
			}
		}
	}
}
