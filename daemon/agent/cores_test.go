package agent

import (
	"log/slog"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/cpuset"
	"github.com/shoal-project/shoal/daemon/pod"
)

// fourCPUs is a host of four CPUs of which CPU 0 is reserved.
func fourCPUs(t *testing.T) cpuset.Node {
	t.Helper()
	var topology cpuset.Topology
	for i := range 4 {
		topology = append(topology, cpuset.CPU{ID: i, Core: i})
	}
	node, err := cpuset.NewNode(topology, cpuset.Policy{Static: true})
	if err != nil {
		t.Fatal(err)
	}
	return node
}

func guaranteed(name, cpu string) *v1.Pod {
	p := &v1.Pod{}
	p.Namespace, p.Name, p.UID = "default", name, types.UID(name)
	list := v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse("1Gi")}
	p.Spec.Containers = []v1.Container{{Name: "main", Resources: v1.ResourceRequirements{Limits: list, Requests: list}}}
	return p
}

// Nobody begins on processors that others still run on; whoever must leave does
// so at once.
func TestOthersLeaveBeforeTheHolderBegins(t *testing.T) {
	told := 0
	c := newCores(fourCPUs(t), slog.New(slog.DiscardHandler), func() { told++ })
	pool, _ := c.beginPool()
	c.endPool(pool)
	c.end("shares", c.begin("shares").Scope())
	own := guaranteed("own", "2")
	if err := c.admit(own, needs(own, false)); err != nil {
		t.Fatal(err)
	}
	if g := c.grant("own"); g.Ready || len(g.Own) > 0 {
		t.Fatalf("granted %v while all pods run there", g)
	}
	pool, _ = c.beginPool()
	c.endPool(pool)
	if g := c.grant("own"); g.Ready || pool.String() != "0,3" {
		t.Fatalf("granted %v while another pod's scope is there; pool %s", g, pool)
	}
	told = 0
	c.end("shares", c.begin("shares").Scope())
	g := c.begin("own")
	if !g.Ready || g.Own["main"].String() != "1-2" || g.Scope().String() != "0-3" || told == 0 {
		t.Fatalf("got %v (others told: %d), want CPUs 1-2", g, told)
	}
	c.end("own", g.Scope())
	// Resized to one: it gives the other back only when it has left it.
	less := guaranteed("own", "1")
	if err := c.admit(less, needs(less, true)); err != nil {
		t.Fatal(err)
	}
	other := guaranteed("other", "2")
	if err := c.admit(other, needs(other, false)); err != nil {
		t.Fatal(err)
	}
	if g := c.grant("other"); g.Ready {
		t.Fatalf("granted %v before the former holder left", g)
	}
	pool, _ = c.beginPool()
	c.endPool(pool)
	c.end("shares", c.begin("shares").Scope())
	c.end("own", c.begin("own").Scope())
	if g := c.grant("other"); !g.Ready || g.Own.CPUs().Size() != 2 {
		t.Fatalf("granted %v after all others left", g)
	}
	c.stopped("own")
	c.release("own")
	if got := c.String(); got != "default/other/main 1,3; shared 0,2; reserved 0" && got != "default/other/main 2-3; shared 0-1; reserved 0" {
		t.Errorf("got %q", got)
	}
}

// After a restart pods hold what they held, and where anybody runs is not
// believed until it was set again.
func TestWhatPodsHoldSurvivesTheDaemon(t *testing.T) {
	c := newCores(fourCPUs(t), slog.New(slog.DiscardHandler), func() {})
	burstable := &v1.Pod{}
	burstable.UID = "burstable"
	c.restore([]*state{
		{Pod: guaranteed("own", "2"), Held: map[string]string{"main": "2-3"}},
		{Pod: guaranteed("shares", "500m")},
		{Pod: burstable},
	})
	if got := c.holds("own")["main"].String(); got != "2-3" {
		t.Errorf("holds %s, want 2-3 as before", got)
	}
	if g := c.grant("own"); g.Ready {
		t.Error("granted before the others were moved")
	}
	pool, _ := c.beginPool()
	c.endPool(pool)
	c.end("shares", c.begin("shares").Scope())
	if g := c.grant("own"); !g.Ready || g.Own["main"].String() != "2-3" {
		t.Errorf("got %v, want 2-3: pods whose cpuset is their slice's hold nobody up", g)
	}
}

// Who was alone on what he holds stays there while all are moved once more.
func TestARestartTakesNobodyOffHisProcessors(t *testing.T) {
	c := newCores(fourCPUs(t), slog.New(slog.DiscardHandler), func() {})
	at := func(set string) map[string]*containerState {
		return map[string]*containerState{"main": {Current: &pod.Attempt{CPUs: pod.CPUs{Set: set, Own: true}}}}
	}
	c.restore([]*state{
		{Pod: guaranteed("own", "1"), Held: map[string]string{"main": "3"}, Containers: at("3")},
		{Pod: guaranteed("grows", "2"), Held: map[string]string{"main": "1-2"}, Containers: at("2")},
		{Pod: guaranteed("shares", "500m")},
	})
	if g := c.grant("own"); !g.Ready || g.Own["main"].String() != "3" {
		t.Errorf("got %v, want 3, where it was alone", g)
	}
	if g := c.grant("grows"); g.Ready || g.Own["main"].String() != "2" {
		t.Errorf("got %v, want 2 alone until the others are known to have left 1", g)
	}
}

// A changed policy moves running pods: nobody waits for anybody who waits.
func TestSwappedProcessorsAreHandedOver(t *testing.T) {
	c := newCores(fourCPUs(t), slog.New(slog.DiscardHandler), func() {})
	pool, _ := c.beginPool()
	c.endPool(pool)
	for _, name := range []string{"a", "b"} {
		p := guaranteed(name, "1")
		if err := c.admit(p, needs(p, false)); err != nil {
			t.Fatal(err)
		}
	}
	settle := func() {
		for range 4 {
			pool, _ := c.beginPool()
			c.endPool(pool)
			c.end("a", c.begin("a").Scope())
			c.end("b", c.begin("b").Scope())
		}
	}
	settle()
	node := fourCPUs(t)
	node.Policy.Reserved, _ = cpuset.Parse("1-2") // what a and b hold
	c.set(node)
	settle()
	a, b := c.grant("a"), c.grant("b")
	if !a.Ready || !b.Ready || a.Own.CPUs().Union(b.Own.CPUs()).String() != "0,3" {
		t.Errorf("got %v and %v, want 0 and 3", a, b)
	}
	node.Policy = cpuset.Policy{}
	c.set(node)
	settle()
	if a := c.grant("a"); !a.Scope().IsEmpty() || c.String() != "" {
		t.Errorf("got %v with policy none", a)
	}
}
