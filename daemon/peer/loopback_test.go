package peer

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/record"
)

func TestTwoNodesHaveTheSameAfterOneExchange(t *testing.T) {
	var changed []string
	a := listens(t, "n1", nil)
	b := listens(t, "n2", func(_ *Config, c *SetConfig) {
		c.Changed = func(d record.Delta, names []record.Name) {
			for _, n := range names {
				changed = append(changed, d.Node+" "+n.Key)
			}
		}
	})
	a.publish(t, "x", `1`, "y", `"<&>"`)
	b.publish(t, "z", `3`)
	a.sync(t, b)
	same(t, a, b)
	slices.Sort(changed)
	if want := []string{"n1 x", "n1 y"}; !reflect.DeepEqual(changed, want) {
		t.Errorf("n2 was told of %v, want %v", changed, want)
	}
	a.publish(t, "x", "", "w", `4`)
	b.publish(t, "z", `5`)
	b.sync(t, a)
	same(t, a, b)
	if got := content(b.set)["n1"]; got["w"] != `4` || got["x"] != "" {
		t.Errorf("n2 has %v of n1", got)
	}
}

// TestFiveNodesLearnOfANodeThatIsGone: n1's record reaches those that never met
// it, and they know it by its key when it is back.
func TestFiveNodesLearnOfANodeThatIsGone(t *testing.T) {
	var hosts []*host
	for i := range 5 {
		h := listens(t, fmt.Sprint("n", i+1), nil)
		h.publish(t, many(20, fmt.Sprint(i))...)
		hosts = append(hosts, h)
	}
	for i := range 4 { // n1 is heard by n2 alone
		hosts[i+1].sync(t, hosts[i])
	}
	for i := range 3 {
		hosts[i+1].sync(t, hosts[4])
	}
	same(t, hosts[1:]...)
	if !hosts[4].config.Pins.Key("n1").Equal(keyOf("n1").Public()) {
		t.Error("n5 does not know n1 by its key")
	}
	impostor := stands(t, "n1", keyOf("other"), nil)
	err := impostor.Sync(t.Context(), hosts[4].peer)
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "shoal node forget n1") {
		t.Errorf("a host that calls itself n1 is told: %v", err)
	}
}

func TestAPushReachesAllAndFillsWhatWasMissed(t *testing.T) {
	a, b, c := listens(t, "n1", nil), listens(t, "n2", nil), listens(t, "n3", nil)
	a.publish(t, "x", `1`)
	a.sync(t, b)
	a.publish(t, "y", `2`)
	d := a.publish(t, "z", `3`)
	gone := Peer{"n9", "127.0.0.1:1"}
	err := a.Push(t.Context(), d, b.peer, gone, c.peer)
	var failed *PeerError
	if !errors.As(err, &failed) || failed.Peer != gone {
		t.Errorf("got %v, want one failure, of n9", err)
	}
	want := map[string]string{"x": "1", "y": "2", "z": "3"}
	for _, h := range []*host{b, c} {
		if got := content(h.set)["n1"]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s has %v", h.config.Node, got)
		}
	}
}

// TestALargeRecordComesInParts, after its node has restarted as well.
func TestALargeRecordComesInParts(t *testing.T) {
	a, b := listens(t, "n1", nil), listens(t, "n2", nil)
	a.publish(t, many(3000, `"`+strings.Repeat("v", 4000)+`"`)...)
	b.sync(t, a)
	same(t, a, b)

	a.publish(t, "apps/Deployment/default/2500", "", "apps/Deployment/default/2501", "")
	a.set.Compact(0) // its peer never hears of these two as deleted
	stored := map[string]*record.Record{}
	a.set.Read(func(r map[string]*record.Record) { stored["n1"] = r["n1"].Clone() })
	again := listens(t, "n1", func(_ *Config, c *SetConfig) { c.Records = stored })
	again.publish(t, many(2000, `"`+strings.Repeat("w", 4000)+`"`)...)
	b.sync(t, again)
	if got, want := content(b.set)["n1"], content(again.set)["n1"]; !reflect.DeepEqual(got, want) {
		t.Error("n2 does not have what n1 has after its restart")
	}
}

func TestRefusalsAreSaidInWords(t *testing.T) {
	a := listens(t, "n1", nil)
	with := func(id cluster.ID) func(*Config, *SetConfig) {
		return func(c *Config, _ *SetConfig) { c.Cluster = func() cluster.ID { return id } }
	}
	var yielded cluster.ID
	for _, tt := range []struct {
		name string
		h    *host
		want []string
	}{
		{"another cluster", stands(t, "n2", keyOf("n2"), with(cluster.ID{ID: "c2", Settled: true})), []string{"two clusters have met", "c1", "c2", "n1", "n2"}},
		{"a new host", stands(t, "n3", keyOf("n3"), func(c *Config, _ *SetConfig) {
			c.Cluster = func() cluster.ID { return cluster.ID{ID: "c3"} }
			c.Yield = func(to cluster.ID, node string) { yielded = to }
		}), []string{"node n3 goes over to cluster c1"}},
		{"another key", stands(t, "n4", keyOf("n4"), func(c *Config, _ *SetConfig) { c.Keyring = cluster.NewKeyring(cluster.Key{2}) }), []string{"does not hold this cluster's key"}},
		{"itself", stands(t, "n1", keyOf("n1"), nil), []string{"this node itself"}},
	} {
		err := tt.h.Sync(t.Context(), Peer{Address: a.peer.Address})
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", tt.name, err, want)
			}
		}
	}
	if yielded != ours {
		t.Errorf("the new host yielded to %+v", yielded)
	}
	newer := &message{Hello: hello{Protocol: 9, Oldest: 8, Cluster: ours}}
	got := a.answer(cluster.Identity{Node: "n5"}, newer).Refused
	if !strings.Contains(got, "node n5 speaks versions 8 to 9") || !strings.Contains(got, "upgrade shoald") {
		t.Errorf("a newer one is told %q", got)
	}
	compatible := &message{Hello: hello{Protocol: 9, Oldest: 1, Cluster: ours}}
	if got := a.answer(cluster.Identity{Node: "n5"}, compatible).Refused; got != "" {
		t.Errorf("a newer one that understands this one is told %q", got)
	}
	b := listens(t, "n6", nil)
	if err := b.Sync(t.Context(), Peer{"n7", a.peer.Address}); err == nil || !strings.Contains(err.Error(), "node n1 answers there") {
		t.Errorf("another node than expected: %v", err)
	}
}

// TestARotationEndsOldConnections: who has the old key alone is out from then on.
func TestARotationEndsOldConnections(t *testing.T) {
	a, b := listens(t, "n1", nil), listens(t, "n2", nil)
	next := cluster.NewKeyring(cluster.Key{2})
	b.sync(t, a)
	if err := a.Use(next); err != nil {
		t.Fatal(err)
	}
	if err := b.Sync(t.Context(), a.peer); err == nil {
		t.Error("a node with the old key exchanges with one that dropped it")
	}
	if err := b.Use(next); err != nil {
		t.Fatal(err)
	}
	a.publish(t, "x", `1`)
	b.sync(t, a)
	same(t, a, b)
}
