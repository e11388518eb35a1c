package witness

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/shoal-project/shoal/daemon/lease"
)

// Stage has a server follow the log without a vote. Only the leader can. A vote
// comes later (Add), once it was seen to keep up: of two voters, one that nobody
// can reach ends the majority.
func (w *Witness) Stage(s Server, within time.Duration) error {
	return w.raft.AddNonvoter(raft.ServerID(s.ID), raft.ServerAddress(s.Address), 0, within).Error()
}

// Answers asks the servers for a sign of life, and says of each that gave one
// how far its log is. Only the leader can: nil where this witness does not lead.
func (w *Witness) Answers(ctx context.Context, servers []Server) map[string]uint64 {
	l := w.leading()
	if l == nil {
		return nil
	}
	type said struct {
		id   string
		last uint64
		ok   bool
	}
	answers := make(chan said, len(servers))
	for _, s := range servers {
		if s.ID == w.config.ID {
			answers <- said{s.ID, w.raft.LastIndex(), true}
			continue
		}
		go func() {
			last, ok := w.heartbeat(s, l.Term())
			answers <- said{s.ID, last, ok}
		}()
	}
	found := make(map[string]uint64)
	for range servers {
		select {
		case a := <-answers:
			if a.ok {
				found[a.id] = a.last
			}
		case <-ctx.Done():
			return found
		}
	}
	return found
}

// Applied is how far this witness is in the log.
func (w *Witness) Applied() uint64 { return w.raft.AppliedIndex() }

// Ended is whether raft has stopped by itself, and why: nil is that this server
// was removed from the witnesses.
func (w *Witness) Ended() (bool, error) {
	if w.raft.State() != raft.Shutdown {
		return false, nil
	}
	w.fsm.mu.Lock()
	defer w.fsm.mu.Unlock()
	return true, w.fsm.broken
}

// Leader is the address of the witness that leads, as far as this one knows; ""
// if nobody does. Serves is whether it is this one, and the barrier of its term is
// behind it.
func (w *Witness) Leader() (address string, serves bool) {
	a, _ := w.raft.LeaderWithID()
	return string(a), w.leading() != nil
}

// Known is what a witness knows of the leases, for people.
type Known struct {
	Term  uint64
	State *lease.State
	// Since is when an epoch or a token was given away, by the clock of the leader
	// that did, for the numbers that are in State.
	Since map[uint64]time.Time
	// Left is how long each node's lease runs if it is not renewed again. Nil where
	// this witness does not lead.
	Left map[string]time.Duration
}

// Known is a copy.
func (w *Witness) Known() Known {
	k := Known{Term: w.raft.CurrentTerm()}
	l := w.leading()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fsm.mu.Lock()
	defer w.fsm.mu.Unlock()
	k.State, k.Since = w.fsm.state.Clone(), w.fsm.since.clone()
	if l == nil {
		return k
	}
	k.Term, k.Left = l.Term(), make(map[string]time.Duration)
	now := w.config.Clock()
	for node, e := range k.State.Epochs {
		if !e.Over {
			k.Left[node] = l.Until(k.State, node) - now
		}
	}
	return k
}

// Hand gives the lead to another witness, if there is one that can take it.
func (w *Witness) Hand() error {
	if err := w.raft.LeadershipTransfer().Error(); err != nil {
		return fmt.Errorf("hand the witnesses' lead over: %w", err)
	}
	return nil
}
