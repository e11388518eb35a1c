package daemon

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/pressure"
)

func bareTestNode() *v1.Node {
	n := &v1.Node{}
	n.Name, n.Labels = "n1", nodeLabels("n1", "amd64", map[string]string{"rack": "r1"})
	n.Annotations = map[string]string{annotationCPUs: "shared 0-3"}
	n.Spec.PodCIDR = "10.244.0.0/24"
	n.Spec.Taints = []v1.Taint{pressure.Taint(v1.NodeDiskPressure)}
	return n
}

func TestWhatPeopleSetOfANode(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	earlier := metav1.NewTime(now.Add(-time.Hour))
	old := bareTestNode()
	nodeWish{Taints: []v1.Taint{{Key: "old", Effect: v1.TaintEffectNoExecute, TimeAdded: &earlier}}}.wish(old)
	for _, c := range []struct {
		name    string
		change  func(*v1.Node)
		want    nodeWish
		refused string
	}{
		{"cordon", func(n *v1.Node) { n.Spec.Unschedulable = true; n.Spec.Taints = nil }, nodeWish{Unschedulable: true}, ""},
		{"a label and an annotation", func(n *v1.Node) { n.Labels["disk"], n.Annotations["a"] = "ssd", "b"; n.Spec.Taints = nil },
			nodeWish{Labels: map[string]string{"disk": "ssd"}, Annotations: map[string]string{"a": "b"}}, ""},
		{"a taint is kept with its time, a new one gets its own, the node's own counts for nothing", func(n *v1.Node) {
			n.Spec.Taints[1].TimeAdded = nil // clients drop it
			n.Spec.Taints = append(n.Spec.Taints, v1.Taint{Key: "new", Effect: v1.TaintEffectNoExecute}, v1.Taint{Key: "soft", Effect: v1.TaintEffectPreferNoSchedule}, cordonTaint)
		}, nodeWish{Taints: []v1.Taint{
			{Key: "old", Effect: v1.TaintEffectNoExecute, TimeAdded: &earlier}, {Key: "new", Effect: v1.TaintEffectNoExecute, TimeAdded: &metav1.Time{Time: now}},
			{Key: "soft", Effect: v1.TaintEffectPreferNoSchedule}}}, ""},
		{"the configuration's label is changed", func(n *v1.Node) { n.Labels["rack"] = "r2" }, nodeWish{}, "the label rack"},
		{"the node's own label is removed", func(n *v1.Node) { delete(n.Labels, v1.LabelHostname) }, nodeWish{}, v1.LabelHostname},
		{"something else of its spec", func(n *v1.Node) { n.Spec.ProviderID = "x" }, nodeWish{}, "only taints and unschedulable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			next := old.DeepCopy()
			c.change(next)
			got, err := wishOf(next, old, bareTestNode(), now)
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Fatalf("got %v, want a refusal that names %s", err, c.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			a, _ := json.Marshal(got)
			b, _ := json.Marshal(c.want)
			if string(a) != string(b) {
				t.Errorf("got  %s\nwant %s", a, b)
			}
			// What is wished for and shown is, written again, the same wish.
			shown := bareTestNode()
			got.wish(shown)
			again, err := wishOf(shown, shown, bareTestNode(), now.Add(time.Hour))
			if x, _ := json.Marshal(again); err != nil || string(x) != string(a) {
				t.Errorf("written again it is %s, %v", x, err)
			}
		})
	}
}

func TestACordonShowsAsATaintToo(t *testing.T) {
	n := bareTestNode()
	nodeWish{Unschedulable: true, Labels: map[string]string{"rack": "stolen"}}.wish(n)
	if want := []v1.Taint{pressure.Taint(v1.NodeDiskPressure), cordonTaint}; !n.Spec.Unschedulable || !reflect.DeepEqual(n.Spec.Taints, want) || n.Labels["rack"] != "r1" {
		t.Errorf("got %+v, labels %v", n.Spec, n.Labels)
	}
}
