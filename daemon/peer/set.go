package peer

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/record"
)

var (
	// ErrTwin says that another host publishes under this node's name and key. One
	// of the two has to be set up anew.
	ErrTwin = errors.New("another host has this node's name and key: set one of the two up anew, under another name")
	// errTooLarge says that a node's record, or all of them, would take too much
	// memory here. It is that node's doing, not of who brought it.
	errTooLarge = errors.New("it is too large")
)

// SetConfig is what a Set begins with.
type SetConfig struct {
	Node    string             // this node
	Cluster string             // the cluster's id
	Key     ed25519.PrivateKey // this node's
	Pins    *cluster.Pins
	Records map[string]*record.Record // as they were stored; the Set's from now on
	Alone   bool                      // there are no peers to wait for: publish at once
	Now     func() time.Time
	Store   Store // nil: nothing is kept
	// Changed is called, in order, with what came from elsewhere (or, with the
	// first publication, from before) and the names that have another value. It
	// runs under the Set's lock and must not call the Set.
	Changed func(record.Delta, []record.Name)
}

// Store keeps records for the next start. It is called under the Set's lock, in
// the order of changes: a whole record must not come after what follows it.
type Store interface {
	Save(record.Delta)
	Forget(node string)
}

// nowhere keeps nothing.
type nowhere struct{}

func (nowhere) Save(record.Delta) {}
func (nowhere) Forget(string)     {}

// Set is all records that this node knows, its own among them. It takes in what
// is properly signed by the node that a record is of, whoever brings it. Safe
// for concurrent use.
type Set struct {
	config SetConfig

	mu      sync.Mutex
	records map[string]*record.Record
	sizes   map[string]int // of the others' content, in bytes
	total   int
	clones  map[string]Clone
	digest  *record.Hash // nil when something has changed

	// Until the first publication of this run, own is a draft that nobody is told
	// of, and base what was stored or is taken back.
	published bool
	own, base *record.Record
	loaded    uint64       // own's sequence number at the start
	isNew     bool         // its store was empty, and it has taken nothing back since
	least     uint64       // an incarnation that it had before, as far as it has heard
	twin      *record.Head // the other's
	former    string       // the cluster's id before it yielded to another
	forgotten map[string]uint64
}

// Bounds of what others may make this node keep, in bytes.
const (
	mostRecord  = 64 << 20
	mostRecords = 1 << 30
	perEntry    = 150 // beside name and value
)

// NewSet makes a Set. What was stored and is not signed by its node in this
// cluster is of use and is asked for again.
func NewSet(c SetConfig) *Set {
	if c.Changed == nil {
		c.Changed = func(record.Delta, []record.Name) {}
	}
	if c.Store == nil {
		c.Store = nowhere{}
	}
	s := &Set{config: c, records: make(map[string]*record.Record), sizes: make(map[string]int), clones: make(map[string]Clone)}
	for node, r := range c.Records {
		if h := r.Head(); h.Verify(c.Cluster, s.keyOf(node)) != nil && node != c.Node {
			r.Incarnation, r.Seq, r.Floor = 0, 0, 0
		}
		s.records[node] = r
		if node != c.Node {
			s.sizes[node] = sizeOf(r)
			s.total += s.sizes[node]
		}
	}
	if s.own = s.records[c.Node]; s.own == nil {
		s.isNew = true
		s.own = record.New(c.Node, 0)
		s.records[c.Node] = s.own
	}
	s.base = record.New(c.Node, 0)
	switch signed := s.own.Signed(); {
	case signed.Verify(c.Cluster, s.keyOf(c.Node)) != nil:
	case signed.Compare(s.own.Head()) == 0:
		s.loaded, s.base = s.own.Seq, s.own.Clone()
	default: // it was a draft, made after that: peers that have that are not ahead
		s.loaded, s.base.Incarnation, s.base.Seq = signed.Seq, signed.Incarnation, signed.Seq
	}
	if c.Alone {
		s.publishFirst()
	}
	return s
}

func sizeOf(r *record.Record) (n int) {
	for name, e := range r.Entries {
		n += len(name.Section) + len(name.Key) + len(e.Value) + perEntry
	}
	return n
}

// keyOf is the key that a node is known by, nil for a stranger.
func (s *Set) keyOf(node string) ed25519.PublicKey {
	if node == s.config.Node {
		return s.config.Key.Public().(ed25519.PublicKey)
	}
	return s.config.Pins.Key(node)
}

// Read calls f with all records by node. They are to read, and only until f
// returns.
func (s *Set) Read(f func(map[string]*record.Record)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.records)
}

// Own is what this node's record says under a name, nil for nothing.
func (s *Set) Own(name record.Name) json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own.Entries[name].Value
}

// OwnKeys are the keys in a section of this node's record, in no order.
func (s *Set) OwnKeys(section record.Section) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for name, e := range s.own.Entries {
		if name.Section == section && e.Value != nil {
			keys = append(keys, name.Key)
		}
	}
	return keys
}

// Publish changes this node's record. The delta is to be pushed if it has a
// signed head; before PublishFirst it has none. With ErrTwin it has none either,
// and what it says holds on this node alone.
func (s *Set) Publish(stamp record.Stamp, values map[record.Name]json.RawMessage) (record.Delta, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.own.Publish(stamp, values)
	if len(d.Entries) == 0 {
		return d, nil
	}
	err := s.mayPublish()
	if s.published && err == nil {
		d.Head = s.sign()
	}
	s.config.Store.Save(d)
	return d, err
}

// Compact forgets this node's tombstones once there are more than so many.
func (s *Set) Compact(most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, e := range s.own.Entries {
		if e.Value == nil {
			n++
		}
	}
	if n <= most || s.mayPublish() != nil {
		return
	}
	s.own.Compact(s.own.Seq)
	if s.published {
		s.sign()
	}
	s.config.Store.Save(s.own.Since(0))
}

// mayPublish is ErrTwin if peers are to be told nothing more.
func (s *Set) mayPublish() error {
	_, cloned := s.clones[s.config.Node]
	if s.twin != nil || cloned {
		return ErrTwin
	}
	return nil
}

func (s *Set) sign() record.Head {
	s.digest = nil
	return s.own.Sign(s.config.Cluster, s.config.Key)
}

// Twin is nil, or ErrTwin with what is known of the other host.
func (s *Set) Twin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.twin != nil {
		return fmt.Errorf("%w (it has published %d/%d)", ErrTwin, s.twin.Incarnation, s.twin.Seq)
	}
	return s.mayPublish()
}

// Published says whether peers are told of this node's record.
func (s *Set) Published() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.published
}

// PublishFirst begins to publish, at an incarnation that is higher than all
// known ones, with what was taken back until now. Call it when a peer was heard,
// so that there was somebody to take back from. The second call does nothing.
func (s *Set) PublishFirst() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.published {
		s.publishFirst()
	}
}

func (s *Set) publishFirst() {
	before, own := s.own, s.own
	incarnation := max(uint64(max(s.config.Now().UnixMilli(), 1)), own.Incarnation+1, s.base.Incarnation+1, s.least+1)
	if s.base.Incarnation > 0 && (s.base.Incarnation != own.Incarnation || s.base.Seq > s.loaded) {
		own = s.base
		values, stamp := drafts(before, s.loaded, own)
		own.Publish(stamp, values)
	}
	own.Incarnation = incarnation
	s.own, s.records[s.config.Node], s.base, s.published = own, own, nil, true
	s.sign()
	whole := own.Since(0)
	s.config.Store.Save(whole)
	s.config.Changed(whole, differing(before, own))
}

// differing are the names with other values.
func differing(a, b *record.Record) (names []record.Name) {
	for name, e := range b.Entries {
		if !bytes.Equal(a.Entries[name].Value, e.Value) {
			names = append(names, name)
		}
	}
	for name, e := range a.Entries {
		if _, still := b.Entries[name]; !still && e.Value != nil {
			names = append(names, name)
		}
	}
	return names
}

// summary is what the list of heads says of a node.
func (s *Set) summary(node string) Summary {
	if _, cloned := s.clones[node]; cloned {
		return Summary{Node: node, Cloned: true}
	}
	r := s.records[node]
	if r == nil {
		return Summary{Node: node}
	}
	if node == s.config.Node && !s.published {
		r = s.base
	}
	h := r.Head()
	if h.Signature == nil {
		return Summary{Node: node}
	}
	sum := Summary{Node: node, Incarnation: h.Incarnation, Seq: h.Seq}
	content := sha256.Sum256(binary.BigEndian.AppendUint64(h.Root[:], h.Floor))
	copy(sum.Mark[:], content[:])
	return sum
}

// heads are the summaries of all that can be handed on.
func (s *Set) heads() summaries {
	list := make(summaries, 0, len(s.records)+len(s.clones))
	for node := range s.records {
		if sum := s.summary(node); sum.Incarnation > 0 || sum.Cloned {
			list = append(list, sum)
		}
	}
	for node := range s.clones {
		if s.records[node] == nil {
			list = append(list, s.summary(node))
		}
	}
	slices.SortFunc(list, func(a, b Summary) int { return bytes.Compare([]byte(a.Node), []byte(b.Node)) })
	return list
}

// Heads are what this node can hand on, by node, and Digest is a hash of that:
// two with equal digests have the same.
func (s *Set) Heads() []Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heads()
}

// Digest is a hash over Heads.
func (s *Set) Digest() record.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.digest == nil {
		b, err := json.Marshal(s.heads())
		if err != nil {
			panic(err) // of strings and numbers
		}
		sum := record.Hash(sha256.Sum256(b))
		s.digest = &sum
	}
	return *s.digest
}

// Clones are the proofs that nodes were cloned, by node.
func (s *Set) Clones() []Clone {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Clone, 0, len(s.clones))
	for _, node := range slices.Sorted(maps.Keys(s.clones)) {
		list = append(list, s.clones[node])
	}
	return list
}

// Forget drops a node's record, what proves that it was cloned, and its key.
func (s *Set) Forget(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if node == s.config.Node {
		return
	}
	s.drop(node)
}
