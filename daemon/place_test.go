package daemon

import (
	"crypto/ed25519"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/peer"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

func TestAPodOfWhichNoHostCouldSayThatItIsGoneIs(t *testing.T) {
	pins, err := cluster.OpenPins("", func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{
		Options: Options{Config: &config.Config{Node: "n1"}}, view: view.New(time.Unix(0, 0)), gone: map[types.UID]bool{"ended": true},
		records: peer.NewSet(peer.SetConfig{Node: "n1", Key: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), Pins: pins, Alone: true, Now: time.Now}),
	}
	n := &v1.Node{}
	n.Name = "n1"
	d.view.Apply(view.Change{Key: manifests.Key{Kind: "Node", Name: "n1"}, Object: n})
	for _, c := range []struct {
		uid  types.UID
		node string
		want bool
	}{
		{"running", "n1", false}, {"ended", "n1", true}, {"waiting", "", true}, {"misspelt", "nosuch", true},
	} {
		p := &v1.Pod{}
		p.UID, p.Spec.NodeName = c.uid, c.node
		if got := d.isGone(p); got != c.want {
			t.Errorf("%s, on node %q: got %v, want %v", c.uid, c.node, got, c.want)
		}
	}
}
