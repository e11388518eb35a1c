// Package exclusive decides what this node's exclusive pods have to wait for,
// and what is to be asked of the witnesses for them (docs/lease.md). Nothing here
// asks, and clocks are passed in.
package exclusive

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/shoal-project/shoal/daemon/lease"
)

// PodKey is what the pods with that identity claim. Keys are of all the cluster;
// what else is claimed begins with another word.
func PodKey(namespace, identity string) string { return "pod/" + namespace + "/" + identity }

// Standing is how this host's lease stands. The zero value is that nobody knows.
type Standing struct {
	Epoch    uint64        // at which pods may be started; 0: none may
	Deadline time.Duration // by CLOCK_BOOTTIME, until when
	Loss     time.Duration // names what was lost last; 0: nothing is known
	Problem  string        // why there is no epoch, in words
}

// Leave is leave to run. It is over when the host's lease is lost.
type Leave struct {
	Key   string        `json:"key"`
	Epoch uint64        `json:"epoch"`
	Token uint64        `json:"token"` // the fencing token
	Try   uint64        `json:"try"`
	Loss  time.Duration `json:"loss"` // the last one before
}

// Good is whether pods may be started by a leave.
func (s Standing) Good(l Leave, now time.Duration) bool {
	return s.Epoch != 0 && s.Epoch == l.Epoch && s.Loss == l.Loss && now < s.Deadline
}

// Lost is whether all that was started by a leave is killed, or about to be. Not
// good and not lost is a pod that runs on, or is being stopped with its grace.
func (s Standing) Lost(l Leave) bool { return s.Loss != 0 && s.Loss != l.Loss }

// Why says why a pod waits.
type Why string

// Reasons of the condition shoal.io/Exclusive while a pod waits.
const (
	NoLease    Why = "NoLease"    // the host has no lease
	Asking     Why = "Asking"     // the witnesses are being asked
	NoAnswer   Why = "NoAnswer"   // they do not answer
	Refused    Why = "Refused"    // they refuse it
	HeldByNode Why = "HeldByNode" // another node holds it, or another pod on this one
)

// Wait is what a pod waits for.
type Wait struct {
	Why     Why
	Message string
}

// again is how long after an answer the same is asked again; the leader of the
// witnesses refuses what is held without an entry in the log.
const again = time.Second

// Table is the claims of this node's pods, by key.
type Table struct {
	node string
	rows map[string]*row
}

// row is one claim.
type row struct {
	hold lease.Hold
	loss time.Duration // the last one before it was asked for
	pod  string        // whose it is or will be; "": nobody's any more
	next []string      // who waits for that pod, the first one first

	asked     bool          // the witnesses may have granted it: they were asked
	releasing uint64        // the token that is being given back; 0: none
	busy      bool          // a question is under way
	due       time.Duration // when to ask again
	refused   lease.Refusal
	holder    lease.Claim // of whom they said last that he holds it
	failed    string      // why they did not answer
}

// NewTable is for a node.
func NewTable(node string) *Table { return &Table{node: node, rows: make(map[string]*row)} }

// Restore takes up a pod that runs by a leave, before others want its key. Of two
// leaves for one key the older one's pod has ended.
func (t *Table) Restore(pod string, l Leave) {
	if r := t.rows[l.Key]; r != nil && r.hold.Token > l.Token {
		return
	}
	t.rows[l.Key] = &row{pod: pod, asked: true, loss: l.Loss, hold: lease.Hold{Epoch: l.Epoch, Try: l.Try, Token: l.Token}}
}

// Want notes that a pod waits for its key, or goes on to hold it, and says
// whether that is new.
func (t *Table) Want(key, pod string) bool {
	r := t.rows[key]
	if r == nil {
		r = &row{pod: pod}
		t.rows[key] = r
		return true
	}
	if r.pod == pod || slices.Contains(r.next, pod) {
		return false
	}
	r.next = append(r.next, pod)
	return true
}

// Done notes that nothing of a pod runs, and that it wants its key no more, and
// says whether that changes whose it is.
func (t *Table) Done(key, pod string) bool {
	r := t.rows[key]
	if r == nil {
		return false
	}
	r.next = slices.DeleteFunc(r.next, func(p string) bool { return p == pod })
	if r.pod != pod {
		return false
	}
	r.pod, r.due = "", 0
	return true
}

// Look is what to ask the witnesses now, and when to look again at the latest.
func (t *Table) Look(s Standing, now time.Duration) (ask []lease.Command, wake time.Duration) {
	wake = now + time.Minute
	for _, key := range slices.Sorted(maps.Keys(t.rows)) {
		r := t.rows[key]
		if s.Epoch != 0 && !r.busy {
			r.follow(s)
		}
		if r.pod == "" && !r.asked && r.releasing == 0 && !r.busy && !r.pass() {
			delete(t.rows, key)
			continue
		}
		c, any := r.question(key, t.node, s, now)
		switch {
		case !any:
		case now < r.due:
			wake = min(wake, r.due)
		default:
			r.busy = true
			ask = append(ask, c)
		}
	}
	return ask, wake
}

// pass gives a claim that nobody has to who waits for it.
func (r *row) pass() bool {
	if len(r.next) == 0 {
		return false
	}
	r.pod, r.next, r.due = r.next[0], r.next[1:], 0
	return true
}

// follow gives up what was granted before the last loss. Where the epoch is still
// the same, since the lease process alone was started anew, the claim is in force:
// who has it asks for a larger token, and nobody's is still to be given back.
func (r *row) follow(s Standing) {
	if r.hold.Epoch == s.Epoch && (r.loss == s.Loss || r.pod == "") {
		return
	}
	r.hold, r.loss = lease.Hold{Try: r.hold.Try}, s.Loss
	r.asked, r.releasing, r.due, r.refused, r.failed = false, 0, 0, "", ""
}

// question is what is to be asked of the witnesses about a claim.
func (r *row) question(key, node string, s Standing, now time.Duration) (c lease.Command, any bool) {
	if s.Epoch == 0 || r.busy {
		return c, false
	}
	c = lease.Command{Node: node, Epoch: s.Epoch, Key: key}
	switch {
	case r.releasing != 0:
		c.Do, c.Token = lease.Release, r.releasing
	case r.hold.Token != 0 && r.pod != "":
		return c, false
	case r.hold.Token != 0:
		r.releasing = r.hold.Token
		r.hold = r.hold.Drop()
		c.Do, c.Token = lease.Release, r.releasing
	case r.pod == "" && !r.asked:
		return c, false
	default:
		// Also for nobody, with the try of before: the witnesses may have granted it,
		// and only who knows the token can give it back.
		if !r.asked && now >= r.due {
			r.hold, r.asked = r.hold.Ask(now, s.Epoch), true
		}
		c.Do, c.Try = lease.Acquire, r.hold.Try
	}
	return c, true
}

// Hear takes the witnesses' answer, or that none came.
func (t *Table) Hear(c lease.Command, out lease.Outcome, err error, now time.Duration) {
	r := t.rows[c.Key]
	if r == nil {
		return
	}
	r.busy, r.failed = false, ""
	if r.due = now + again; err != nil {
		r.failed = err.Error()
		return
	}
	if c.Do == lease.Release {
		// Late and Over are that it is not held so any more.
		r.asked, r.releasing, r.due = false, 0, 0
		return
	}
	r.refused, r.holder = out.Refused, out.Holder
	if c.Epoch != r.hold.Epoch || c.Try != r.hold.Try {
		return
	}
	if out.Refused != lease.Granted {
		r.asked = false // nothing was granted by it, nor will be
		return
	}
	r.hold = r.hold.Hear(t.node, c.Try, out)
	r.due = 0
}

// Held is the leave that a pod has, if it has one.
func (t *Table) Held(key, pod string, s Standing, now time.Duration) (Leave, bool) {
	r := t.rows[key]
	if r == nil || r.pod != pod || r.loss != s.Loss || !r.hold.May(s.Epoch) {
		return Leave{}, false
	}
	l := Leave{Key: key, Epoch: r.hold.Epoch, Token: r.hold.Token, Try: r.hold.Try, Loss: s.Loss}
	return l, s.Good(l, now)
}

// Waits is why a pod has no leave.
func (t *Table) Waits(key, pod string, s Standing) Wait {
	r := t.rows[key]
	switch {
	case s.Epoch == 0:
		return Wait{NoLease, "this host has no lease: " + cmp.Or(s.Problem, "the witnesses have given it none yet")}
	case r == nil:
		return Wait{Asking, "the witnesses are about to be asked"}
	case r.pod != pod && r.pod != "":
		return Wait{HeldByNode, "another pod on this node has it"}
	case r.failed != "":
		return Wait{NoAnswer, "the witnesses do not answer: " + r.failed}
	case r.refused == lease.Held && r.holder.Node != "":
		return Wait{HeldByNode, fmt.Sprintf("node %s holds it at epoch %d, until it is released there or that node's lease has run out", r.holder.Node, r.holder.Epoch)}
	case r.refused != lease.Granted:
		return Wait{Refused, "the witnesses refuse it: " + string(r.refused)}
	}
	return Wait{Asking, "the witnesses have been asked"}
}

// Stray is what gives back a claim that the witnesses say this node holds and no
// pod of it wants: a daemon was killed between its wish and the answer.
func (t *Table) Stray(key string, c lease.Claim) (lease.Command, bool) {
	if c.Node != t.node || c.Free || t.rows[key] != nil {
		return lease.Command{}, false
	}
	return lease.Command{Do: lease.Release, Node: t.node, Epoch: c.Epoch, Key: key, Token: c.Token}, true
}
