package daemon

import (
	"encoding/json"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/record"
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
