package peer

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/record"
)

func TestWhatAHeadOfOnesOwnMeans(t *testing.T) {
	at := func(incarnation, seq uint64, root byte) record.Head {
		return record.Head{Node: "n1", Incarnation: incarnation, Seq: seq, Root: record.Hash{root}, Signature: []byte("s")}
	}
	for _, tt := range []struct {
		name       string
		mine, seen record.Head
		published  bool
		isNew      bool
		want       verdict
	}{
		{"an empty store", record.Head{Node: "n1"}, at(1, 5, 1), false, false, takeBack},
		{"an old image", at(3, 9, 1), at(4, 2, 2), false, false, takeBack},
		{"a lost tail", at(3, 9, 1), at(3, 12, 2), false, false, takeBack},
		{"just what is known", at(3, 9, 1), at(3, 9, 1), false, false, ignore},
		{"a peer that is behind", at(3, 9, 1), at(3, 5, 2), false, false, ignore},
		{"a peer that is behind, later", at(3, 9, 1), at(2, 50, 2), true, false, ignore},
		{"somebody publishes here after me", at(3, 9, 1), at(3, 10, 1), true, false, twin},
		{"somebody began after me", at(3, 9, 1), at(4, 1, 1), true, false, twin},
		{"another content of this moment", at(3, 9, 1), at(3, 9, 2), true, false, twin},
		{"another content of the last moment before the start", at(3, 9, 1), at(3, 9, 2), false, false, twin},
		{"a new host whose clock is behind, after its first word", at(1, 2, 1), at(4, 1, 2), true, true, takeBack},
		{"somebody goes on after a new host", at(3, 9, 1), at(3, 10, 1), true, true, twin},
	} {
		if got := judge(tt.mine, tt.seen, tt.published, tt.isNew); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestWhatWasWrittenBeforeTheRecordCameBack(t *testing.T) {
	claim := func(k string) record.Name { return record.Name{Section: record.Claims, Key: k} }
	decision := func(k string) record.Name { return record.Name{Section: record.Decisions, Key: k} }
	taken := record.New("n1", 5)
	taken.Publish(1, map[record.Name]json.RawMessage{claim("a"): []byte(`1`), decision("d"): []byte(`1`), decision("gone"): []byte(`1`)})
	taken.Publish(1, map[record.Name]json.RawMessage{decision("gone"): nil})
	own := record.New("n1", 1)
	own.Publish(1, map[record.Name]json.RawMessage{claim("stored"): []byte(`1`)})
	loaded := own.Seq
	own.Publish(7, map[record.Name]json.RawMessage{claim("a"): []byte(`2`), claim("b"): []byte(`2`), claim("stored"): nil,
		decision("d"): []byte(`2`), decision("e"): []byte(`2`), decision("gone"): []byte(`2`)})
	got, stamp := drafts(own, loaded, taken)
	want := map[record.Name]json.RawMessage{claim("a"): []byte(`2`), claim("b"): []byte(`2`), claim("stored"): nil, decision("e"): []byte(`2`)}
	if !maps.EqualFunc(got, want, func(a, b json.RawMessage) bool { return string(a) == string(b) }) || stamp != 7 {
		t.Errorf("got %s at %v, want %s", got, stamp, want)
	}
}

// restarted is a host that begins with what is stored, and has peers to wait for.
func restarted(t *testing.T, node string, stored *record.Record) *host {
	return listens(t, node, func(_ *Config, c *SetConfig) {
		c.Alone, c.Records = false, map[string]*record.Record{}
		if stored != nil {
			c.Records[node] = stored
		}
	})
}

func (h *host) stored(node string) (r *record.Record) {
	h.set.Read(func(all map[string]*record.Record) { r = all[node].Clone() })
	return r
}

func TestAHostTakesItsRecordBack(t *testing.T) {
	a, b := listens(t, "n1", nil), listens(t, "n2", nil)
	a.publish(t, "x", `1`)
	old := a.stored("n1")
	a.publish(t, "x", `2`, "y", `2`)
	b.sync(t, a)
	for name, stored := range map[string]*record.Record{"an empty store": nil, "an old image": old, "all of it": a.stored("n1")} {
		h := restarted(t, "n1", stored)
		draft, err := h.set.Publish(9, values("z", `3`))
		if err != nil || draft.Head.Signature != nil {
			t.Fatalf("%s: a draft with head %+v, %v", name, draft.Head, err)
		}
		before := b.set.Digest()
		h.sync(t, b)
		if b.set.Digest() != before {
			t.Errorf("%s: it published before it was told to", name)
		}
		h.set.PublishFirst()
		h.sync(t, b)
		same(t, h, b)
		want := map[string]string{"x": "2", "y": "2", "z": "3"}
		if got := content(b.set)["n1"]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: n2 has %v", name, got)
		}
		if err := h.set.Twin(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// The next case begins where this one did.
		b = listens(t, "n2", nil)
		b.sync(t, a)
	}
}

// TestANewHostWhoseClockIsBehindTakesItsRecordBackLate: it has lost its store, and
// the first peers that it hears never heard of it.
func TestANewHostWhoseClockIsBehindTakesItsRecordBackLate(t *testing.T) {
	a, b, c := listens(t, "n1", nil), listens(t, "n2", nil), listens(t, "n3", nil)
	a.publish(t, "x", `1`, "y", `1`)
	b.sync(t, a)
	for _, alone := range []bool{false, true} {
		h := listens(t, "n1", func(_ *Config, c *SetConfig) {
			c.Alone, c.Now = alone, func() time.Time { return time.UnixMilli(5) }
		})
		if _, err := h.set.Publish(9, values("x", `2`, "z", `2`)); err != nil {
			t.Fatal(err)
		}
		h.set.PublishFirst()
		h.sync(t, c) // which has not heard of it
		h.sync(t, b)
		if err := h.set.Twin(); err != nil || h.set.Published() {
			t.Errorf("alone %v: twin %v, published %v", alone, err, h.set.Published())
		}
		h.set.PublishFirst()
		h.sync(t, b)
		h.sync(t, c)
		b.sync(t, c)
		want := map[string]string{"x": "2", "y": "1", "z": "2"}
		for _, other := range []*host{b, c} {
			if got := content(other.set)["n1"]; !reflect.DeepEqual(got, want) {
				t.Errorf("alone %v: %s has %v of it", alone, other.config.Node, got)
			}
		}
		if err := h.set.Twin(); err != nil {
			t.Errorf("alone %v: %v", alone, err)
		}
		// It has taken its record back once: who is ahead of it from here on is another.
		late := listens(t, "n1", func(_ *Config, c *SetConfig) {
			c.Records = map[string]*record.Record{"n1": h.stored("n1")}
			c.Now = func() time.Time { return time.Now().Add(time.Hour) }
		})
		late.publish(t, "w", `1`)
		late.sync(t, c)
		h.sync(t, c)
		if h.set.Twin() == nil {
			t.Errorf("alone %v: a twin is not seen", alone)
		}
		b, c = listens(t, "n2", nil), listens(t, "n3", nil)
		b.sync(t, a)
	}
}

func TestATwinStopsPublishing(t *testing.T) {
	a := listens(t, "n1", func(_ *Config, c *SetConfig) { c.Records = map[string]*record.Record{"n1": record.New("n1", 0)} })
	b := listens(t, "n2", nil)
	a.publish(t, "x", `1`)
	b.sync(t, a)
	image := listens(t, "n1", func(_ *Config, c *SetConfig) {
		c.Records = map[string]*record.Record{"n1": a.stored("n1")}
		c.Now = func() time.Time { return time.Now().Add(time.Hour) }
	})
	image.publish(t, "x", `2`)
	image.sync(t, b)
	a.sync(t, b)
	if _, err := a.set.Publish(2, values("x", `3`)); !errors.Is(err, ErrTwin) || a.set.Twin() == nil {
		t.Errorf("the host that was first says %v", err)
	}
	a.sync(t, b)
	if got := content(b.set)["n1"]["x"]; got != `2` {
		t.Errorf("n2 has %s", got)
	}
	if got := content(a.set)["n1"]["x"]; got != `3` {
		t.Errorf("what the host decides for itself is lost: it has %s", got)
	}
}

// TestTwoContentsOfOneMomentKeepANodeOut, on every node, and whatever it says
// later.
func TestTwoContentsOfOneMomentKeepANodeOut(t *testing.T) {
	at := func(_ *Config, c *SetConfig) { c.Now = func() time.Time { return time.UnixMilli(7) } }
	one, two := listens(t, "n1", at), listens(t, "n1", at)
	b, c, d := listens(t, "n2", nil), listens(t, "n3", nil), listens(t, "n4", nil)
	one.publish(t, "x", `1`)
	two.publish(t, "x", `2`)
	b.sync(t, one)
	c.sync(t, two)
	pushed := listens(t, "n5", nil)
	pushed.sync(t, one)
	if err := two.Push(t.Context(), two.stored("n1").Since(0), pushed.peer); err != nil || len(pushed.set.Clones()) != 1 {
		t.Errorf("by a push: %v, %v", err, pushed.set.Clones())
	}
	d.sync(t, b)
	b.sync(t, c)
	c.sync(t, b)
	d.sync(t, c)
	two.publish(t, "x", `3`)
	c.sync(t, two)
	for _, h := range []*host{b, c, d} {
		list := h.set.Clones()
		if len(list) != 1 || list[0].A.Node != "n1" || content(h.set)["n1"]["x"] == `3` {
			t.Errorf("%s knows of clones %v and has %v", h.config.Node, list, content(h.set)["n1"])
		}
		if h.set.Digest() != b.set.Digest() {
			t.Errorf("%s and n2 never agree", h.config.Node)
		}
	}
	if _, err := two.set.Publish(1, values("x", `4`)); !errors.Is(err, ErrTwin) {
		t.Errorf("the clone says %v", err)
	}
	b.set.Forget("n1")
	if len(b.set.Clones()) != 0 || content(b.set)["n1"] != nil {
		t.Error("it is not forgotten")
	}
}

// TestADraftSurvivesARestart: a host that boots into a dead network decides, is
// killed, and decides on. Peers that have what it published before its drafts
// are not ahead of it.
func TestADraftSurvivesARestart(t *testing.T) {
	decision := record.Name{Section: record.Decisions, Key: "/Pod/default/a"}
	a, b := listens(t, "n1", nil), listens(t, "n2", nil)
	if _, err := a.set.Publish(1, map[record.Name]json.RawMessage{decision: []byte(`"before"`)}); err != nil {
		t.Fatal(err)
	}
	b.sync(t, a)
	lost := restarted(t, "n1", a.stored("n1"))
	if _, err := lost.set.Publish(2, map[record.Name]json.RawMessage{decision: []byte(`"without a network"`)}); err != nil {
		t.Fatal(err)
	}
	again := restarted(t, "n1", lost.stored("n1"))
	again.sync(t, b)
	again.set.PublishFirst()
	again.sync(t, b)
	same(t, again, b)
	if got := content(b.set)["n1"][decision.Key]; got != `"without a network"` {
		t.Errorf("n2 has %s", got)
	}
	// What peers had beyond the stored record is still taken back.
	stored := b.stored("n1")
	ahead := listens(t, "n1", func(_ *Config, c *SetConfig) { c.Records = map[string]*record.Record{"n1": b.stored("n1")} })
	if _, err := ahead.set.Publish(3, map[record.Name]json.RawMessage{decision: []byte(`"seen by peers"`)}); err != nil {
		t.Fatal(err)
	}
	b.sync(t, ahead)
	old := restarted(t, "n1", stored)
	if _, err := old.set.Publish(4, map[record.Name]json.RawMessage{decision: []byte(`"draft"`)}); err != nil {
		t.Fatal(err)
	}
	old = restarted(t, "n1", old.stored("n1"))
	old.sync(t, b)
	old.set.PublishFirst()
	if got := content(old.set)["n1"][decision.Key]; got != `"seen by peers"` {
		t.Errorf("an old image has %s", got)
	}
}
