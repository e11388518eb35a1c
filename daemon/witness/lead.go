package witness

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/shoal-project/shoal/daemon/lease"
)

// within is how long a command may take until it is in the log of a majority.
const within = 5 * time.Second

// term is one that this witness leads. Confirmations are shared within it only:
// that it leads a later one says nothing of this one's answers.
type term struct {
	*lease.Leader
	round rounds
}

// lead serves while raft has this witness lead, and fences.
func (w *Witness) lead(ctx context.Context) {
	defer close(w.done)
	// raft's channel drops changes that follow each other fast: the term is looked at, too.
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.raft.LeaderCh():
		case <-look.C:
		}
		l := w.leading()
		if l == nil {
			l = w.begin()
		}
		if l != nil {
			w.due(l)
		}
	}
}

// leading is the leader of the term that raft is in; nil if this witness is not.
func (w *Witness) leading() *term {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.term != nil && (w.raft.State() != raft.Leader || w.raft.CurrentTerm() != w.term.Term()) {
		w.term = nil
	}
	return w.term
}

// begin serves once all that earlier leaders proposed is applied or gone.
func (w *Witness) begin() *term {
	number := w.raft.CurrentTerm()
	if w.raft.State() != raft.Leader || w.raft.Barrier(within).Error() != nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.raft.State() != raft.Leader || w.raft.CurrentTerm() != number {
		return nil // the barrier may have been another term's
	}
	w.term = &term{Leader: lease.Lead(w.config.Budget, number, w.config.Clock())}
	w.config.Log.Info("this witness leads", "term", number)
	return w.term
}

// due proposes what it is time for.
func (w *Witness) due(l *term) {
	var commands []lease.Command
	w.mu.Lock()
	w.fsm.with(func(s *lease.State) { commands, _ = l.Due(s, w.config.Clock()) })
	w.mu.Unlock()
	for _, c := range commands {
		out, err := w.propose(c)
		if err != nil {
			return // the next leader does it, or this one a moment later
		}
		if c.Do == lease.Fence && out.Refused == lease.Granted {
			w.config.Log.Warn("a node's lease ran out", "node", c.Node, "epoch", c.Epoch)
		}
	}
}

func (w *Witness) propose(c lease.Command) (lease.Outcome, error) {
	data, err := lease.MarshalCommand(c)
	if err != nil {
		return lease.Outcome{}, err
	}
	future := w.raft.Apply(data, within)
	if err := future.Error(); err != nil {
		if errors.Is(err, raft.ErrNotLeader) {
			return lease.Outcome{}, w.elsewhere() // it is not in the log
		}
		return lease.Outcome{}, fmt.Errorf("%s: it may be done or not: %w", c.Do, err)
	}
	switch answer := future.Response().(type) {
	case lease.Outcome:
		return answer, nil
	case error:
		return lease.Outcome{}, answer
	}
	return lease.Outcome{}, fmt.Errorf("%s: no answer", c.Do)
}

func (w *Witness) elsewhere() error {
	address, _ := w.raft.LeaderWithID()
	if string(address) == w.config.Address {
		address = ""
	}
	return NotLeading{string(address)}
}

// Do carries out a claim's command: Acquire, Release or Forget. With another error
// than NotLeading it may be done or not: ask again.
func (w *Witness) Do(c lease.Command) (lease.Outcome, error) {
	if c.Do != lease.Acquire && c.Do != lease.Release && c.Do != lease.Forget {
		return lease.Outcome{}, fmt.Errorf("%q is not for nodes to ask", c.Do)
	}
	if w.leading() == nil {
		return lease.Outcome{}, w.elsewhere()
	}
	return w.propose(c)
}

// Ask answers a lease process.
func (w *Witness) Ask(ctx context.Context, r lease.Request) (lease.Answer, error) {
	received := w.config.Clock()
	l := w.leading()
	if l == nil {
		return lease.Answer{}, w.elsewhere()
	}
	var a lease.Answer
	var err error
	switch r.Do {
	case "":
		a = w.renew(l, r.Renewal, received)
	case lease.Register:
		a, err = w.register(l, r, received)
	case lease.Resign:
		_, err = w.propose(lease.Command{Do: lease.Resign, Node: r.Node, Epoch: r.Epoch})
		a = lease.Answer{Session: r.Session, Sent: r.Sent, Epoch: r.Epoch}
	default:
		err = fmt.Errorf("%q is not for lease processes to ask", r.Do)
	}
	if err != nil {
		return lease.Answer{}, err
	}
	// Only now: what a majority said before the request came in proves nothing.
	if err := l.round.after(ctx, func(ctx context.Context) error { return w.confirm(ctx, l.Term()) }); err != nil {
		return lease.Answer{}, errors.Join(err, w.elsewhere())
	}
	return a, nil
}

func (w *Witness) renew(l *term, r lease.Renewal, received time.Duration) (a lease.Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fsm.with(func(s *lease.State) { a = l.Renew(s, r, received) })
	return a
}

func (w *Witness) register(l *term, r lease.Request, received time.Duration) (lease.Answer, error) {
	w.mu.Lock()
	l.Hear(r.Node, r.Session, received)
	var e lease.Epoch
	w.fsm.with(func(s *lease.State) { e = s.Epochs[r.Node] })
	w.mu.Unlock()
	if e.Session != r.Session || e.Over {
		out, err := w.propose(lease.Command{Do: lease.Register, Node: r.Node, Session: r.Session, Lease: r.Lease})
		if err != nil {
			return lease.Answer{}, err
		}
		if out.Refused != lease.Granted {
			return lease.Answer{Session: r.Session, Sent: r.Sent, Refused: out.Refused}, nil
		}
		e = out.Epoch
	}
	r.Epoch = e.Number
	return w.renew(l, r.Renewal, received), nil
}

// confirm asks the voters whether this witness leads in that term, by
// heartbeats of its own. raft's VerifyLeader also counts answers to heartbeats
// that were sent before it was called.
func (w *Witness) confirm(ctx context.Context, term uint64) error {
	servers, err := w.Servers()
	if err != nil {
		return err
	}
	voters, said := 0, 0
	answers := make(chan bool, len(servers))
	for _, s := range servers {
		if !s.Votes {
			continue
		}
		if voters++; s.ID == w.config.ID {
			answers <- w.raft.CurrentTerm() == term
			continue
		}
		go func() {
			_, ok := w.heartbeat(s, term)
			answers <- ok
		}()
	}
	for n := 0; n < voters; n++ {
		select {
		case yes := <-answers:
			if yes {
				said++
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if said > voters/2 {
			return nil
		}
	}
	return fmt.Errorf("%d of %d witnesses confirm that this one leads", said, voters)
}

// heartbeat is whether the server follows this witness in that term, and the
// last entry that it has.
func (w *Witness) heartbeat(to Server, term uint64) (last uint64, follows bool) {
	self := w.trans.EncodePeer(raft.ServerID(w.config.ID), raft.ServerAddress(w.config.Address))
	ask := raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(w.config.ID), Addr: self},
		Term:      term, Leader: self,
	}
	var answer raft.AppendEntriesResponse
	err := w.trans.AppendEntries(raft.ServerID(to.ID), raft.ServerAddress(to.Address), &ask, &answer)
	return answer.LastLog, err == nil && answer.Success && answer.Term == term
}

// State calls do with what this witness knows, which may be behind. It must not keep it.
func (w *Witness) State(do func(*lease.State)) { w.fsm.with(do) }

// rounds shares confirmations: whoever comes while one runs waits for the next
// one, together with all others that do.
type rounds struct {
	mu   sync.Mutex
	next *round
	busy bool
}

type round struct {
	done chan struct{}
	err  error
}

// after calls ask, once for all that wait, after it was called itself.
func (r *rounds) after(ctx context.Context, ask func(context.Context) error) error {
	r.mu.Lock()
	if r.next == nil {
		r.next = &round{done: make(chan struct{})}
	}
	mine := r.next
	if !r.busy {
		r.busy = true
		go r.run(ask)
	}
	r.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *rounds) run(ask func(context.Context) error) {
	for {
		r.mu.Lock()
		now := r.next
		if r.next = nil; now == nil {
			r.busy = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), within)
		now.err = ask(ctx)
		cancel()
		close(now.done)
	}
}
