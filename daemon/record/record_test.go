package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func values(kv ...string) map[Name]json.RawMessage {
	m := make(map[Name]json.RawMessage)
	for i := 0; i < len(kv); i += 2 {
		var v json.RawMessage
		if kv[i+1] != "" {
			v = json.RawMessage(kv[i+1])
		}
		m[Name{Claims, kv[i]}] = v
	}
	return m
}

// contents is what a record says, without tombstones.
func contents(r *Record) map[Name]string {
	m := make(map[Name]string)
	for name, e := range r.Entries {
		if e.Value != nil {
			m[name] = string(e.Value)
		}
	}
	return m
}

// TestPeersAgreeWithTheOwnerInWhateverOrderDeltasCome is the law of merging:
// deltas arrive in any order, many times or never; what a peer pulls after a
// gap completes it.
func TestPeersAgreeWithTheOwnerInWhateverOrderDeltasCome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owner := New("n1", 1)
		var sent []Delta
		steps := rapid.IntRange(1, 30).Draw(t, "steps")
		for i := range steps {
			key := fmt.Sprint("k", rapid.IntRange(0, 4).Draw(t, "key"))
			value := rapid.SampledFrom([]string{"", `1`, `2`, `3`}).Draw(t, "value")
			sent = append(sent, owner.Publish(Stamp(i+1), values(key, value)))
			switch rapid.IntRange(0, 9).Draw(t, "then") {
			case 0:
				owner.Compact(rapid.Uint64Range(0, owner.Seq).Draw(t, "floor"))
			case 1:
				sent = append(sent, owner.Since(rapid.Uint64Range(0, owner.Seq).Draw(t, "since")))
			case 2:
				owner = &Record{Node: "n1", Incarnation: owner.Incarnation + 1, Entries: map[Name]Entry{}}
			}
		}
		peer := New("n1", 0)
		for range 2 * len(sent) {
			d := rapid.SampledFrom(sent).Draw(t, "delta")
			before := *peer
			before.Entries = maps.Clone(peer.Entries)
			_, err := peer.Merge(d)
			if err != nil && (!errors.Is(err, ErrGap) || !reflect.DeepEqual(before, *peer)) {
				t.Fatalf("merge: %v; or a refused delta changed the record", err)
			}
			if again, err2 := peer.Merge(d); err == nil && (len(again) > 0 || err2 != nil) {
				t.Fatalf("merging %+v twice changed %v, %v", d, again, err2)
			}
		}
		if peer.Seq != owner.Seq || peer.Incarnation != owner.Incarnation {
			d := owner.Since(0)
			if peer.Incarnation == owner.Incarnation {
				d = owner.Since(peer.Seq)
			}
			if _, err := peer.Merge(d); err != nil {
				t.Fatalf("pull: %v", err)
			}
		}
		if !reflect.DeepEqual(contents(peer), contents(owner)) {
			t.Fatalf("peer has %v\nowner has %v", contents(peer), contents(owner))
		}
	})
}

func TestPublishingWhatIsAlreadySoChangesNothing(t *testing.T) {
	r := New("n1", 1)
	r.Publish(1, values("a", `1`))
	if d := r.Publish(2, values("a", `1`, "never", "")); len(d.Entries) != 0 || r.Seq != 1 {
		t.Errorf("got %+v, seq %d", d, r.Seq)
	}
}

func TestAnEmptyIncarnationNeverHidesANewerOne(t *testing.T) {
	r := New("n1", 2)
	r.Publish(1, values("a", `1`))
	old := New("n1", 1).Since(0)
	if changed, err := r.Merge(old); err != nil || len(changed) > 0 || len(contents(r)) != 1 {
		t.Errorf("got %v, %v, %v", changed, err, contents(r))
	}
}

func TestAFormatOfANewerVersionIsRefusedWithAWord(t *testing.T) {
	_, err := New("n1", 1).Merge(Delta{Format: Format + 1, Node: "n1", Incarnation: 9, Whole: true})
	if err == nil || errors.Is(err, ErrGap) {
		t.Errorf("got %v", err)
	}
}

func TestTheNewestEditWinsAndTheOldestBirthCounts(t *testing.T) {
	claims := map[string]Claim{
		"n1": {File: "old", Declared: text("v1"), Edited: 5, Born: 3},
		"n3": {File: "new", Declared: text("v2"), Edited: 9, Born: 9},
		"n2": {File: "same", Declared: text("v3"), Edited: 9, Born: 4},
	}
	for range 20 { // map order must not matter
		node, c := Winner(claims)
		if node != "n2" || c.File != "same" || Born(claims) != 3 {
			t.Fatalf("got %s %s born %d", node, c.File, Born(claims))
		}
	}
}

func TestAClockThatIsFarAheadIsNotFollowed(t *testing.T) {
	wall := time.UnixMilli(1e12)
	c := NewClock(func() time.Time { return wall })
	c.Observe(StampAt(wall.Add(24 * time.Hour)))
	if got := c.Now(); got != StampAt(wall) {
		t.Errorf("got %s, want the wall clock's %s", got, StampAt(wall))
	}
	near := StampAt(wall.Add(MaxAhead - time.Second))
	c.Observe(near)
	if got := c.Now(); got != near+1 {
		t.Errorf("got %s, want %s", got, near+1)
	}
}

func TestClockOnlyGrowsWhateverTheWallClockDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wall := time.Now()
		c := NewClock(func() time.Time { return wall })
		a := c.Now()
		wall = wall.Add(-MaxAhead / 4)
		b := c.Now()
		c.Observe(StampAt(wall.Add(MaxAhead / 2)))
		far := c.Now()
		wall = wall.Add(48 * time.Hour)
		if d := c.Now(); !(a < b && b < far && far < d) || d.Time() != wall.UTC().Truncate(time.Millisecond) {
			t.Errorf("got %v %v %v %v", a, b, far, d)
		}
	})
}
