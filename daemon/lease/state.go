package lease

import (
	"maps"
	"time"
)

// State is what the witnesses agree on. Make one with NewState.
type State struct {
	// Count is the last number that was given away. Epochs and fencing tokens are
	// of one row, which only grows: none is ever given twice.
	Count uint64 `json:"count"`
	// Closed is that nothing is granted: the witnesses were recovered from what one
	// of them knew, and leases that it knows nothing of may still run.
	Closed bool `json:"closed,omitempty"`

	Epochs map[string]Epoch `json:"epochs"` // the latest one of each node
	Claims map[string]Claim `json:"claims"` // by what is claimed
}

// Epoch is a node's membership in exclusive work, from a registration until its
// fence. One that is over never comes back.
type Epoch struct {
	Number  uint64        `json:"number"`
	Session string        `json:"session"` // of the lease process that it was given to
	Lease   time.Duration `json:"lease"`   // how long after it sent a renewal the node may write at most
	Over    bool          `json:"over,omitempty"`
}

// Claim is who holds a thing.
type Claim struct {
	Node  string `json:"node"`
	Epoch uint64 `json:"epoch"`
	Token uint64 `json:"token"` // the fencing token, larger than that of every holder before
	// Try is the node's number of the wish, growing in an epoch. A message that
	// comes late has an old one.
	Try uint64 `json:"try"`
	// Pinned is that no other node could do the work. It stays the node's whatever
	// becomes of its lease.
	Pinned bool `json:"pinned,omitempty"`
	// Free is that it was released. The entry stays until the epoch is over, or a
	// claim that comes late would be taken for a new one.
	Free bool `json:"free,omitempty"`
}

// NewState is the state of witnesses that begin.
func NewState() *State {
	return &State{Epochs: make(map[string]Epoch), Claims: make(map[string]Claim)}
}

// Clone is a copy that shares nothing.
func (s *State) Clone() *State {
	c := *s
	c.Epochs, c.Claims = maps.Clone(s.Epochs), maps.Clone(s.Claims)
	return &c
}

// Current is whether that epoch of the node is its latest and not over.
func (s *State) Current(node string, epoch uint64) bool {
	e, known := s.Epochs[node]
	return known && !e.Over && e.Number == epoch
}

// Holder is who holds the key in force, and whether anybody does.
func (s *State) Holder(key string) (Claim, bool) {
	c, known := s.Claims[key]
	return c, known && !c.Free && (c.Pinned || s.Current(c.Node, c.Epoch))
}

// Held is whether anybody holds anything. A host that is its own witness joins
// others only while nobody does.
func (s *State) Held() bool {
	for key := range s.Claims {
		if _, held := s.Holder(key); held {
			return true
		}
	}
	return false
}

// next gives a number away.
func (s *State) next() uint64 {
	s.Count++
	return s.Count
}

// end makes the node's epoch be over, and forgets what was released in it.
func (s *State) end(node string) {
	e := s.Epochs[node]
	e.Over = true
	s.Epochs[node] = e
	maps.DeleteFunc(s.Claims, func(_ string, c Claim) bool { return c.Free && c.Node == node && c.Epoch == e.Number })
}
