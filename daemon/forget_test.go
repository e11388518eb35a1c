package daemon

import (
	"encoding/json"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/steward"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// TestAForgottenNodeIsNoNode: its object has a UID as implied objects have, and
// must go all the same.
func TestAForgottenNodeIsNoNode(t *testing.T) {
	f := openFiles(t, t.TempDir(), "n1")
	key := manifests.Key{Kind: "Node", Name: "n1"}
	n := &v1.Node{}
	n.Name, n.UID = "n1", view.UID(key, 0)
	value, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	name := record.Name{Section: record.Status, Key: key.String()}
	f.publish(map[record.Name]json.RawMessage{name: value})
	if _, is := f.view.Get(key); !is {
		t.Fatal("the node is not there")
	}
	f.publish(map[record.Name]json.RawMessage{name: nil})
	if o, is := f.view.Get(key); is {
		t.Errorf("nobody says that there is %s, and it is there", o.GetName())
	}
}

// TestThatANodeWasForgottenIsForgottenOnceNobodyHasItsRecord.
func TestThatANodeWasForgottenIsForgottenOnceNobodyHasItsRecord(t *testing.T) {
	h := openHosts(t, "n1", "n2")
	n1, n2 := h.nodes[0], h.nodes[1]
	name := record.Name{Section: record.Forgotten, Key: "n9"}
	n1.publish(map[record.Name]json.RawMessage{name: json.RawMessage(`{"incarnation":5}`)})
	h.meet()
	for _, c := range []struct {
		when  string
		later time.Duration
		alive bool
		stays bool
	}{
		{"not long ago", forgottenFor - time.Hour, true, true},
		{"a host is down that may know it", 2 * time.Hour, false, true},
		{"all have heard", 0, true, false},
	} {
		n1.now = n1.now.Add(c.later)
		n1.fleet.list = []steward.Member{{Name: "n1", Alive: true, Ready: true}, {Name: "n2", Alive: c.alive, Ready: true}}
		n1.followMembers()
		n1.tidyForgotten()
		if is := n1.own(name) != nil; is != c.stays {
			t.Errorf("%s: stays %v, want %v", c.when, is, c.stays)
		}
	}
	h.meet()
	n2.honour()
}

// TestAHostThatLeftSaysSoUntilItIsBack: others know it from its record.
func TestAHostThatLeftSaysSoUntilItIsBack(t *testing.T) {
	h := openHosts(t, "n1", "n2")
	n1, n2 := h.nodes[0], h.nodes[1]
	n1.publish(map[record.Name]json.RawMessage{leftName: json.RawMessage(`{}`)})
	h.meet()
	if s := n2.sight(); !s.left["n1"] || s.left["n2"] {
		t.Errorf("n2 knows that these left: %v", s.left)
	}
	h.restart(0, func(*files) {})
	h.nodes[0].sayStays()
	h.meet()
	if s := n2.sight(); len(s.left) > 0 {
		t.Errorf("n1 is back, and n2 knows that these left: %v", s.left)
	}
}
