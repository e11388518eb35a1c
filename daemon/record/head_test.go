package record

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

const cluster = "c1"

func keyOf(node string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(node))
	return ed25519.NewKeyFromSeed(seed[:])
}

func isOf(node string) func(Head) error {
	return func(h Head) error { return h.Verify(cluster, keyOf(node).Public().(ed25519.PublicKey)) }
}

// owner is a node that signs what it publishes.
type owner struct{ *Record }

func (o owner) publish(stamp Stamp, values map[Name]json.RawMessage) Delta {
	d := o.Publish(stamp, values)
	d.Head = o.Sign(cluster, keyOf(o.Node))
	return d
}

// restart is what a node is after a start with what its disk has.
func (o owner) restart(onDisk *Record) owner {
	r := New(o.Node, o.Incarnation+1)
	r.Seq, r.Floor, r.Entries = onDisk.Seq, onDisk.Floor, maps.Clone(onDisk.Entries)
	r.Sign(cluster, keyOf(o.Node))
	return owner{r}
}

func copied(r *Record) *Record {
	c := New(r.Node, r.Incarnation)
	c.Seq, c.Floor, c.Entries = r.Seq, r.Floor, maps.Clone(r.Entries)
	return c
}

// pull brings a peer to what another one has, as one exchange does.
func pull(to, from *Record) error {
	d := from.Since(to.Seq)
	if from.Incarnation != to.Incarnation {
		d = from.Parts(from.Differing(to.Hashes()))
	}
	_, err := to.MergeSigned(d, isOf(to.Node))
	if errors.Is(err, ErrMismatch) || errors.Is(err, ErrGap) {
		_, err = to.MergeSigned(from.Parts(from.Differing(to.Hashes())), isOf(to.Node))
	}
	return err
}

// TestSignedRecordsConverge: whatever a node publishes, compacts, forgets in a
// crash or loses in a power cut, and whoever pulls from whom, after a round in
// which all pull from the node all say the same, and roots are equal just then.
func TestSignedRecordsConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := owner{New("n1", 1)}
		disk := copied(o.Record)
		o.Sign(cluster, keyOf("n1"))
		peers := []*Record{New("n1", 0), New("n1", 0), New("n1", 0)}
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				o.Compact(rapid.Uint64Range(0, o.Seq).Draw(t, "floor"))
				o.Sign(cluster, keyOf("n1"))
			case 1:
				disk = copied(o.Record)
			case 2:
				o = o.restart(disk)
			case 3, 4, 5:
				to, from := rapid.IntRange(0, 2).Draw(t, "to"), rapid.IntRange(0, 3).Draw(t, "from")
				source := o.Record
				if from < 3 {
					source = peers[from]
				}
				if source.Head().Compare(peers[to].Head()) > 0 {
					if err := pull(peers[to], source); err != nil {
						t.Fatalf("pull: %v", err)
					}
				}
			default:
				key := fmt.Sprint("k", rapid.IntRange(0, 5).Draw(t, "key"))
				o.publish(Stamp(i+1), values(key, rapid.SampledFrom([]string{"", `1`, `2`}).Draw(t, "value")))
			}
		}
		for i, p := range peers {
			if p.Head().Compare(o.Head()) > 0 {
				t.Fatalf("peer %d is ahead of the owner: %+v", i, p.Head())
			}
			if p.Head().Compare(o.Head()) < 0 {
				if err := pull(p, o.Record); err != nil {
					t.Fatalf("pull: %v", err)
				}
			}
			if !reflect.DeepEqual(contents(p), contents(o.Record)) || p.Root() != o.Root() || p.Root() != copied(p).Root() {
				t.Fatalf("peer %d has %v\nowner has %v", i, contents(p), contents(o.Record))
			}
			if err := isOf("n1")(p.Head()); err != nil {
				t.Fatalf("what peer %d hands on: %v", i, err)
			}
		}
	})
}

// TestWhatIsNotTheNodesOwnIsRefusedAndLeavesNoTrace: one byte of a delta
// changed anywhere.
func TestWhatIsNotTheNodesOwnIsRefusedAndLeavesNoTrace(t *testing.T) {
	o := owner{New("n1", 1)}
	o.publish(1, values("a", `1`, "b", `2`, "gone", `3`))
	peer := New("n1", 0)
	if err := pull(peer, o.Record); err != nil {
		t.Fatal(err)
	}
	known := copied(peer)
	good := o.publish(2, values("a", `9`, "c", `4`, "gone", ""))
	other := owner{New("n1", 1)}
	other.publish(1, values("a", `1`, "b", `2`, "gone", `3`))
	stranger := good
	stranger.Head = other.Record.Sign("c2", keyOf("n1"))
	stranger.Head.Seq, stranger.Head.Root = good.Head.Seq, good.Head.Root
	for name, bad := range map[string]func(d *Delta){
		"value":    func(d *Delta) { d.Entries[0].Value = json.RawMessage(`8`) },
		"stamp":    func(d *Delta) { d.Entries[0].Stamp++ },
		"left out": func(d *Delta) { d.Entries = d.Entries[1:] },
		"added": func(d *Delta) {
			d.Entries = append(d.Entries, Entry{Name: Name{Claims, "x"}, Value: []byte(`1`), Seq: 5})
		},
		"a tombstone filled": func(d *Delta) { d.Entries[2].Value = json.RawMessage(`3`) },
		"sequence":           func(d *Delta) { d.Seq++ },
		"both sequences":     func(d *Delta) { d.Seq++; d.Head.Seq++ },
		"floor":              func(d *Delta) { d.Floor, d.Head.Floor = 3, 3 },
		"incarnation":        func(d *Delta) { d.Incarnation, d.Head.Incarnation, d.Whole = 2, 2, true },
		"no signature":       func(d *Delta) { d.Head.Signature = nil },
		"root":               func(d *Delta) { d.Head.Root[0]++ },
		"another's":          func(d *Delta) { d.Head.Signature = ed25519.Sign(keyOf("n2"), d.Head.signed(cluster)) },
		"another cluster's":  func(d *Delta) { d.Head.Signature = ed25519.Sign(keyOf("n1"), d.Head.signed("c2")) },
		"another name's":     func(d *Delta) { d.Head.Node = "n2" },
		"whole but is not":   func(d *Delta) { d.Whole = true },
	} {
		d := good
		d.Entries = append([]Entry(nil), good.Entries...)
		bad(&d)
		changed, err := peer.MergeSigned(d, isOf("n1"))
		if !errors.Is(err, ErrForged) && !errors.Is(err, ErrMismatch) || len(changed) > 0 {
			t.Errorf("%s: changed %v, error %v", name, changed, err)
		}
		if !reflect.DeepEqual(peer.Entries, known.Entries) || peer.Seq != known.Seq || peer.Floor != known.Floor || peer.Root() != known.Root() {
			t.Errorf("%s: it left a trace: %+v", name, peer.Entries)
		}
	}
	if _, err := peer.MergeSigned(good, isOf("n1")); err != nil || peer.Root() != o.Root() {
		t.Errorf("the true one: %v", err)
	}
	if changed, err := peer.MergeSigned(good, isOf("n1")); err != nil || len(changed) > 0 {
		t.Errorf("again: %v, %v", changed, err)
	}
}

func TestTwoContentsOfOneMomentProveAClone(t *testing.T) {
	one, two := owner{New("n1", 1)}, owner{New("n1", 1)}
	a := one.publish(1, values("a", `1`)).Head
	b := two.publish(1, values("a", `2`)).Head
	later := two.publish(2, values("a", `1`)).Head
	if !Cloned(a, b) || Cloned(a, a) || Cloned(a, later) {
		t.Errorf("got %v, %v, %v; want true, false, false", Cloned(a, b), Cloned(a, a), Cloned(a, later))
	}
	peer := New("n1", 0)
	if err := pull(peer, one.Record); err != nil {
		t.Fatal(err)
	}
	one.Compact(one.Seq)
	if c := one.Sign(cluster, keyOf("n1")); Cloned(a, c) || c.Compare(a) <= 0 {
		t.Error("a compaction counts as a clone")
	}
}

// TestOneChangeCostsOneBucket: comparing by buckets hands on what differs alone.
func TestOneChangeCostsOneBucket(t *testing.T) {
	o := owner{New("n1", 1)}
	many := make(map[Name]json.RawMessage)
	for i := range 5000 {
		many[Name{Claims, fmt.Sprint("k", i)}] = json.RawMessage(`"value"`)
	}
	o.publish(1, many)
	peer := New("n1", 0)
	if err := pull(peer, o.Record); err != nil {
		t.Fatal(err)
	}
	o.publish(2, values("k7", `"other"`))
	o = o.restart(o.Record)
	buckets := o.Differing(peer.Hashes())
	d := o.Parts(buckets)
	if len(buckets) != 1 || len(d.Entries) > 60 {
		t.Errorf("%d buckets with %d entries for one change", len(buckets), len(d.Entries))
	}
	if changed, err := peer.MergeSigned(d, isOf("n1")); err != nil || len(changed) != 1 || peer.Root() != o.Root() {
		t.Errorf("got %v, %v", changed, err)
	}
}

func BenchmarkSign(b *testing.B) {
	o := owner{New("n1", 1)}
	many := make(map[Name]json.RawMessage)
	for i := range 10_000 {
		many[Name{Status, fmt.Sprint("k", i)}] = bytes.Repeat([]byte("1"), 1000)
	}
	o.publish(1, many)
	for i := 0; b.Loop(); i++ {
		o.publish(Stamp(i), values("k7", fmt.Sprint(i)))
	}
}

// TestAValueIsSignedAsItTravels: JSON drops spaces and escapes on its way what
// would make another content of the same value.
func TestAValueIsSignedAsItTravels(t *testing.T) {
	o := owner{New("n1", 1)}
	sent, err := json.Marshal(o.publish(1, values("a", `{"a":  "<b> & \u003c"}`, "b", "\"\u2028\"")))
	if err != nil {
		t.Fatal(err)
	}
	var d Delta
	if err := json.Unmarshal(sent, &d); err != nil {
		t.Fatal(err)
	}
	if _, err := New("n1", 1).MergeSigned(d, isOf("n1")); err != nil {
		t.Errorf("got %v", err)
	}
}
