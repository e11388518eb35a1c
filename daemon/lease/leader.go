package lease

import (
	"maps"
	"slices"
	"time"
)

// Leader is what the witnesses' leader knows beside State, for one term. It is
// not kept: the next leader begins with a new one, and waits.
type Leader struct {
	budget Budget
	term   uint64
	since  time.Duration // when it began to serve
	// heard is when the last sign of life of a session came in.
	heard map[holder]time.Duration
	// fencing holds epochs whose fence was proposed. It may be in the log already,
	// so they are renewed no more.
	fencing map[uint64]bool
}

type holder struct{ node, session string }

// Renewal is a node's wish to keep its lease.
type Renewal struct {
	Node    string        `json:"node"`
	Session string        `json:"session"`
	Epoch   uint64        `json:"epoch"`
	Sent    time.Duration `json:"sent"` // by the node's clock; the answer repeats it
}

// Answer is the leader's to a Renewal, or to a registration.
type Answer struct {
	Session string        `json:"session"`
	Sent    time.Duration `json:"sent"`
	Refused Refusal       `json:"refused,omitempty"`
	Epoch   uint64        `json:"epoch"`
	Lease   time.Duration `json:"lease,omitempty"` // as it was registered
}

// Lead begins a term. Now is by a monotonic clock that counts sleep, of this
// host, read after the barrier of that term: what earlier leaders put into the log
// is applied then, and what they answered was sent before.
func Lead(b Budget, term uint64, now time.Duration) *Leader {
	return &Leader{budget: b, term: term, since: now, heard: make(map[holder]time.Duration), fencing: make(map[uint64]bool)}
}

// Term is the term that it leads.
func (l *Leader) Term() uint64 { return l.term }

// Hear takes note of a sign of life when it comes in.
func (l *Leader) Hear(node, session string, now time.Duration) {
	l.heard[holder{node, session}] = now
}

// Renew answers a renewal, or a registration that was applied, which came in at
// received. The answer may be sent only if this leader still led after received:
// ask a majority of the voters for their term after that. Another leader may have
// been elected long ago, and have fenced.
func (l *Leader) Renew(s *State, r Renewal, received time.Duration) Answer {
	l.Hear(r.Node, r.Session, max(received, l.heard[holder{r.Node, r.Session}]))
	a := Answer{Session: r.Session, Sent: r.Sent, Epoch: r.Epoch}
	e := s.Epochs[r.Node]
	if !s.Current(r.Node, r.Epoch) || e.Session != r.Session || l.fencing[r.Epoch] {
		a.Refused = Over
		return a
	}
	a.Lease = e.Lease
	return a
}

// Due are the commands that it is time for, in the order of nodes, and when to
// ask again (zero: when something changed). From then on the epochs in them are
// renewed no more.
func (l *Leader) Due(s *State, now time.Duration) (due []Command, again time.Duration) {
	later := func(at time.Duration) {
		if again == 0 || at < again {
			again = at
		}
	}
	if s.Closed {
		if at := l.since + l.budget.wait(Longest); now >= at {
			due = append(due, Command{Do: Open, Term: l.term})
		} else {
			later(at)
		}
	}
	maps.DeleteFunc(l.heard, func(h holder, at time.Duration) bool { // sessions that got nothing
		return s.Epochs[h.node].Session != h.session && now-at > l.budget.wait(Longest)
	})
	for _, node := range slices.Sorted(maps.Keys(s.Epochs)) {
		e := s.Epochs[node]
		if e.Over {
			continue
		}
		at := max(l.since, l.heard[holder{node, e.Session}]) + l.budget.wait(e.Lease)
		if now < at && !l.fencing[e.Number] {
			later(at)
			continue
		}
		l.fencing[e.Number] = true
		due = append(due, Command{Do: Fence, Node: node, Epoch: e.Number, Term: l.term})
	}
	return due, again
}

// Until is when the lease of a node's current epoch ends, by the clock that is
// passed in, as far as this leader knows: what `shoal lease` shows.
func (l *Leader) Until(s *State, node string) time.Duration {
	e := s.Epochs[node]
	return max(l.since, l.heard[holder{node, e.Session}]) + l.budget.wait(e.Lease)
}
