package peer

import (
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/record"
)

func TestAForgottenNodeStaysForgottenUntilItComesBack(t *testing.T) {
	a, b, c := listens(t, "n1", nil), listens(t, "n2", nil), listens(t, "n3", nil)
	c.publish(t, "x", `1`)
	a.sync(t, c)
	b.sync(t, a)
	upTo := b.set.Head("n3").Incarnation
	var gone []record.Name
	a.set.config.Changed = func(d record.Delta, names []record.Name) {
		if d.Node == "n3" {
			gone = names
		}
	}
	a.set.Honour(map[string]uint64{"n3": upTo})
	if len(gone) != 1 || content(a.set)["n3"] != nil || a.config.Pins.Key("n3") != nil {
		t.Fatalf("it is not forgotten: %v, %v", gone, content(a.set))
	}
	// One that has not heard of it yet, and the node itself as it was.
	a.sync(t, b)
	b.sync(t, a)
	a.sync(t, c)
	if err := c.Push(t.Context(), c.publish(t, "x", `2`), a.peer); err != nil {
		t.Error(err)
	}
	if content(a.set)["n3"] != nil {
		t.Fatal("it is back without having come back")
	}
	b.set.Honour(map[string]uint64{"n3": upTo})
	b.sync(t, a)
	same(t, a, b)

	// It hears that it was forgotten.
	c.set.Honour(map[string]uint64{"n3": upTo})
	a.sync(t, c)
	if got := content(a.set)["n3"]["x"]; got != `2` {
		t.Errorf("it came back, and n1 has %q", got)
	}
	// Another host under its name, with another key.
	a.set.Honour(map[string]uint64{"n3": uint64(time.Now().Add(time.Second).UnixMilli())})
	rebuilt := stands(t, "n3", keyOf("another"), func(_ *Config, s *SetConfig) {
		s.Now = func() time.Time { return time.Now().Add(time.Hour) }
	})
	if err := rebuilt.Sync(t.Context(), a.peer); err != nil {
		t.Error(err)
	}
	if a.set.Head("n3").Incarnation != rebuilt.set.Head("n3").Incarnation {
		t.Error("n1 does not have the rebuilt host's record")
	}
}
