package lease

import (
	"slices"
	"time"
)

// An action leads from one world to another. The first part of its name is who
// does it: "fair" runs choose by it.
type action struct {
	name string
	host int // -1: no host's
	to   world
}

// next are all worlds that can follow.
func (m *model) next(w world) []action {
	var all []action
	do := func(name string, host int, change func(*world)) {
		to := w
		change(&to)
		for i := range to.hosts {
			if to.hosts[i] != w.hosts[i] || to.t != w.t {
				m.settle(&to, i)
			}
		}
		for i, h := range to.hosts {
			if h.pod.token > to.tokens && !h.frozen && !h.asleep {
				to.tokens, to.last = h.pod.token, int8(i)
			}
		}
		if to != w {
			all = append(all, action{name, host, to})
		}
	}
	m.witnesses(w, do)
	m.network(w, do)
	for i := range w.hosts {
		m.host(w, i, do)
	}
	if w.t < m.bounds.ticks && m.mayTick(w) {
		do("tick", -1, func(w *world) { m.shutQuick(w); w.t++; m.prune(w) })
	}
	return all
}

// shutQuick is what the kernel does on quick hosts: as late as it may.
func (m *model) shutQuick(w *world) {
	for i := int(m.bounds.slow); i < len(w.hosts); i++ {
		if h := *w.hosts[i]; h.kill != noTicks && w.t+1 >= h.kill && m.fault != noKill && !h.asleep {
			h.pod, h.frozen, h.kill = pod{}, true, noTicks
			w.hosts[i] = m.canonHost(h)
		}
	}
}

// prune forgets answers that grant nothing any more, whenever they come.
func (m *model) prune(w *world) {
	net := slices.DeleteFunc(slices.Clone(*w.net), func(p packet) bool {
		return p.to >= 0 && p.cmd.Do == "" && p.req.Do != Resign && p.ans.Refused == Granted && m.fault == none && m.clock(w, p.to) >= p.ans.Sent+budgeted.Deadline
	})
	w.net = m.canonNet(net)
}

type doer = func(name string, host int, change func(*world))

// mayTick is whether nothing has to happen before the next tick: time waits for no process, but for the
// kernel's and systemd's promises it does here.
func (m *model) mayTick(w world) bool {
	for i, h := range w.hosts {
		switch {
		case h.asleep || i >= int(m.bounds.slow) && !h.paused:
		case h.kill != noTicks && w.t+1 >= h.kill && m.fault != noKill:
			return false
		case h.paused && w.t+1 >= h.pinged+1 && m.fault != noWatchdog:
			return false
		}
	}
	return true
}

func (m *model) witnesses(w world, do doer) {
	p := w.leader
	now := m.leadClock(&w)
	ready := w.procs[p].l != nil
	if !ready && (len(*w.log) == 0 || m.fault == noBarrier) {
		do("lead", -1, func(w *world) {
			since := now
			if m.fault == noWait {
				since = -1000 * tick
			}
			w.procs[p] = proc{m.canonLeader(Lead(*m.times, w.term, since)), w.committed, w.procs[p].calls}
		})
	}
	if len(*w.log) > 0 {
		do("commit", -1, func(w *world) { m.commit(w) })
	}
	if ready {
		l := w.procs[p].l.clone()
		if due, _ := l.Due(w.procs[p].view, now); len(due) > 0 {
			do("due", -1, func(w *world) {
				if m.fault != renewsFenced {
					w.procs[p].l = m.canonLeader(l)
				}
				calls := slices.Clone(*w.procs[p].calls)
				for _, c := range due {
					if !slices.Contains(calls, c) && !slices.ContainsFunc(*w.log, func(e entryIn) bool { return e.cmd == c }) {
						calls = append(calls, c)
					}
				}
				if len(*w.log) == 0 && w.left.elections+w.left.recovers == 0 { // nobody else will lead: nothing can come between
					for _, c := range calls {
						m.propose(w, entryIn{cmd: c, host: -1})
					}
					calls = nil
				}
				w.procs[p].calls = m.canonCalls(calls)
			})
		}
	}
	if calls := *w.procs[p].calls; len(calls) > 0 && len(*w.log) < maxLog {
		do("propose", -1, func(w *world) {
			w.procs[p].calls = m.canonCalls(slices.Clone(calls[1:]))
			m.propose(w, entryIn{cmd: calls[0], host: -1})
		})
	}
	if w.left.elections > 0 {
		for q := range w.procs {
			for keep := range len(*w.log) + 1 {
				do("elect", -1, func(w *world) { m.elect(w, q, keep) })
			}
		}
	}
	if w.left.recovers > 0 {
		if w.old == nil {
			do("left behind", -1, func(w *world) { w.old = w.committed })
		} else if m.fault == lostDisk {
			do("disk lost", -1, func(w *world) { w.left.recovers--; w.committed = w.old; m.elect(w, 1-int(w.leader), 0) })
		} else {
			do("recover", -1, func(w *world) { m.recover(w) })
		}
	}
}

func (m *model) elect(w *world, q, keep int) {
	w.left.elections--
	if w.procs[w.leader].l != nil && (m.fault != noConfirm || q == int(w.leader)) {
		w.procs[w.leader].l, w.procs[w.leader].view = nil, nil // it may answer, but nobody confirms
	}
	w.term++
	w.leader = int8(q)
	w.procs[q].l, w.procs[q].view = nil, nil
	w.log = m.canonLog(slices.Clone((*w.log)[:keep]))
}

func (m *model) recover(w *world) {
	w.left.recovers--
	s := w.old.Clone()
	count := s.Count
	s.Recover()
	if m.fault == recoversAtOnce {
		s.Closed = false
	}
	if m.fault == recoversNumbers {
		s.Count = count
	}
	w.committed, w.term, w.leader, w.log = m.canonState(s), w.term+1, 0, m.canonLog(nil)
	for i := range w.procs {
		w.procs[i] = proc{calls: m.canonCalls(nil)}
	}
}

func (m *model) propose(w *world, e entryIn) {
	e.term = w.term
	for _, other := range *w.log {
		if other.cmd == e.cmd {
			return
		}
	}
	w.log = m.canonLog(append(slices.Clone(*w.log), e))
	// What is in the log is as good as a message that has not come, where nobody can take the log's end away.
	if w.left.elections+w.left.recovers == 0 && len(*w.log) == 1 && e.cmd.Do != Fence && w.procs[w.leader].l != nil {
		m.commit(w)
	}
}

func (m *model) commit(w *world) {
	e := (*w.log)[0]
	w.log = m.canonLog(slices.Clone((*w.log)[1:]))
	s := w.committed.Clone()
	c := e.cmd
	switch {
	case m.fault == oldTermFence && c.Do == Fence:
		c.Term = e.term
	case m.fault == anyToken && c.Do == Release:
		if holder, held := s.Holder(c.Key); held {
			c.Token = holder.Token
		}
	case m.fault == takesHeld && c.Do == Acquire:
		delete(s.Claims, c.Key)
	case m.fault == tryIgnored && c.Do == Acquire:
		if old := s.Claims[c.Key]; old.Node == c.Node && old.Epoch == c.Epoch {
			c.Try = old.Try
		}
	}
	out := s.Apply(e.term, c)
	w.committed = m.canonState(s)
	p := &w.procs[w.leader]
	if p.l == nil {
		return // whoever asked, asked the last leader
	}
	p.view = w.committed
	switch {
	case e.host < 0 || e.term != w.term:
	case c.Do == Register && out.Refused == Granted:
		r := e.req.Renewal
		r.Epoch = out.Epoch.Number
		m.answer(w, int(w.leader), e.host, Register, r, e.received)
	case c.Do == Resign:
		m.send(w, packet{to: e.host, req: Request{Do: Resign}, ans: Answer{Session: e.req.Session, Sent: e.req.Sent, Epoch: c.Epoch}})
	case c.Do == Acquire && out.Refused == Granted:
		m.send(w, packet{to: e.host, cmd: e.cmd, out: out})
	}
}

// answer is a renewal's, by process p.
func (m *model) answer(w *world, p, to int, do Verb, r Renewal, received time.Duration) {
	l := w.procs[p].l.clone()
	a := l.Renew(w.procs[p].view, r, received)
	w.procs[p].l = m.canonLeader(l)
	if m.fault == anySession {
		a.Session = w.hosts[to].node.session
	}
	m.send(w, packet{to: to, req: Request{Do: do}, ans: a})
}

func (m *model) send(w *world, p packet) {
	if !slices.Contains(*w.net, p) {
		w.net = m.canonNet(append(slices.Clone(*w.net), p))
	}
}

func (m *model) network(w world, do doer) {
	comes := func(name string, p packet, host int, change func(*world)) {
		to := w
		if change(&to); to == w {
			return // it is of no use any more
		}
		do(name, host, func(w *world) { m.taken(w, p); change(w) })
		if w.left.dups > 0 {
			do(name+" again", host, func(w *world) { w.left.dups--; change(w) })
		}
	}
	for _, p := range *w.net {
		if p.to >= 0 {
			if h := w.hosts[p.to]; !h.paused && !h.asleep {
				comes("hear", p, p.to, func(w *world) { m.hear(w, p) })
			}
			continue
		}
		for q, proc := range w.procs {
			if proc.l != nil && len(*w.log) < maxLog {
				comes("ask", p, p.from, func(w *world) { m.ask(w, p, q) })
			}
		}
	}
}

// say sends a host's message. That of a quick host, and the answer, come at once.
func (m *model) say(w *world, p packet) {
	if p.from < int(m.bounds.slow) {
		m.send(w, p)
		return
	}
	if w.procs[w.leader].l == nil || len(*w.log) >= maxLog {
		return
	}
	before := *w.net
	m.ask(w, p, int(w.leader))
	for len(*w.log) > 0 {
		m.commit(w)
	}
	for _, answer := range *w.net {
		if answer.to == p.from && !slices.Contains(before, answer) {
			m.taken(w, answer)
			m.hear(w, answer)
		}
	}
	if h := *w.hosts[p.from]; p.cmd.Do == Acquire && h.know.May(h.node.epoch) {
		h.pod = pod{h.know.Epoch, h.know.Token}
		w.hosts[p.from] = m.canonHost(h)
	}
}

// taken is the message out of the network.
func (m *model) taken(w *world, p packet) {
	w.net = m.canonNet(slices.DeleteFunc(slices.Clone(*w.net), func(other packet) bool { return other == p }))
}

// ask brings a message to a process that leads, or believes so.
func (m *model) ask(w *world, p packet, q int) {
	now := m.leadClock(w)
	if p.cmd.Do != "" {
		if q == int(w.leader) {
			m.propose(w, entryIn{cmd: p.cmd, host: p.from})
		}
		return
	}
	r := p.req
	view := w.procs[q].view
	if m.fault == anySession {
		r.Session = view.Epochs[r.Node].Session
		if r.Session == "" {
			r.Session = p.req.Session
		}
	}
	e, known := view.Epochs[r.Node]
	switch {
	case r.Do == "":
		m.answer(w, q, p.from, "", r.Renewal, now)
	case r.Do == Register && known && !e.Over && e.Session == r.Session:
		r.Epoch = e.Number
		m.answer(w, q, p.from, Register, r.Renewal, now)
	case q != int(w.leader):
	case r.Do == Register:
		l := w.procs[q].l.clone()
		l.Hear(r.Node, r.Session, now)
		w.procs[q].l = m.canonLeader(l)
		lease := r.Lease
		if m.fault == shortLease {
			lease -= tick
		}
		m.propose(w, entryIn{cmd: Command{Do: Register, Node: r.Node, Session: r.Session, Lease: lease}, host: p.from, req: r, received: now})
	case r.Do == Resign:
		m.propose(w, entryIn{cmd: Command{Do: Resign, Node: r.Node, Epoch: r.Epoch}, host: p.from, req: r})
	}
}

// hear brings an answer to its host.
func (m *model) hear(w *world, p packet) {
	h := *w.hosts[p.to]
	if p.cmd.Do == Acquire {
		h.know = h.know.Hear(h.node.name, p.cmd.Try, p.out)
	} else {
		a := p.ans
		switch m.fault {
		case fromReception:
			a.Sent = m.clock(w, p.to)
		case shortLease:
			a.Lease = budgeted.Lease
		case loseLateAnswers:
			h.node.asked = 1
		}
		h.node = h.node.Hear(p.req.Do, a, m.sight(w, p.to))
	}
	w.hosts[p.to] = m.canonHost(h)
}

// host is what may happen on one host.
func (m *model) host(w world, i int, do doer) {
	h := *w.hosts[i]
	set := func(name string, change func(h *host)) {
		do(name, i, func(w *world) {
			h := h
			change(&h)
			w.hosts[i] = m.canonHost(h)
		})
	}
	if h.asleep {
		set("wake", func(h *host) { h.asleep = false })
		return
	}
	if h.kill != noTicks && m.fault != noKill && i < int(m.bounds.slow) {
		set("shut", func(h *host) { h.pod, h.frozen, h.kill = pod{}, true, noTicks })
	}
	if h.flight.token != 0 {
		set("started", func(h *host) {
			h.pod, h.flight = h.flight, pod{}
			if m.fault == noFreeze {
				h.frozen = false
			}
		})
	}
	victim := i < int(m.bounds.victims)
	if w.left.reboots > 0 && victim {
		do("reboot", i, func(w *world) {
			w.left.reboots--
			n := host{frozen: true, kill: noTicks, boots: h.boots + 1, sends: h.sends, claims: h.claims}
			n.node = NewNode(m.times, m.names[i], m.session(i, n.boots), m.clock(w, i))
			w.hosts[i] = m.canonHost(n)
		})
	}
	if m.fault == pausedMachine && w.left.pauses > 0 && victim {
		do("sleep", i, func(w *world) { w.left.pauses--; h := h; h.asleep = true; w.hosts[i] = m.canonHost(h) })
	}
	if h.paused {
		set("resume", func(h *host) { h.paused = false })
		if m.fault != noWatchdog {
			set("watchdog", func(h *host) {
				h.paused, h.kill = false, w.t+2 // it fires at any time until the next tick
				h.node = NewNode(m.times, m.names[i], h.node.session, m.clock(&w, i))
			})
		}
		return
	}
	if w.left.pauses > 0 && m.fault != pausedMachine && victim {
		do("pause", i, func(w *world) { w.left.pauses--; h := h; h.paused = true; w.hosts[i] = m.canonHost(h) })
	}
	if w.left.handovers > 0 && h.stop {
		do("take back", i, func(w *world) { w.left.handovers--; h := h; h.stop = false; w.hosts[i] = m.canonHost(h) })
	} else if w.left.handovers > 0 && victim {
		do("hand over", i, func(w *world) { w.left.handovers--; h := h; h.stop = true; w.hosts[i] = m.canonHost(h) })
	}
	if i >= int(m.bounds.slow) {
		m.quick(w, i, do)
		return
	}
	m.lives(w, i, set, do)
	m.daemon(w, i, set, do)
}

// quick is a host that does nothing until it is granted all that it needs, and
// then all at once: what it asks for in vain changes nothing for others.
func (m *model) quick(w world, i int, do doer) {
	to := w
	if h := to.hosts[i]; h.claims == 0 || h.pod.token != 0 || to.procs[to.leader].l == nil {
		return
	}
	h := *to.hosts[i]
	h.claims--
	if wish := m.look(&to, i); wish.Send != nil {
		h.node = h.node.Sent(*wish.Send)
		to.hosts[i] = m.canonHost(h)
		m.say(&to, packet{to: -1, from: i, req: *wish.Send})
		m.settle(&to, i)
	}
	epoch := m.look(&to, i).Epoch
	if epoch == 0 {
		return
	}
	h = *to.hosts[i]
	h.know = h.know.Ask(0, epoch)
	to.hosts[i] = m.canonHost(h)
	m.say(&to, packet{to: -1, from: i, cmd: Command{Do: Acquire, Node: m.names[i], Epoch: epoch, Key: key, Try: h.know.Try}})
	if to.hosts[i].pod.token != 0 {
		do("take over", i, func(w *world) { *w = to })
	}
}

// lives is what a lease process does that is not paused.
func (m *model) lives(w world, i int, set func(string, func(*host)), do doer) {
	wish := m.look(&w, i)
	h := w.hosts[i]
	if m.fault == resignsEarly && h.node.phase == leaving {
		wish.Send = h.node.request(Resign, m.clock(&w, i))
	}
	if wish.Send != nil && h.sends > 0 {
		do("send", i, func(w *world) {
			h := *h
			h.node, h.sends = h.node.Sent(*wish.Send), h.sends-1
			w.hosts[i] = m.canonHost(h)
			m.say(w, packet{to: -1, from: i, req: *wish.Send})
		})
	}
	if wish.StopPods && h.pod.token != 0 {
		set("stopped", func(h *host) { h.pod = pod{} })
	}
}

// daemon is what the host's daemon does: it wants the one pod to run here.
func (m *model) daemon(w world, i int, set func(string, func(*host)), do doer) {
	h := *w.hosts[i]
	epoch := m.look(&w, i).Epoch
	if epoch == 0 {
		return
	}
	free := h.pod.token == 0 && h.flight.token == 0
	if h.know.May(epoch) {
		if free {
			if w.left.flights > 0 && i < int(m.bounds.victims) {
				do("start", i, func(w *world) {
					w.left.flights--
					h := h
					h.flight = pod{h.know.Epoch, h.know.Token}
					w.hosts[i] = m.canonHost(h)
				})
			}
			set("start at once", func(h *host) { h.pod = pod{h.know.Epoch, h.know.Token} })
		}
		if h.pod.token != 0 && w.left.stops > 0 && i < int(m.bounds.victims) {
			do("release", i, func(w *world) {
				w.left.stops--
				h := h
				if m.fault != releasesEarly {
					h.pod = pod{}
				}
				release := packet{to: -1, from: i, cmd: Command{Do: Release, Node: m.names[i], Epoch: epoch, Key: key, Token: h.know.Token}}
				if h.know = h.know.Drop(); m.fault == heldAgain {
					h.know.Try--
				}
				w.hosts[i] = m.canonHost(h)
				m.say(w, release)
			})
		}
	} else if free && h.claims > 0 {
		do("claim", i, func(w *world) {
			h := h
			h.know = h.know.Ask(0, epoch) // the smallest numbers that are right
			h.claims--
			w.hosts[i] = m.canonHost(h)
			m.say(w, packet{to: -1, from: i, cmd: Command{Do: Acquire, Node: m.names[i], Epoch: epoch, Key: key, Try: h.know.Try}})
		})
	}
}
