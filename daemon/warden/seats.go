package warden

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shoal-project/shoal/daemon/lease"
	"github.com/shoal-project/shoal/daemon/tenure"
	"github.com/shoal-project/shoal/daemon/witness"
)

const (
	// changeWithin is how long a change of the seats may take until a majority has it.
	changeWithin = 5 * time.Second
	// lookWithin is how long a witness may take to give a sign of life.
	lookWithin = time.Second
	// staged is how long a newcomer may take to follow the log before another one
	// is tried.
	staged = 20 * time.Second
)

// self is this host as far as the choice of witnesses goes.
func (w *Warden) self() lease.Member {
	return lease.Member{ID: idOf(w.host.Node, w.disk.Store), Node: w.host.Node, Alive: true, Cluster: w.disk.Log}
}

// unsaid are the hosts in sight whose lease process has not said yet what it has.
func (w *Warden) unsaid() (nodes []string) {
	for _, m := range w.host.Members {
		if m.Name != w.host.Node && m.Alive && !m.Left && m.Store == "" {
			nodes = append(nodes, m.Name)
		}
	}
	return nodes
}

// candidates are all hosts that may begin together.
func (w *Warden) candidates() []lease.Member {
	list := []lease.Member{w.self()}
	for _, m := range w.host.Members {
		if m.Name != w.host.Node {
			list = append(list, lease.Member{ID: idOf(m.Name, m.Store), Node: m.Name, Alive: m.Alive, Left: m.Left, Zone: m.Zone, Only: m.Only, Cluster: m.Log})
		}
	}
	return list
}

// carry has the witnesses be those that lease.Choose says, where this host's one
// leads: one change at a time.
func (w *Warden) carry(ctx context.Context) {
	w.mu.Lock()
	s, h := w.seat, w.host
	w.mu.Unlock()
	if s == nil {
		return
	}
	if _, serves := s.Leader(); !serves {
		w.watch = nil
		return
	}
	servers, err := s.Servers()
	if err != nil {
		return
	}
	asked, cancel := context.WithTimeout(ctx, lookWithin)
	answers := s.Answers(asked, servers)
	cancel()
	if answers == nil {
		return
	}
	w.sawAnswers(servers, answers)
	if err := w.change(s, w.seatings(h, servers), servers, answers); err != nil {
		w.config.Log.Warn("the witnesses stay as they are for now", "err", err)
	}
}

// sign is what the leader has seen of a witness. It is the following goroutine's.
type sign struct {
	last  time.Time // of life
	since time.Time // it has its seat, as far as this leader knows
}

func (w *Warden) sawAnswers(servers []witness.Server, answers map[string]uint64) {
	if w.watch == nil {
		w.watch = make(map[string]sign)
	}
	now := time.Now()
	for _, s := range servers {
		sign, known := w.watch[s.ID]
		if !known {
			sign.since, sign.last = now, now
		}
		if _, ok := answers[s.ID]; ok {
			sign.last = now
		}
		w.watch[s.ID] = sign
	}
	for id := range w.watch {
		if !slices.ContainsFunc(servers, func(s witness.Server) bool { return s.ID == id }) {
			delete(w.watch, id)
		}
	}
}

// seatings are the members as lease.Choose takes them: those with a seat by
// what raft knows, the others by what they say.
func (w *Warden) seatings(h tenure.Host, servers []witness.Server) []lease.Member {
	byName := make(map[string]tenure.Member)
	for _, m := range h.Members {
		byName[m.Name] = m
	}
	var list []lease.Member
	seated := make(map[string]bool)
	for _, s := range servers {
		seated[s.ID] = true
		m, known := byName[nodeOf(s.ID)]
		sign := w.watch[s.ID]
		list = append(list, lease.Member{
			ID: s.ID, Node: nodeOf(s.ID), Witness: true, Zone: m.Zone, Only: m.Only,
			// By raft's own signs: who the daemon sees may be long ago. With another
			// store the host is there, and the witness is not.
			Alive: (m.Store == "" || m.Store == storeOf(s.ID)) && time.Since(sign.last) < w.config.Silent,
			// Who is not known was forgotten. While he gives signs of life it is this
			// host that does not know him yet.
			Left: m.Left || !known && time.Since(sign.last) >= w.config.Silent,
		})
	}
	for _, m := range h.Members {
		id := idOf(m.Name, m.Store)
		if m.Store == "" || seated[id] || m.Address == "" || m.Log != "" && m.Log != w.logName() || w.failedLately(id) {
			continue
		}
		list = append(list, lease.Member{ID: id, Node: m.Name, Alive: m.Alive, Left: m.Left, Zone: m.Zone, Only: m.Only})
	}
	return list
}

func (w *Warden) logName() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.disk.Log
}

func (w *Warden) failedLately(id string) bool {
	at, failed := w.failed[id]
	return failed && time.Since(at) < time.Minute
}

// change makes the next step towards what is to be.
func (w *Warden) change(s *seat, members []lease.Member, servers []witness.Server, answers map[string]uint64) error {
	// First those that were staged: a vote for one that follows, the end for one that does not.
	for _, server := range servers {
		if server.Votes {
			continue
		}
		last, ok := answers[server.ID]
		switch {
		case ok && last >= s.Applied():
			w.config.Log.Info("a host is a witness", "node", nodeOf(server.ID))
			return s.Add(server, changeWithin)
		case time.Since(w.watch[server.ID].since) > staged:
			if w.failed == nil {
				w.failed = make(map[string]time.Time)
			}
			w.failed[server.ID] = time.Now()
			w.config.Log.Warn("a host does not become a witness: it does not follow the log", "node", nodeOf(server.ID))
			return s.Remove(server.ID, changeWithin)
		}
		return nil // one change at a time
	}
	c := lease.Choose(members)
	// A lost one goes before the one in its place comes. Without the dead one as
	// many may be lost as with it, and a host with a new disk is not there twice.
	if len(c.Remove) > 0 {
		m := c.Remove[0]
		w.config.Log.Info("a host loses its seat as a witness", "node", m.Node, "left", m.Left)
		return s.Remove(m.ID, changeWithin)
	}
	if len(c.Add) > 0 {
		m := c.Add[0]
		w.config.Log.Info("a host is to be a witness", "node", m.Node)
		return s.Stage(witness.Server{ID: m.ID, Address: m.ID}, changeWithin)
	}
	return nil
}

// removeNode takes a node's seats away because it says goodbye.
func (w *Warden) removeNode(s *seat, node string) error {
	if _, serves := s.Leader(); !serves {
		leader, _ := s.Leader()
		return witness.NotLeading{Leader: leader}
	}
	servers, err := s.Servers()
	if err != nil {
		return err
	}
	var errs []error
	for _, server := range servers {
		if nodeOf(server.ID) == node && len(servers) > 1 {
			errs = append(errs, s.Remove(server.ID, changeWithin))
		}
	}
	return errors.Join(errs...)
}

// report is who holds what, as this host's witness knows it.
func (w *Warden) report(ctx context.Context, s *seat) (tenure.Report, error) {
	leader, serves := s.Leader()
	if !serves {
		return tenure.Report{}, witness.NotLeading{Leader: leader}
	}
	return w.reportOf(ctx, s)
}

func (w *Warden) reportOf(ctx context.Context, s *seat) (tenure.Report, error) {
	servers, err := s.Servers()
	if err != nil {
		return tenure.Report{}, err
	}
	asked, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	answers := s.Answers(asked, servers)
	leader, serves := s.Leader()
	known := s.Known()
	w.mu.Lock()
	r := tenure.Report{Node: w.host.Node, Term: known.Term, Log: w.disk.Log, Closed: known.State.Closed, Problem: w.problem()}
	w.mu.Unlock()
	if serves {
		r.Leader = nodeOf(leader)
	}
	for _, server := range servers {
		_, ok := answers[server.ID]
		r.Seats = append(r.Seats, tenure.Seat{Node: nodeOf(server.ID), Store: storeOf(server.ID), Votes: server.Votes, Leads: serves && server.ID == leader, Answers: ok})
	}
	now := time.Now()
	for node, e := range known.State.Epochs {
		n := tenure.NodeLease{Node: node, Epoch: e.Number, Over: e.Over, Since: stamp(known.Since[e.Number])}
		if left, is := known.Left[node]; is {
			n.Until = stamp(now.Add(left))
		}
		r.Nodes = append(r.Nodes, n)
	}
	for key := range known.State.Claims {
		if c, held := known.State.Holder(key); held {
			r.Claims = append(r.Claims, tenure.HeldClaim{Key: key, Node: c.Node, Epoch: c.Epoch, Token: c.Token, Pinned: c.Pinned, Since: stamp(known.Since[c.Token])})
		}
	}
	slices.SortFunc(r.Seats, func(a, b tenure.Seat) int { return strings.Compare(a.Node, b.Node) })
	slices.SortFunc(r.Nodes, func(a, b tenure.NodeLease) int { return strings.Compare(a.Node, b.Node) })
	slices.SortFunc(r.Claims, func(a, b tenure.HeldClaim) int { return strings.Compare(a.Key, b.Key) })
	return r, nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// recover makes this host the only witness, of what it knows.
func (w *Warden) recover() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.host.Node == "" || w.disk.Log == "" || w.disk.Removed {
		return errors.New("this host is no witness: run it on one that is (`shoal lease` lists them)")
	}
	w.closeSeat()
	id := idOf(w.host.Node, w.disk.Store)
	err := witness.Recover(witness.Config{
		ID: id, Address: id, Dir: w.config.Dir, Streams: newStreams(w, id, w.disk.Log), Budget: w.config.Budget, Clock: w.config.Clock, Log: w.config.Log,
	})
	if err != nil {
		return fmt.Errorf("recover the witnesses: %w", err)
	}
	// Another name: the witnesses that are lost have nothing to say if they come back.
	if err := w.adopt(lease.Recovered(w.disk.Log, newName()[:6])); err != nil {
		return err
	}
	w.config.Log.Warn("the witnesses were recovered from what this host knew", "node", w.host.Node)
	w.leader, w.seats = "", nil
	if w.sit(nil); w.seat == nil {
		return errors.New(w.trouble)
	}
	return nil
}
