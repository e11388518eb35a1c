package steward

import (
	"cmp"
	"slices"

	"github.com/shoal-project/shoal/daemon/record"
)

// Decision is what one node's record says about a key.
type Decision struct {
	Steward string       // the node whose record it is
	Term    uint64       // grows by one with each steward that takes over; 0 in records of versions without terms
	Stamp   record.Stamp // the entry's
	UID     string       // of the object that was decided on; "": that there is none
	Node    string       // where the object is bound; "": nowhere
}

// Binding is an object at a node.
type Binding struct{ UID, Node string }

// Compare orders decisions on one key: of two, the larger counts. A higher term
// is larger, then a higher (stamp, node).
func Compare(a, b Decision) int {
	return cmp.Or(cmp.Compare(a.Term, b.Term), cmp.Compare(a.Stamp, b.Stamp), cmp.Compare(a.Steward, b.Steward))
}

// Settle is which of the decisions on one key counts, and whether there is one.
// Admitted holds the bindings that their nodes' own records say they admitted.
//
// The highest term counts; in one term what was admitted, then by Compare. And
// a binding that was admitted sticks: of the decisions on one UID those that
// their node admitted come first, whatever their term. An object never moves
// under its UID; who wants it elsewhere decides on another UID. Where two nodes
// admitted one UID, each before it knew of the other, the larger decision
// counts, and the other node ends what it has.
func Settle(decisions []Decision, admitted map[Binding]bool) (Decision, bool) {
	if len(decisions) == 0 {
		return Decision{}, false
	}
	in := func(d Decision) int {
		if d.Node != "" && admitted[Binding{d.UID, d.Node}] {
			return 1
		}
		return 0
	}
	first := slices.MaxFunc(decisions, func(a, b Decision) int {
		return cmp.Or(cmp.Compare(a.Term, b.Term), cmp.Compare(in(a), in(b)), Compare(a, b))
	})
	return slices.MaxFunc(decisions, func(a, b Decision) int {
		return cmp.Or(cmp.Compare(same(a, first), same(b, first)), cmp.Compare(in(a), in(b)), Compare(a, b))
	}), true
}

func same(a, b Decision) int {
	if a.UID == b.UID {
		return 1
	}
	return 0
}

// Verb is what a node does about its own record's decision on a key.
type Verb int

// What there is to do.
const (
	Keep      Verb = iota // nothing: what the record says, or does not say, is right
	Republish             // say what another node's record says, which counts, in a higher term
	Withdraw              // take it out of the record: what another says counts, and is seen
)

func (v Verb) String() string { return [...]string{"keep", "republish", "withdraw"}[v] }

// TakeOver is what node me is to do about its own decision on a key, given what
// all records say and who is the steward. To republish, it publishes the
// decision that is returned (its stamp is the entry's, as it is published),
// with the object as the settled decision's record has it: same UID, same
// binding. Only then does the steward decide anew.
//
// A steward makes its term higher than any. A node that is not the steward
// withdraws what it says in a lower term than the settled one, and keeps all
// else: of two nodes that see different things, never both withdraw, since what
// a node itself says only grows. So a key has one decision once nothing changes,
// and nothing that was decided is lost with a node.
func TakeOver(me, steward string, decisions []Decision, admitted map[Binding]bool) (Verb, Decision) {
	settled, any := Settle(decisions, admitted)
	if !any {
		return Keep, Decision{}
	}
	ahead := func(d Decision) bool { return d.Steward != me && d.Term >= settled.Term }
	withdrawn := func(d Decision) bool { return d.Steward == me && d.Term < settled.Term }
	switch {
	case steward == me && slices.ContainsFunc(decisions, ahead):
		return Republish, Decision{Steward: me, Term: Term(decisions), UID: settled.UID, Node: settled.Node}
	case steward != me && slices.ContainsFunc(decisions, withdrawn):
		return Withdraw, Decision{}
	}
	return Keep, Decision{}
}

// Term is the term of what a steward decides after these decisions of others
// and itself, when it takes over: one more than any. While its own decision is
// the settled one, it goes on in that one's term.
func Term(decisions []Decision) uint64 {
	var highest uint64
	for _, d := range decisions {
		highest = max(highest, d.Term)
	}
	return highest + 1
}

// Ended says whether a steward that has ended an object and wants to forget it
// must keep saying so (a decision without a UID, in Term): while another node's
// record still has a decision on the key, forgetting would bring that one back.
func Ended(me string, decisions []Decision) bool {
	return slices.ContainsFunc(decisions, func(d Decision) bool { return d.Steward != me && d.UID != "" })
}
