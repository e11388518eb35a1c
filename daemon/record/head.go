package record

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"maps"
	"slices"
)

var (
	// ErrForged says that a head is not signed by the key that its node is known by.
	ErrForged = errors.New("the signature is not that node's")
	// ErrMismatch says that what a delta leads to is not what its head says: ask
	// for the whole record, or for the buckets that differ.
	ErrMismatch = errors.New("the content does not fit the signed head")
)

// Buckets is into how many parts a record is divided for comparing.
const Buckets = 256

// Hash is a SHA-256.
type Hash [sha256.Size]byte

// MarshalText makes Hash hexadecimal in JSON.
func (h Hash) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h[:])), nil }

// UnmarshalText is the inverse of MarshalText.
func (h *Hash) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(h) {
		return fmt.Errorf("a hash of %d characters, want %d", len(text), hex.EncodedLen(len(h)))
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// Head is a node's word on the whole of its record at one moment. Deltas are
// handed on by anybody; the head is how whoever gets them knows that they are
// the node's.
type Head struct {
	Node        string `json:"node"`
	Incarnation uint64 `json:"incarnation"`
	Seq         uint64 `json:"seq"`
	Floor       uint64 `json:"floor"`
	Root        Hash   `json:"root"` // of all entries
	Signature   []byte `json:"signature,omitempty"`
}

// Compare orders heads of one node: by incarnation, then by sequence number.
func (h Head) Compare(other Head) int {
	return compareHeads(h.Incarnation, h.Seq, other.Incarnation, other.Seq)
}

// Cloned says whether two heads, both properly signed, prove that two hosts use
// one name and one key: one moment of one record has one content.
func Cloned(a, b Head) bool {
	return a.Node == b.Node && a.Compare(b) == 0 && (a.Root != b.Root || a.Floor != b.Floor)
}

// signed is what is signed. No two heads, nor a head and anything else that is
// signed with a node's key, have the same bytes.
func (h Head) signed(cluster string) []byte {
	b := []byte("shoal head 1\n")
	for _, s := range []string{cluster, h.Node} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	for _, n := range []uint64{h.Incarnation, h.Seq, h.Floor} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return append(b, h.Root[:]...)
}

// Verify is nil if the head was signed in this cluster by the node with this
// key, else ErrForged.
func (h Head) Verify(cluster string, key ed25519.PublicKey) error {
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, h.signed(cluster), h.Signature) {
		return fmt.Errorf("head of %s at %d/%d: %w", h.Node, h.Incarnation, h.Seq, ErrForged)
	}
	return nil
}

// Sign is the head of the record as it is now, for the record's owner. The
// record keeps it, and hands it on with its deltas.
func (r *Record) Sign(cluster string, key ed25519.PrivateKey) Head {
	r.head = Head{Node: r.Node, Incarnation: r.Incarnation, Seq: r.Seq, Floor: r.Floor, Root: r.Root()}
	r.head.Signature = ed25519.Sign(key, r.head.signed(cluster))
	return r.head
}

// Head is the newest signed head that is known of the record. It is of just its
// present state, or without a signature.
func (r *Record) Head() Head {
	now := Head{Node: r.Node, Incarnation: r.Incarnation, Seq: r.Seq, Floor: r.Floor}
	if r.head.Compare(now) != 0 || r.head.Floor != r.Floor {
		return now
	}
	return r.head
}

// Signed is the newest signed head that is known, which may be of a former
// state; it is zero if there is none.
func (r *Record) Signed() Head { return r.head }

// tree is the record's hashes: entries by bucket, and the bucket's hash while
// nothing in it has changed. It is made at the first use, since a host that is
// alone needs none. Most records fill few buckets: a node of a large cluster has
// thousands of records.
type tree map[uint8]*bucket

type bucket struct {
	names map[Name]struct{}
	hash  Hash
	valid bool
}

// emptyBucket is the hash of one without entries.
var emptyBucket = Hash(sha256.Sum256(nil))

// Bucket is in which part of its record an entry is.
func (n Name) Bucket() uint8 {
	text, _ := n.MarshalText()
	return bucketOf(text)
}

func bucketOf(text []byte) uint8 { return sha256.Sum256(text)[0] }

// put sets one entry, and every change of Entries but whole ones comes by it.
func (r *Record) put(e Entry) {
	r.Entries[e.Name] = e
	if r.tree != nil {
		r.tree.touch(e.Name.Bucket())[e.Name] = struct{}{}
	}
}

// remove forgets one entry.
func (r *Record) remove(name Name) {
	delete(r.Entries, name)
	if r.tree != nil {
		r.tree.drop(name)
	}
}

func (t tree) touch(b uint8) map[Name]struct{} {
	if t[b] == nil {
		t[b] = &bucket{names: make(map[Name]struct{})}
	}
	t[b].valid = false
	return t[b].names
}

func (t tree) drop(name Name) {
	b := name.Bucket()
	names := t.touch(b)
	if delete(names, name); len(names) == 0 {
		delete(t, b)
	}
}

// Hashes is each bucket's hash. Records with equal hashes have equal entries,
// tombstones among them.
func (r *Record) Hashes() (hashes [Buckets]Hash) {
	if r.tree == nil {
		r.tree = make(tree)
		for name := range r.Entries {
			r.tree.touch(name.Bucket())[name] = struct{}{}
		}
	}
	for b := range hashes {
		hashes[b] = emptyBucket
	}
	for b, in := range r.tree {
		if !in.valid {
			in.hash, in.valid = r.hash(in.names), true
		}
		hashes[b] = in.hash
	}
	return hashes
}

// Root is the hash of the whole record.
func (r *Record) Root() Hash {
	h := sha256.New()
	for _, b := range r.Hashes() {
		h.Write(b[:])
	}
	return Hash(h.Sum(nil))
}

func (r *Record) hash(in map[Name]struct{}) Hash {
	h := sha256.New()
	for _, name := range slices.SortedFunc(maps.Keys(in), compareNames) {
		e := r.Entries[name]
		text, _ := name.MarshalText()
		hashBytes(h, text)
		hashNumber(h, uint64(e.Stamp))
		hashNumber(h, e.Seq)
		if e.Value == nil {
			h.Write([]byte{0})
			continue
		}
		h.Write([]byte{1})
		hashBytes(h, e.Value)
	}
	return Hash(h.Sum(nil))
}

func hashBytes(h hash.Hash, b []byte) {
	hashNumber(h, uint64(len(b)))
	h.Write(b)
}

func hashNumber(h hash.Hash, n uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	h.Write(b[:])
}

// Differing are the buckets in which the record is not what these hashes say.
func (r *Record) Differing(hashes [Buckets]Hash) []uint8 {
	var list []uint8
	for b, h := range r.Hashes() {
		if h != hashes[b] {
			list = append(list, uint8(b))
		}
	}
	return list
}

// Parts is all of some of the record's buckets: what a peer lacks that is behind
// the floor, or whose content does not fit its head.
func (r *Record) Parts(buckets []uint8) Delta {
	d := r.delta(0)
	d.Partial, d.Buckets = true, slices.Clone(buckets)
	for _, e := range r.Entries {
		if slices.Contains(buckets, e.Name.Bucket()) {
			d.Entries = append(d.Entries, e)
		}
	}
	slices.SortFunc(d.Entries, bySeq)
	return d
}

// MergeSigned merges what somebody else brought, and takes nothing of it unless
// the head that comes with it passes the check and is just what the merge
// results in. A delta that is older than what is known is not looked at.
func (r *Record) MergeSigned(d Delta, check func(Head) error) ([]Name, error) {
	h := d.Head
	if h.Node != d.Node || h.Incarnation != d.Incarnation || h.Seq != d.Seq || h.Floor != d.Floor {
		return nil, fmt.Errorf("delta of %s at %d/%d with the head of %s at %d/%d: %w", d.Node, d.Incarnation, d.Seq, h.Node, h.Incarnation, h.Seq, ErrMismatch)
	}
	if err := check(h); err != nil {
		return nil, err
	}
	before := *r
	before.Entries = nil
	undo := make(map[Name]*Entry)
	r.undo = undo
	changed, err := r.Merge(d)
	r.undo = nil
	if err != nil || r.sameAs(before) {
		return nil, err
	}
	if r.Root() != h.Root {
		r.restore(before, undo)
		return nil, fmt.Errorf("delta of %s from %d to %d/%d: %w", d.Node, d.From, d.Incarnation, d.Seq, ErrMismatch)
	}
	r.head = h
	r.head.Signature = bytes.Clone(h.Signature)
	return changed, nil
}

func (r *Record) sameAs(before Record) bool {
	return r.Incarnation == before.Incarnation && r.Seq == before.Seq && r.Floor == before.Floor
}

// restore undoes a merge.
func (r *Record) restore(before Record, undo map[Name]*Entry) {
	r.Incarnation, r.Seq, r.Floor, r.head = before.Incarnation, before.Seq, before.Floor, before.head
	for name, e := range undo {
		if e == nil {
			r.remove(name)
		} else {
			r.put(*e)
		}
	}
}
