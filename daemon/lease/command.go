package lease

import (
	"errors"
	"fmt"
	"maps"
	"time"
)

// Verb is what a Command does.
type Verb string

// The verbs. Witnesses of one log must know all that it holds: a new one may be
// proposed only once every witness has a version that knows it.
const (
	Register Verb = "register" // Node wants an epoch for Session, with Lease
	Resign   Verb = "resign"   // Node ends Epoch: nothing of it runs any more
	Fence    Verb = "fence"    // the leader of Term ends Epoch of Node, whose lease ran out
	Acquire  Verb = "acquire"  // Node at Epoch claims Key, for its Try
	Release  Verb = "release"  // Node at Epoch gives up Key, which it holds with Token
	Forget   Verb = "forget"   // a person says that Node does not come back
	Open     Verb = "open"     // the leader of Term has waited out what a recovery may not know of
)

// Command is one entry of the witnesses' log. Which fields count is the verb's.
type Command struct {
	Do      Verb          `json:"do"`
	Node    string        `json:"node,omitempty"`
	Session string        `json:"session,omitempty"`
	Epoch   uint64        `json:"epoch,omitempty"`
	Lease   time.Duration `json:"lease,omitempty"`
	Key     string        `json:"key,omitempty"`
	Token   uint64        `json:"token,omitempty"`
	Try     uint64        `json:"try,omitempty"`
	Pinned  bool          `json:"pinned,omitempty"`
	Term    uint64        `json:"term,omitempty"`
}

// Refusal is why a command or a renewal was not granted; "" is that it was.
type Refusal string

// The refusals.
const (
	Granted Refusal = ""
	// Over: that epoch is not, or no longer, the node's. What runs in it must end.
	Over Refusal = "the epoch is over"
	// OtherSession: another lease process has the node's name, and its lease.
	OtherSession Refusal = "another host, or this one before it was started anew, has a lease under this name"
	// Held: another node holds it, or the same one holds it in another way.
	Held Refusal = "it is held"
	// Late: a newer wish of the same node was seen, or the leader's term is over.
	Late Refusal = "it came too late"
	// Shut: see State.Closed.
	Shut Refusal = "the witnesses were recovered and wait for leases to run out that they may not know of"
	// Alive: only a node without a lease can be forgotten.
	Alive Refusal = "the node has a lease"
	// Wrong: the command makes no sense.
	Wrong Refusal = "the request is not valid"
)

// Outcome is what became of a command.
type Outcome struct {
	Refused Refusal `json:"refused,omitempty"`
	Epoch   Epoch   `json:"epoch,omitzero"`  // of Register
	Holder  Claim   `json:"holder,omitzero"` // of Acquire: the holder now, also where it is another one
}

// Bounds of what comes in commands. Peers are members of the cluster, but may be wrong.
const (
	Longest  = time.Minute // no lease is longer: a recovery waits that long
	Shortest = time.Second
	maxName  = 512
)

// Check is an error for a command that no node of this version may propose.
func (c Command) Check() error {
	if len(c.Node) > maxName || len(c.Session) > maxName || len(c.Key) > maxName {
		return fmt.Errorf("%s: a name of more than %d characters", c.Do, maxName)
	}
	needs := map[Verb][]bool{
		Register: {c.Node != "", c.Session != ""}, Resign: {c.Node != "", c.Epoch != 0}, Fence: {c.Node != "", c.Epoch != 0, c.Term != 0},
		Acquire: {c.Node != "", c.Epoch != 0, c.Key != ""}, Release: {c.Node != "", c.Epoch != 0, c.Key != "", c.Token != 0},
		Forget: {c.Node != ""}, Open: {c.Term != 0},
	}
	has, known := needs[c.Do]
	if !known {
		return fmt.Errorf("unknown command %q: a newer version made it", c.Do)
	}
	for _, ok := range has {
		if !ok {
			return fmt.Errorf("%s: %w", c.Do, errLacks)
		}
	}
	if c.Do == Register && (c.Lease < Shortest || c.Lease > Longest) {
		return fmt.Errorf("register: a lease of %v, want %v to %v", c.Lease, Shortest, Longest)
	}
	return nil
}

var errLacks = errors.New("a field that it needs is missing")

// Apply carries out a command that is in the log with that term. Equal states
// become equal states, on every witness.
func (s *State) Apply(term uint64, c Command) Outcome {
	switch c.Do {
	case Register:
		return s.register(c)
	case Resign:
		return s.endIf(c)
	case Fence:
		// A leader that lost its term and got another one may still send what it
		// decided in the first, though others have renewed the lease in between.
		if c.Term != term {
			return Outcome{Refused: Late}
		}
		return s.endIf(c)
	case Acquire:
		return s.acquire(c)
	case Release:
		return s.release(c)
	case Forget:
		return s.forget(c)
	case Open:
		if c.Term != term {
			return Outcome{Refused: Late}
		}
		s.Closed = false
		return Outcome{}
	}
	return Outcome{Refused: Wrong}
}

func (s *State) register(c Command) Outcome {
	if s.Closed {
		return Outcome{Refused: Shut}
	}
	if e, known := s.Epochs[c.Node]; known && !e.Over {
		if e.Session != c.Session {
			return Outcome{Refused: OtherSession}
		}
		return Outcome{Epoch: e}
	}
	e := Epoch{Number: s.next(), Session: c.Session, Lease: c.Lease}
	s.Epochs[c.Node] = e
	return Outcome{Epoch: e}
}

func (s *State) endIf(c Command) Outcome {
	if !s.Current(c.Node, c.Epoch) {
		return Outcome{Refused: Over}
	}
	s.end(c.Node)
	return Outcome{}
}

func (s *State) acquire(c Command) Outcome {
	if !s.Current(c.Node, c.Epoch) {
		return Outcome{Refused: Over}
	}
	old, known := s.Claims[c.Key]
	_, held := s.Holder(c.Key)
	mine := known && old.Node == c.Node
	switch {
	case held && (!mine || old.Pinned != c.Pinned):
		return Outcome{Refused: Held, Holder: old}
	case mine && old.Epoch == c.Epoch && c.Try < old.Try, mine && old.Epoch == c.Epoch && c.Try == old.Try && old.Free:
		return Outcome{Refused: Late, Holder: old}
	case held && old.Epoch == c.Epoch && c.Try == old.Try:
		return Outcome{Holder: old} // the answer to the first one was lost
	case held && old.Pinned:
		old.Epoch, old.Try = c.Epoch, c.Try // its pod runs on with the token that it has
		s.Claims[c.Key] = old
		return Outcome{Holder: old}
	}
	claim := Claim{Node: c.Node, Epoch: c.Epoch, Token: s.next(), Try: c.Try, Pinned: c.Pinned}
	s.Claims[c.Key] = claim
	return Outcome{Holder: claim}
}

// release asks for the token: of two claims of one node the first one's release
// may come after the second.
func (s *State) release(c Command) Outcome {
	old, held := s.Holder(c.Key)
	switch {
	case !s.Current(c.Node, c.Epoch):
		return Outcome{Refused: Over}
	case !held || old.Node != c.Node || old.Token != c.Token:
		return Outcome{Refused: Late}
	}
	old.Free, old.Pinned = true, false
	s.Claims[c.Key] = old
	return Outcome{}
}

func (s *State) forget(c Command) Outcome {
	if e, known := s.Epochs[c.Node]; known && !e.Over {
		return Outcome{Refused: Alive}
	}
	delete(s.Epochs, c.Node)
	maps.DeleteFunc(s.Claims, func(_ string, claim Claim) bool { return claim.Node == c.Node })
	return Outcome{}
}

// recoverSkip is how many numbers a recovery leaves out: those that witnesses
// gave away which are lost. Numbers stay exact in JSON for two million
// recoveries.
const recoverSkip = 1 << 32

// Recover makes of what one witness knows a state to go on from when the
// majority is lost. What others may have granted since is not in it. So all
// epochs are over, numbers go on above all that can have been given, and nothing
// is granted until a leader has waited for the longest lease.
func (s *State) Recover() {
	s.Count += recoverSkip
	s.Closed = true
	for node := range s.Epochs {
		s.end(node)
	}
}
