package lease

import "time"

// phase is where a lease process is.
type phase int

const (
	out     phase = iota // no epoch: nothing exclusive may run
	holding              // until the deadline
	leaving              // it still holds, and its pods are being stopped
	gone                 // nothing runs any more, and the witnesses are told so
)

// Node is the state of a host's lease process. It is a value: each step makes
// the next one. A process that is started anew begins with NewNode.
type Node struct {
	budget  *Budget
	name    string
	session string

	phase    phase
	epoch    uint64
	deadline time.Duration // when the lease process kills
	ends     time.Duration // leaving: when pods that do not stop are killed
	lost     time.Duration // since when it has no epoch; names the loss
	asked    time.Duration // out: the first registration since the loss; 0: none
	sent     time.Duration // the last message
}

// Sight is what a lease process sees of its host. Times are by CLOCK_BOOTTIME,
// which counts sleep and is set by nobody.
type Sight struct {
	Now       time.Duration
	Populated bool          // processes are below the exclusive slice
	Frozen    bool          // the exclusive slice is frozen: what is started in it late runs no instruction
	Daemon    time.Duration // when the daemon last answered; 0: never
	// Cleared is the Loss that the daemon last said it is done with: it starts
	// nothing for an epoch of before, and mounts of those are gone.
	Cleared time.Duration
	Stop    bool // this host is to hand its work over: it shuts down, or is drained
}

// Wish is what is to be done, whole: doing it twice changes nothing.
type Wish struct {
	// Shut is that the exclusive slice is to be frozen and all in it killed. Frozen,
	// since a process that is started late must not run either. Otherwise it is to
	// be thawed.
	Shut     bool
	StopPods bool          // they are to be stopped in an orderly way
	Ping     bool          // systemd's watchdog
	Send     *Request      // to the witnesses' leader
	Epoch    uint64        // pods may be started that claimed at this epoch; 0: none may
	Loss     time.Duration // what the daemon is to clear
	Again    time.Duration // when to look again, at the latest
}

// Request is what a node sends to the leader to get or keep its lease.
type Request struct {
	Do Verb // Register, Resign, or "" to renew
	Renewal
	Lease time.Duration
}

// NewNode is a lease process that starts. Session is random, from a file in /run:
// the same for all lease processes between two boots of the host.
func NewNode(b *Budget, name, session string, now time.Duration) Node {
	return Node{budget: b, name: name, session: session, lost: now}
}

// Look decides what to do now.
func (n Node) Look(s Sight) (Node, Wish) {
	n = n.move(s)
	w := Wish{Loss: n.lost, Again: s.Now + n.budget.Renew}
	switch n.phase {
	case out:
		w.Shut, w.Ping = true, true
		// Whoever asks says that nothing of an earlier epoch runs here, nor ever will.
		if s.Frozen && !s.Populated && s.Cleared == n.lost && !s.Stop && n.daemonLives(s) {
			w.Send = n.request(Register, s.Now)
		}
	case holding, leaving:
		w.Ping = true
		w.StopPods = n.phase == leaving
		w.Send = n.request("", s.Now)
		if n.phase == holding {
			w.Epoch = n.epoch
		} else {
			w.Again = min(w.Again, n.ends)
		}
		w.Again = min(w.Again, n.deadline)
	case gone:
		w.Shut, w.Ping = true, true
		if s.Frozen && !s.Populated {
			w.Send = n.request(Resign, s.Now)
		}
	}
	return n, w
}

// move changes the phase as time and the host demand it.
func (n Node) move(s Sight) Node {
	held := n.phase == holding || n.phase == leaving || n.phase == gone
	if held && s.Now >= n.deadline {
		return n.lose(s.Now)
	}
	if n.phase == holding && (s.Stop || !n.daemonLives(s)) {
		n.phase, n.ends = leaving, s.Now+n.budget.HandOver
	}
	if n.phase == leaving && !s.Populated {
		n.phase = gone
	}
	if n.phase == leaving && s.Now >= n.ends {
		return n.lose(s.Now) // its lease runs out, nobody is told to take over before
	}
	return n
}

func (n Node) daemonLives(s Sight) bool {
	return s.Daemon != 0 && s.Now-s.Daemon < n.budget.Grace
}

func (n Node) lose(now time.Duration) Node {
	n.phase, n.epoch, n.deadline, n.asked, n.lost = out, 0, 0, 0, now
	return n
}

// request is a message, if it is time for one.
func (n Node) request(do Verb, now time.Duration) *Request {
	if n.sent != 0 && now < n.sent+n.budget.Renew {
		return nil
	}
	return &Request{Do: do, Renewal: Renewal{Node: n.name, Session: n.session, Epoch: n.epoch, Sent: now}, Lease: n.budget.Lease}
}

// Sent takes note of a request before it is on its way: what the answer
// grants counts from its Sent.
func (n Node) Sent(r Request) Node {
	n.sent = r.Sent
	if r.Do == Register && n.asked == 0 {
		n.asked = r.Sent
	}
	return n
}

// Hear takes an answer that came in. Sight is of now, not of when it was asked.
func (n Node) Hear(do Verb, a Answer, s Sight) Node {
	n = n.move(s)
	if a.Session != n.session || a.Sent > s.Now {
		return n
	}
	switch {
	case do == Register && n.phase == out:
		// An answer to what was asked before the loss grants what was lost.
		if a.Refused == Granted && n.asked != 0 && a.Sent >= n.asked && !s.Populated {
			return n.hold(a, s.Now)
		}
	case do == Resign && n.phase == gone && a.Epoch == n.epoch:
		return n.lose(s.Now)
	case do == "" && n.epoch != 0 && a.Epoch == n.epoch && a.Refused == Over:
		return n.lose(s.Now)
	case do == "" && n.epoch != 0 && a.Epoch == n.epoch && a.Refused == Granted:
		n.deadline = max(n.deadline, a.Sent+n.length(a))
	}
	return n
}

func (n Node) hold(a Answer, now time.Duration) Node {
	deadline := a.Sent + n.length(a)
	if now >= deadline {
		return n
	}
	n.phase, n.epoch, n.deadline, n.asked = holding, a.Epoch, deadline, 0
	return n
}

// length is how long after sending this process kills: earlier where the epoch
// was registered, by an earlier version, with a shorter lease.
func (n Node) length(a Answer) time.Duration {
	return n.budget.Deadline - max(0, n.budget.Lease-a.Lease)
}

// Deadline is when the lease process kills; 0 is that there is no lease.
func (n Node) Deadline() time.Duration { return n.deadline }
