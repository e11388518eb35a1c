package daemon

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/agent"
	"github.com/shoal-project/shoal/daemon/image"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/steward"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// TestThoseWhoDecideAboutVictimsHearOfItThroughThePodsStatus: n1 decides about
// the pod for which room is made on n2, n2 about those who make it.
func TestThoseWhoDecideAboutVictimsHearOfItThroughThePodsStatus(t *testing.T) {
	h := openHosts(t, "n1", "n2")
	n1, n2 := h.nodes[0], h.nodes[1]
	for _, f := range h.nodes {
		f.host = &host{dirtyQoS: make(chan []*v1.Pod, 1)}
		f.agent = agent.New(t.Context(), agent.Config{Logger: f.Log, Node: func() pod.Node { return pod.Node{Name: "nobody"} }}) // nothing runs
		f.stewards.follow([]steward.Member{{Name: "n1", Alive: true, Ready: true}, {Name: "n2", Alive: true, Ready: true}})
	}
	decidedBy := func(f *files, prefix string) string { // a name of which that host is the steward
		for i := 0; ; i++ {
			name := fmt.Sprint(prefix, i)
			if f.decides(manifests.Key{Kind: "Pod", Namespace: "x", Name: name}) {
				return name
			}
		}
	}
	decide := func(f *files, name, uid, node string, priority int32) manifests.Key {
		p := &v1.Pod{}
		p.Name, p.Namespace, p.UID, p.Spec.NodeName, p.Spec.Priority, p.Spec.SchedulerName = name, "x", types.UID(uid), node, &priority, "default-scheduler"
		p.Spec.Containers = []v1.Container{{Name: "c", Image: "i"}}
		value, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		f.publish(map[record.Name]json.RawMessage{{Section: record.Decisions, Key: podKey(p).String()}: value})
		return podKey(p)
	}
	low, same, other := decidedBy(n2, "low"), decidedBy(n2, "same"), decidedBy(n2, "other")
	victim := decide(n2, low, "low", "n2", 5)
	equal := decide(n2, same, "same", "n2", 10)
	another := decide(n2, other, "new", "n2", 5)
	vip := decide(n1, decidedBy(n1, "vip"), "vip", "", 10)
	ask := func(nominated string) {
		s := view.PodStatus{UID: "vip", Status: v1.PodStatus{Phase: v1.PodPending, NominatedNodeName: nominated}, Preempts: []view.Victim{
			{Namespace: "x", Name: low, UID: "low"}, {Namespace: "x", Name: same, UID: "same"}, {Namespace: "x", Name: other, UID: "old"}, {Namespace: "x", Name: "none", UID: "none"}}}
		value, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		n1.publish(map[record.Name]json.RawMessage{{Section: record.Status, Key: vip.String()}: value})
		h.meet()
	}
	ask("")
	if n2.giveWay() {
		t.Error("somebody gave way to a pod for which no node is kept")
	}
	n2.waiting.look = false
	ask("n2")
	if !n2.waiting.look {
		t.Error("the steward of the victims does not look")
	}
	if !n2.giveWay() || n2.giveWay() {
		t.Error("want them to give way, once")
	}
	h.meet()
	for _, f := range h.nodes {
		gone := func(key manifests.Key) string {
			o, _ := f.view.Get(key)
			p, _ := o.(*v1.Pod)
			if p == nil || p.DeletionTimestamp == nil {
				return ""
			}
			return pod.Disruption(p.Status).Reason
		}
		if gone(victim) != v1.PodReasonPreemptionByScheduler || gone(equal) != "" || gone(another) != "" {
			t.Errorf("on %s: %q, one of equal priority %q, another pod of a victim's name %q", f.Config.Node, gone(victim), gone(equal), gone(another))
		}
	}
	if got, want := n2.eventsOf(reasonPreempted), "Preempted by pod vip on node n2\n"; got != want {
		t.Errorf("events %q, want %q", got, want)
	}
}

func TestANodeTellsOfItsLargestImages(t *testing.T) {
	var list []image.Image
	for i := range 60 {
		list = append(list, image.Image{ID: fmt.Sprint(i), Size: int64(i), Names: []string{fmt.Sprintf("example.org/i%d:1", i)}, Digests: []string{"d"}})
	}
	list[59].Names = []string{"a", "b", "c", "d", "e", "f"}
	got := toldImages(list)
	if len(got) != 50 || got[0].SizeBytes != 59 || got[49].SizeBytes != 10 {
		t.Fatalf("%d images, from %d to %d bytes", len(got), got[0].SizeBytes, got[len(got)-1].SizeBytes)
	}
	if want := []string{"d", "a", "b", "c", "d"}; !slices.Equal(got[0].Names, want) {
		t.Errorf("names %v, want %v", got[0].Names, want)
	}
	if want := []string{"d", "example.org/i58:1"}; !slices.Equal(got[1].Names, want) {
		t.Errorf("names %v, want %v", got[1].Names, want)
	}
}

// TestWhatAPodWasGivenCountsAndNotWhatItWaitsFor: of two pods whose edits wait,
// each would keep the other waiting.
func TestWhatAPodWasGivenCountsAndNotWhatItWaitsFor(t *testing.T) {
	asks := func(uid, cpu string) *v1.Pod {
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}}
		p.Spec.Containers = []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}}}}
		return p
	}
	var r rooms
	cpu := func(p *v1.Pod) string { return r.asGiven(p).Spec.Containers[0].Resources.Requests.Cpu().String() }
	p := asks("a", "2")
	if got := cpu(p); got != "2" {
		t.Errorf("nothing is known but what it asks for: got %s", got)
	}
	p.Status.ContainerStatuses = []v1.ContainerStatus{{Name: "c", AllocatedResources: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")}}}
	if got := cpu(p); got != "1" {
		t.Errorf("its node says what it has: got %s", got)
	}
	r.give(asks("a", "1500m"))
	if got := cpu(p); got != "1500m" {
		t.Errorf("it was given more since: got %s", got)
	}
	r.leave("a")
	if got := cpu(p); got != "1" {
		t.Errorf("it has left: got %s", got)
	}
	if got := p.Spec.Containers[0].Resources.Requests.Cpu().String(); got != "2" {
		t.Errorf("the pod itself was changed: %s", got)
	}
}
