// Package record is what nodes tell each other: one record per node, written
// by that node alone.
//
// A record has three sections: claims (the objects that the node's files
// declare), decisions (of the workloads it stewards: which pods exist, with
// which UID) and status (of its node and pods). Each entry has a name, a JSON
// value and a stamp. Values are opaque here, so fields that a newer version
// writes survive a trip through an older one.
//
// Records are ordered by (incarnation, sequence number). Deltas of one record
// may arrive in any order and any number of times; Merge says when something in
// between is missing. Nothing in this package reads a clock or a network.
package record

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Format is the version of the wire and disk form of entries and deltas.
const Format = 1

// ErrGap says that a delta begins after what is known: ask for more with
// Since(Record.Seq), or for everything with Since(0).
var ErrGap = errors.New("changes in between are missing")

// Section is a part of a record.
type Section string

// The sections, in the order in which they are folded.
const (
	Claims    Section = "claim"
	Decisions Section = "decision"
	Status    Section = "status"
	// Forgotten names nodes that people had the cluster forget. It is not folded.
	Forgotten Section = "forget"
)

// Name names an entry: its section and an object's key (manifests.Key's text).
type Name struct {
	Section Section
	Key     string
}

// MarshalText makes Name usable as a JSON string and map key.
func (n Name) MarshalText() ([]byte, error) { return []byte(string(n.Section) + " " + n.Key), nil }

// UnmarshalText is the inverse of MarshalText.
func (n *Name) UnmarshalText(text []byte) error {
	section, key, ok := bytes.Cut(text, []byte(" "))
	if !ok {
		return fmt.Errorf("entry name %q: want section and key", text)
	}
	*n = Name{Section(section), string(key)}
	return nil
}

// Entry is one named value. A nil Value is a tombstone.
type Entry struct {
	Name  Name            `json:"name"`
	Value json.RawMessage `json:"value,omitempty"`
	Stamp Stamp           `json:"stamp"`
	Seq   uint64          `json:"seq"` // the record's sequence number when the entry last changed
}

// Record is all that one node says.
type Record struct {
	Node        string
	Incarnation uint64         // grows when a node starts with an empty store
	Seq         uint64         // grows by one with each published change
	Floor       uint64         // tombstones up to here are gone
	Entries     map[Name]Entry // to read

	head Head            // the newest that is known to be signed
	tree tree            // nil until it is asked for
	undo map[Name]*Entry // during a merge that may be taken back: what was there
}

// Delta is what changed in a record after From, or, when Whole, all of it.
type Delta struct {
	Format      int     `json:"format"`
	Node        string  `json:"node"`
	Incarnation uint64  `json:"incarnation"`
	From        uint64  `json:"from"`
	Seq         uint64  `json:"seq"`
	Floor       uint64  `json:"floor"`
	Whole       bool    `json:"whole,omitempty"`
	Partial     bool    `json:"partial,omitempty"` // all of some buckets
	Buckets     []uint8 `json:"buckets,omitempty"` // these
	Entries     []Entry `json:"entries"`           // by sequence number
	Head        Head    `json:"head,omitzero"`     // what it leads to
}

// New is the empty record of a node.
func New(node string, incarnation uint64) *Record {
	return &Record{Node: node, Incarnation: incarnation, Entries: make(map[Name]Entry)}
}

// Clone is a copy that changes by itself, with the head that is known of it.
func (r *Record) Clone() *Record {
	return &Record{Node: r.Node, Incarnation: r.Incarnation, Seq: r.Seq, Floor: r.Floor, Entries: maps.Clone(r.Entries), head: r.head}
}

// Publish sets or (with a nil value) deletes entries, for the record's owner.
// What is already so is left out; the delta says what changed, and has no head
// before the owner gives it one (Sign).
func (r *Record) Publish(stamp Stamp, values map[Name]json.RawMessage) Delta {
	d := r.delta(r.Seq)
	d.Head = Head{} // of before
	for _, name := range slices.SortedFunc(maps.Keys(values), compareNames) {
		old, had := r.Entries[name]
		value := Carried(values[name])
		if bytes.Equal(old.Value, value) && (had || value == nil) {
			continue
		}
		r.Seq++
		e := Entry{Name: name, Value: value, Stamp: stamp, Seq: r.Seq}
		r.put(e)
		d.Entries = append(d.Entries, e)
	}
	d.Seq = r.Seq
	return d
}

// Carried is a value as JSON carries it: without spaces, and with <, >, &, U+2028
// and U+2029 escaped. Only such a value is the same to all who hash it; one that
// is no JSON stays as it is, and can't be sent.
func Carried(value json.RawMessage) json.RawMessage {
	if value == nil {
		return nil
	}
	carried, err := json.Marshal(value)
	if err != nil {
		return value
	}
	return carried
}

// Since is what changed after seq; all of it when tombstones since then are gone.
func (r *Record) Since(seq uint64) Delta {
	d := r.delta(seq)
	if seq < r.Floor || seq == 0 {
		d.From, d.Whole = 0, true
	}
	for _, e := range r.Entries {
		if e.Seq > d.From {
			d.Entries = append(d.Entries, e)
		}
	}
	slices.SortFunc(d.Entries, bySeq)
	return d
}

// delta is one from seq to now, without entries.
func (r *Record) delta(from uint64) Delta {
	return Delta{Format: Format, Node: r.Node, Incarnation: r.Incarnation, From: from, Seq: r.Seq, Floor: r.Floor, Head: r.Head()}
}

func bySeq(a, b Entry) int { return cmp.Compare(a.Seq, b.Seq) }

// Merge takes in a delta of this record and says which entries changed. What
// is older than what is known changes nothing.
func (r *Record) Merge(d Delta) ([]Name, error) {
	switch {
	case d.Format > Format:
		return nil, fmt.Errorf("record of %s has format %d, this version knows up to %d: upgrade shoald", d.Node, d.Format, Format)
	case d.Node != r.Node:
		return nil, fmt.Errorf("record of %s merged into that of %s", d.Node, r.Node)
	case compareHeads(d.Incarnation, d.Seq, r.Incarnation, r.Seq) <= 0:
		return nil, nil
	case d.Whole || d.Partial:
		return r.replace(d), nil
	case d.Incarnation > r.Incarnation || d.From > r.Seq:
		return nil, ErrGap
	}
	var changed []Name
	for _, e := range d.Entries {
		if e.Seq > r.Entries[e.Name].Seq && e.Seq > r.Floor {
			r.note(e.Name)
			r.put(e)
			changed = append(changed, e.Name)
		}
	}
	r.Seq = d.Seq
	r.compact(d.Floor)
	return changed, nil
}

// replace makes the record, or some buckets of it, what a whole delta says.
func (r *Record) replace(d Delta) []Name {
	r.Incarnation, r.Seq, r.Floor = d.Incarnation, d.Seq, d.Floor
	said := make(map[Name]Entry, len(d.Entries))
	for _, e := range d.Entries {
		said[e.Name] = e
	}
	var changed []Name
	for name, old := range r.Entries {
		if _, still := said[name]; still || d.Partial && !slices.Contains(d.Buckets, name.Bucket()) {
			continue
		}
		r.note(name)
		r.remove(name)
		if old.Value != nil {
			changed = append(changed, name)
		}
	}
	for name, e := range said {
		if old := r.Entries[name]; !bytes.Equal(old.Value, e.Value) {
			changed = append(changed, name)
		}
		r.note(name)
		r.put(e)
	}
	slices.SortFunc(changed, compareNames)
	return changed
}

// note remembers what is there, for a merge that may be taken back.
func (r *Record) note(name Name) {
	if _, noted := r.undo[name]; noted || r.undo == nil {
		return
	}
	r.undo[name] = nil
	if e, had := r.Entries[name]; had {
		r.undo[name] = &e
	}
}

// Compact forgets the tombstones up to seq. Only the owner calls it: a peer
// that is behind gets the whole record then, so no clean-up waits for anybody.
// It counts as a change: one sequence number has one content.
func (r *Record) Compact(seq uint64) {
	if seq = min(seq, r.Seq); seq <= r.Floor {
		return
	}
	r.Seq++
	r.compact(seq)
}

func (r *Record) compact(floor uint64) {
	if floor <= r.Floor {
		return
	}
	r.Floor = floor
	for name, e := range r.Entries {
		if e.Value == nil && e.Seq <= floor {
			r.note(name)
			r.remove(name)
		}
	}
}

func compareHeads(incarnationA, seqA, incarnationB, seqB uint64) int {
	return cmp.Or(cmp.Compare(incarnationA, incarnationB), cmp.Compare(seqA, seqB))
}

func compareNames(a, b Name) int {
	return cmp.Or(cmp.Compare(a.Section, b.Section), cmp.Compare(a.Key, b.Key))
}
