package daemon

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/nodelife"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/manifests"
)

// peopleSet is what people set of a node, as a host sees it.
func (f *files) peopleSet(name string) string {
	node := f.seenNode(name)
	var taints []string
	for _, t := range node.Spec.Taints {
		if !strings.Contains(t.Key, "unreachable") {
			taints = append(taints, t.Key)
		}
	}
	return fmt.Sprint(node.Labels["set"], " ", node.Labels["rack"], " ", taints, " ", node.Spec.Unschedulable)
}

// edit writes a node through the host that is to carry that out.
func (h *fileHosts) edit(name string, change func(*v1.Node)) *files {
	h.t.Helper()
	key := manifests.Key{Kind: "Node", Name: name}
	home := h.nodes[0].nodeHome(key)
	for _, f := range h.nodes {
		if f.Config.Node != home {
			continue
		}
		node := f.seenNode(name).DeepCopy()
		change(node)
		if _, err := (writer{f.Daemon}).write(key, node, api.WriteOptions{}); err != nil {
			h.t.Fatal(err)
		}
		return f
	}
	h.t.Fatalf("nobody is to write node %s", name)
	return nil
}

// TestALostNodeIsLabelledAndTaintedUntilItIsBack: what people set of it is kept by
// who decides about it, then by the node, and the last to set something wins.
func TestALostNodeIsLabelledAndTaintedUntilItIsBack(t *testing.T) {
	h := lifeHosts(t, "n1", "n2", "n3")
	n3, others := h.nodes[2], h.nodes[:2]
	key := manifests.Key{Kind: "Node", Name: "n3"}
	n := n3.seenNode("n3").DeepCopy()
	n.Labels = map[string]string{"set": "by-people"}
	n.Spec.Taints = []v1.Taint{{Key: "of-before", Effect: v1.TaintEffectNoSchedule}}
	own, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	wish, err := json.Marshal(nodeWish{Labels: map[string]string{"set": "by-people"}, Taints: n.Spec.Taints})
	if err != nil {
		t.Fatal(err)
	}
	n3.publish(map[record.Name]json.RawMessage{{Section: record.Status, Key: key.String()}: own, n3.nodeWishName(): wish})
	h.meet()
	seen := func(when, want string, hosts ...*files) {
		t.Helper()
		for _, f := range hosts {
			if got := f.peopleSet("n3"); got != want {
				t.Errorf("%s: %s sees %s, want %s", when, f.Config.Node, got, want)
			}
		}
	}
	seen("at first", "by-people  [of-before] false", h.nodes...)

	after(time.Minute, h.nodes...)
	for _, f := range others {
		f.sees(h, nodelife.Failed, "n3")
	}
	h.meet(others...)
	by := h.edit("n3", func(n *v1.Node) {
		n.Labels["rack"] = "7"
		n.Spec.Unschedulable = true
		n.Spec.Taints = append(n.Spec.Taints, v1.Taint{Key: "repair", Effect: v1.TaintEffectNoExecute})
	})
	h.meet(others...)
	seen("edited while it is lost", "by-people 7 [node.kubernetes.io/unschedulable of-before repair] true", others...)
	if taints := by.seenNode("n3").Spec.Taints; taints[len(taints)-1].Key != v1.TaintNodeUnreachable {
		t.Errorf("it does not look lost any more: %v", taints)
	}
	h.edit("n3", func(n *v1.Node) { delete(n.Labels, "set") })
	h.meet(others...)
	seen("edited again", " 7 [node.kubernetes.io/unschedulable of-before repair] true", others...)
	seen("cut off", "by-people  [of-before] false", n3)

	for range 3 {
		for _, f := range h.nodes {
			f.sees(h, nodelife.Alive)
		}
		h.meet()
		after(returned, h.nodes...)
	}
	for _, f := range others {
		if v := f.own(record.Name{Section: record.Status, Key: key.String()}); v != nil {
			t.Errorf("%s goes on saying %s", f.Config.Node, v)
		}
	}
	if got, want := string(n3.own(n3.nodeWishName())), `"rack":"7"`; !strings.Contains(got, want) || strings.Contains(got, "by-people") || strings.Contains(got, "unreachable") {
		t.Errorf("the node has %s, want %s of it", got, want)
	}

	// What people set and took back meanwhile is taken over as well.
	after(time.Minute, h.nodes...)
	for _, f := range others {
		f.sees(h, nodelife.Failed, "n3")
	}
	h.edit("n3", func(n *v1.Node) { n.Labels["row"] = "1" })
	h.edit("n3", func(n *v1.Node) { delete(n.Labels, "row") })
	for range 3 {
		for _, f := range h.nodes {
			f.sees(h, nodelife.Alive)
		}
		h.meet()
		after(returned, h.nodes...)
	}
	for _, f := range others {
		if v := f.own(record.Name{Section: record.Status, Key: key.String()}); v != nil {
			t.Errorf("%s goes on saying %s", f.Config.Node, v)
		}
	}
	if home := h.nodes[0].nodeHome(key); home != "n3" {
		t.Errorf("%s still writes it", home)
	}
}

// TestAPodOfALostNodeIsDeletedByForce: as the person said that it is gone, its
// name is free; without force it ends when its node is back.
func TestAPodOfALostNodeIsDeletedByForce(t *testing.T) {
	h := lifeHosts(t, "n1", "n2", "n3")
	n1 := h.nodes[0]
	p := &v1.Pod{}
	p.Spec.NodeName, p.UID = "n3", "x"
	now, none, some := metav1.NewTime(n1.now), int64(0), int64(30)
	p.DeletionTimestamp = &now
	for _, c := range []struct {
		what  string
		lost  bool
		grace *int64
		gone  bool
	}{
		{"by force, its node is there", false, &none, false},
		{"with grace", true, &some, false},
		{"by force", true, &none, true},
	} {
		if c.lost {
			after(time.Minute, n1)
			n1.sees(h, nodelife.Failed, "n3")
		}
		p.DeletionGracePeriodSeconds = c.grace
		if got := n1.isGone(p); got != c.gone {
			t.Errorf("%s: gone %v, want %v", c.what, got, c.gone)
		}
	}
}
