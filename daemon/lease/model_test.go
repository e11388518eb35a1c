package lease

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// The model: two hosts, two witness processes that may lead, and all that can
// befall them. State, Leader and Node are the code that ships; raft, the
// network, the daemon, systemd and the kernel are what their documentation
// promises, with every choice left open. A world is a value of comparable parts
// that are made unique (canon), so that the search can hash and compare it.
//
// A tick is 15 s by a perfect clock. A lease is four of them, the deadline two,
// the watchdog one, a kill one: what the budget sums up, with nothing to spare.
const (
	tick    = 15 * time.Second
	key     = "default/db-0"
	maxLog  = 2
	noTicks = 99
)

var budgeted = Budget{Renew: tick, Deadline: 2 * tick, Watchdog: tick, Kill: tick, Lease: 4 * tick, HandOver: tick, Grace: 1000 * tick}

// fault is what a mutant of the protocol leaves out.
type fault string

const (
	none            fault = ""
	noWait          fault = "a new leader does not wait a lease"
	noBarrier       fault = "a new leader serves before its barrier"
	noConfirm       fault = "answers are not confirmed by a majority"
	oldTermFence    fault = "a fence of an older term counts"
	renewsFenced    fault = "a lease is renewed after its fence was proposed"
	fromReception   fault = "the node counts from when the answer came"
	shortLease      fault = "the lease is shorter than deadline, watchdog and kill"
	noDrift         fault = "the leader trusts in equal clocks"
	noWatchdog      fault = "nobody minds a lease process that hangs"
	noKill          fault = "a missed deadline kills nothing"
	noFreeze        fault = "what is started late runs"
	noClear         fault = "a node registers before its daemon let go of the old epoch"
	resignsEarly    fault = "a node resigns while its pods run"
	anySession      fault = "any session may use the node's epoch"
	anyToken        fault = "a release does not name its token"
	releasesEarly   fault = "a claim is released while its pod runs"
	takesHeld       fault = "a claim is no compare-and-set"
	lostDisk        fault = "a witness with a new disk votes as the old one"
	recoversAtOnce  fault = "a recovery grants at once"
	recoversNumbers fault = "a recovery gives numbers away again"
	pausedMachine   fault = "a machine is paused and resumed" // no fault of ours: the limit that DESIGN names
	loseLateAnswers fault = "an answer from before a loss grants"
	tryIgnored      fault = "a claim that comes late counts as the latest"
	heldAgain       fault = "an answer to a claim that was released counts"
)

// bounds are how much may happen in one search.
type bounds struct {
	ticks     int8 // that pass
	elections int8
	pauses    int8 // of lease processes
	reboots   int8
	handovers int8
	recovers  int8
	dups      int8    // messages that come and will come again
	flights   int8    // starts of pods that take time
	stops     int8    // of pods, by their daemon
	sends     [2]int8 // messages of the lease processes
	claims    [2]int8 // of the daemons
	victims   int8    // the hosts that what is counted above befalls: those below it
	slow      int8    // the hosts whose messages take time: those below it. Others' come at once, or are lost
}

type model struct {
	fault  fault
	names  [2]string
	rates  [2]int // of the hosts' clocks, in percent; the leaders' run at leadRate
	lead   int
	bounds bounds
	times  *Budget

	states  map[string]*State
	leaders map[string]*Leader
	hosts   map[host]*host
	nets    map[string]*[]packet
	logs    map[string]*[]entryIn
	calls   map[string]*[]Command
	ids     map[any]int
}

// world is all that is so at one moment.
type world struct {
	t         int8
	committed *State
	log       *[]entryIn // what the current leader has not committed
	term      uint64
	leader    int8
	procs     [2]proc
	hosts     [2]*host
	net       *[]packet // all that was ever sent: and did not come; it may at any time, in any order, or never
	tokens    uint64    // the largest token that a writer had
	last      int8      // who that was
	old       *State    // what a witness knows that was left behind
	left      bounds
}

// proc is a process that was leader, and may still believe that it is.
type proc struct {
	l     *Leader
	view  *State
	calls *[]Command // decided on, not in the log yet
}

type entryIn struct {
	term     uint64
	cmd      Command
	host     int // who is answered; -1: nobody
	req      Request
	received time.Duration
}

type pod struct{ epoch, token uint64 } // token 0: there is none

type host struct {
	node    Node
	frozen  bool
	kill    int8 // by when the slice is shut, as it has to be; noTicks: no need
	pod     pod  // in the slice
	flight  pod  // being started by the daemon
	know    Hold
	cleared time.Duration
	stop    bool
	paused  bool // the lease process
	asleep  bool // the machine
	pinged  int8
	sends   int8
	claims  int8
	boots   int8
}

// packet is a message, to the witnesses or to a host.
type packet struct {
	to   int // -1: to the witnesses
	from int
	req  Request
	cmd  Command // of a daemon
	ans  Answer
	out  Outcome
}

func newModel(f fault, b bounds) *model {
	times := budgeted
	return &model{
		fault: f, times: &times, names: [2]string{"a", "b"}, rates: [2]int{100, 100}, lead: 100, bounds: b,
		states: make(map[string]*State), leaders: make(map[string]*Leader), hosts: make(map[host]*host), nets: make(map[string]*[]packet),
		logs: make(map[string]*[]entryIn), calls: make(map[string]*[]Command), ids: make(map[any]int),
	}
}

// set is what the hosts' clocks and budget are like.
func (m *model) set(rate0, rate1, lead, drift int) *model {
	m.rates, m.lead = [2]int{rate0, rate1}, lead
	m.times.Drift = drift
	if m.fault == noDrift {
		m.times.Drift = 0
	}
	return m
}

func (m *model) clock(w *world, i int) time.Duration {
	return time.Duration(w.t+1) * tick * time.Duration(m.rates[i]) / 100
}
func (m *model) leadClock(w *world) time.Duration {
	return time.Duration(w.t+1) * tick * time.Duration(m.lead) / 100
}

// begin is the world where nobody has anything.
func (m *model) begin() world {
	w := world{committed: m.canonState(NewState()), log: m.canonLog(nil), net: m.canonNet(nil), term: 1, left: m.bounds}
	for i := range w.procs {
		w.procs[i].calls = m.canonCalls(nil)
	}
	for i := range w.hosts {
		h := host{frozen: true, kill: noTicks, sends: m.bounds.sends[i], claims: m.bounds.claims[i]}
		h.node = NewNode(m.times, m.names[i], m.session(i, 0), m.clock(&w, i))
		w.hosts[i] = m.canonHost(h)
		m.settle(&w, i)
	}
	return w
}

func (m *model) session(i int, boots int8) string { return fmt.Sprintf("s%d.%d", i, boots) }

func (m *model) sight(w *world, i int) Sight {
	h := w.hosts[i]
	now := m.clock(w, i)
	return Sight{Now: now, Populated: h.pod.token != 0, Frozen: h.frozen, Daemon: now, Cleared: h.cleared, Stop: h.stop}
}

// look is what the host's lease process wants now.
func (m *model) look(w *world, i int) Wish {
	_, wish := w.hosts[i].node.Look(m.sight(w, i))
	return wish
}

// settle lets a lease process that runs see what is, and has the host begin what it wants.
func (m *model) settle(w *world, i int) {
	h := *w.hosts[i]
	if h.paused || h.asleep {
		return
	}
	if h.flight.token == 0 || m.fault == noClear {
		h.cleared = h.node.lost
		w.hosts[i] = m.canonHost(h)
	}
	n, wish := h.node.Look(m.sight(w, i))
	h.node = n
	h.pinged = w.t + 1 // at any time until the next tick
	switch {
	case !wish.Shut:
		h.frozen, h.kill = false, noTicks
	case (!h.frozen || h.pod.token != 0) && h.kill == noTicks:
		h.kill = w.t + 1
	}
	w.hosts[i] = m.canonHost(h)
}

// violation is what must never be so; "" otherwise.
func (m *model) violation(w *world) string {
	writers := 0
	for i, h := range w.hosts {
		if h.pod.token == 0 || h.frozen || h.asleep {
			continue
		}
		writers++
		if h.pod.token < w.tokens || h.pod.token == w.tokens && i != int(w.last) {
			return fmt.Sprintf("host %d writes with token %d after one with %d did", i, h.pod.token, w.tokens)
		}
	}
	if writers > 1 {
		return "two may write at once"
	}
	return ""
}

// writing is whether some pod may write.
func (w *world) writing() bool {
	return slices.ContainsFunc(w.hosts[:], func(h *host) bool { return h.pod.token != 0 && !h.frozen })
}

// canon makes equal parts of worlds be one, so that worlds are compared by pointers.
func (m *model) canonState(s *State) *State {
	data, err := s.Marshal()
	if err != nil {
		panic(err)
	}
	return unique(m.states, string(data), s)
}

func (m *model) canonLeader(l *Leader) *Leader {
	return unique(m.leaders, fmt.Sprint(l.term, l.since, l.heard, l.fencing), l) // fmt sorts maps
}

func (m *model) canonHost(h host) *host {
	if c, known := m.hosts[h]; known {
		return c
	}
	m.hosts[h] = &h
	return &h
}

func (m *model) id(v any) int {
	id, known := m.ids[v]
	if !known {
		id = len(m.ids) + 1
		m.ids[v] = id
	}
	return id
}

func (m *model) canonNet(net []packet) *[]packet {
	return unique(m.nets, canonIDs(m, net, true), &net)
}

func (m *model) canonLog(log []entryIn) *[]entryIn {
	return unique(m.logs, canonIDs(m, log, false), &log)
}

func (m *model) canonCalls(calls []Command) *[]Command {
	return unique(m.calls, canonIDs(m, calls, false), &calls)
}

func canonIDs[T comparable](m *model, list []T, sorted bool) string {
	if sorted {
		slices.SortFunc(list, func(a, b T) int { return m.id(a) - m.id(b) })
	}
	key := make([]byte, 0, 3*len(list))
	for _, v := range list {
		id := m.id(v)
		key = append(key, byte(id), byte(id>>8), byte(id>>16))
	}
	return string(key)
}

func unique[T any](table map[string]*T, key string, v *T) *T {
	if c, known := table[key]; known {
		return c
	}
	table[key] = v
	return v
}

func (l *Leader) clone() *Leader {
	c := *l
	c.heard, c.fencing = maps.Clone(l.heard), maps.Clone(l.fencing)
	return &c
}
