package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/shoal-project/shoal/daemon/record"
)

// Bounds of one exchange: how many messages it may take, how many parts of one
// record (which changes meanwhile), and how often a record is asked for that
// does not come as it was said to be.
const (
	mostRounds = 2048
	mostParts  = 2 * record.Buckets
	mostTries  = 4
)

// PeerError is an exchange that failed, and with whom.
type PeerError struct {
	Peer Peer
	Err  error
}

func (e *PeerError) Error() string { return fmt.Sprintf("peer %s: %v", e.Peer, e.Err) }

// Unwrap is what went wrong.
func (e *PeerError) Unwrap() error { return e.Err }

// Sync makes one exchange: afterwards this node has what the peer had, and the
// peer what this one had, except records that take more than a message: those
// are only pulled. What is got before an error is kept.
func (e *Endpoint) Sync(ctx context.Context, p Peer) error {
	digest := e.config.Set.Digest()
	return e.converse(ctx, p, &message{Digest: &digest})
}

// Push brings a delta of this node's record to peers, all at once. One that has
// missed what was before is given that as well. The error joins those of the
// peers that did not get it: they get it by anti-entropy.
func (e *Endpoint) Push(ctx context.Context, d record.Delta, peers ...Peer) error {
	if d.Head.Signature == nil {
		return errors.New("push: the delta has no signed head")
	}
	a := Answer{Delta: d, Key: e.config.Set.keyOf(d.Node)}
	errs := make([]error, len(peers))
	var all sync.WaitGroup
	slots := make(chan struct{}, mostServed)
	for i, p := range peers {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			errs[i] = e.converse(ctx, p, &message{Answers: answers{a}})
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// exchange is what is known in the course of one.
type exchange struct {
	theirs   summaries
	promised map[string]Summary // these by node
	tries    map[string]int     // how often a node's record was brought
	byHashes map[string]bool
	owed     wants // what they still want
	given    map[string]int
	gather   []string
}

// converse sends one message after the other until there is nothing to say.
func (e *Endpoint) converse(ctx context.Context, p Peer, out *message) error {
	x := &exchange{tries: make(map[string]int), byHashes: make(map[string]bool), given: make(map[string]int)}
	for range mostRounds {
		in, err := e.send(ctx, &p, out)
		if err != nil {
			return e.failed(p, err)
		}
		if in.Equal {
			return e.met(p)
		}
		compare := out.Digest != nil
		if compare {
			x.theirs, x.promised = in.Heads, byNode(in.Heads)
		}
		if err := e.learn(x, out, in); err != nil {
			return e.failed(p, err)
		}
		for _, node := range x.gather {
			if err := e.collect(ctx, p, node); err != nil {
				return e.failed(p, err)
			}
		}
		x.gather = nil
		if out, err = e.further(x, compare); err != nil {
			return e.failed(p, err)
		}
		if out.empty() {
			return e.met(p)
		}
	}
	return e.failed(p, fmt.Errorf("no end after %d messages: %w", mostRounds, errBroken))
}

func (e *Endpoint) met(p Peer) error {
	if e.config.Met != nil {
		e.config.Met(p.Node)
	}
	return nil
}

func (e *Endpoint) failed(p Peer, err error) error {
	if lies(err) && p.Node != "" {
		e.blame(p.Node, err)
	}
	return &PeerError{p, err}
}

// send sends a message, and takes the answer if there may be an exchange.
func (e *Endpoint) send(ctx context.Context, p *Peer, out *message) (*message, error) {
	if p.Node != "" && e.alone(p.Node) {
		return nil, errors.New("it is left alone for a minute, for what it sent before")
	}
	out.Hello = e.hello()
	in, who, err := e.caller.call(ctx, *p, out)
	if who.Node != "" {
		p.Node = who.Node
	}
	if err != nil {
		return nil, err
	}
	if err := e.meet(p.Node, in.Hello); err != nil {
		return nil, err
	}
	if in.Refused != "" {
		return nil, fmt.Errorf("it says: %.500s (%w)", in.Refused, ErrRefused)
	}
	return in, nil
}

// learn takes in what a peer answered.
func (e *Endpoint) learn(x *exchange, out, in *message) error {
	for _, c := range in.Clones {
		if err := e.told(e.config.Set.Prove(c)); err != nil {
			return err
		}
	}
	if len(out.Wants) > 0 && len(in.Answers) == 0 {
		return fmt.Errorf("it says that it has more of the record of %s, and does not give it", out.Wants[0].Node)
	}
	for _, a := range in.Answers {
		node := a.Delta.Node
		if x.tries[node]++; x.tries[node] > mostTries {
			return fmt.Errorf("the record of %s does not become what it is said to be: %w", node, errBroken)
		}
		if p := x.promised[node]; p.compare(summaryOf(a.Delta.Head)) > 0 {
			return fmt.Errorf("it says that it has the record of %s at %d/%d, and gives it at %d/%d", node, p.Incarnation, p.Seq, a.Delta.Incarnation, a.Delta.Seq)
		}
		if a.More {
			x.gather = append(x.gather, node)
			continue
		}
		taken, err := e.take(a)
		if lies(err) {
			return err
		}
		x.byHashes[node] = err != nil // then it did not fit
		if !taken && err == nil {
			x.tries[node] = mostTries // it is not to be had
		}
	}
	x.owed = append(x.owed, in.Wants...)
	if len(x.owed) > mostNodes {
		return fmt.Errorf("it wants more than there is: %w", errBroken)
	}
	return nil
}

// further is the next message.
func (e *Endpoint) further(x *exchange, compare bool) (*message, error) {
	set := e.config.Set
	out := &message{}
	if compare {
		out.Heads, out.Clashes, out.Clones = set.Ahead(x.theirs), set.Clashes(x.theirs), set.Unproved(x.theirs)
	}
	for _, w := range set.Wants(x.theirs, func(node string) bool { return x.byHashes[node] }) {
		if x.tries[w.Node] < mostTries {
			out.Wants = append(out.Wants, w)
		}
	}
	given, left, err := e.answers(x.owed)
	x.owed = left
	for _, a := range given {
		if x.given[a.Delta.Node]++; !a.More && x.given[a.Delta.Node] <= mostTries { // a large one they pull
			out.Answers = append(out.Answers, a)
		}
	}
	return out, err
}

// collect pulls a record that takes more than one answer.
func (e *Endpoint) collect(ctx context.Context, p Peer, node string) error {
	select { // one at a time, for the memory that it takes
	case e.gathers <- struct{}{}:
		defer func() { <-e.gathers }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	g := e.config.Set.Gather(node)
	for range mostParts {
		in, err := e.send(ctx, &p, &message{Wants: wants{g.want()}})
		if err != nil {
			return err
		}
		if len(in.Answers) != 1 {
			return fmt.Errorf("the record of %s stopped coming: %w", node, errBroken)
		}
		whole, done, err := g.add(in.Answers[0])
		if err != nil {
			return err
		}
		if done {
			if _, err := e.take(whole); lies(err) {
				return err
			}
			return nil
		}
	}
	return fmt.Errorf("the record of %s has no end: %w", node, errBroken)
}

// Ask is what a peer has, by its own word. Nothing is exchanged.
func (e *Endpoint) Ask(ctx context.Context, p Peer) ([]Summary, error) {
	in, err := e.send(ctx, &p, &message{Digest: new(record.Hash)})
	if err != nil {
		return nil, e.failed(p, err)
	}
	return in.Heads, nil
}
