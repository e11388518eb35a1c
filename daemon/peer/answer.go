package peer

import (
	"errors"
	"fmt"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/record"
)

// errUnproved says that somebody brought what its node never signed.
var errUnproved = errors.New("it brings what is not the node's own")

// answer is what a node gets that sent a message: the whole of the server's part.
// Between two messages nothing is remembered of a peer.
func (e *Endpoint) answer(from cluster.Identity, in *message) *message {
	out := &message{Hello: e.hello()}
	err := e.meet(from.Node, in.Hello)
	if err == nil && e.alone(from.Node) {
		err = fmt.Errorf("%w: node %s leaves node %s alone for a minute, for what it sent before", ErrRefused, e.config.Node, from.Node)
	}
	if err == nil {
		err = e.reply(in, out)
	}
	if err == nil {
		return out
	}
	if lies(err) {
		e.blame(from.Node, err)
	}
	return &message{Hello: out.Hello, Refused: err.Error()}
}

func (e *Endpoint) reply(in, out *message) error {
	set := e.config.Set
	byHashes := make(map[string]bool)
	for _, a := range in.Answers {
		switch _, err := e.take(a); {
		case errors.Is(err, errAgain):
			byHashes[a.Delta.Node] = true
			in.Heads = append(in.Heads, summaryOf(a.Delta.Head))
		case lies(err):
			return err
		}
	}
	for _, a := range in.Clashes {
		if err := e.told(set.Clash(a)); err != nil {
			return err
		}
	}
	for _, c := range in.Clones {
		if err := e.told(set.Prove(c)); err != nil {
			return err
		}
	}
	if in.Digest != nil {
		if out.Equal = *in.Digest == set.Digest(); !out.Equal {
			out.Heads, out.Clones = set.Heads(), set.Clones()
		}
	} else if len(in.Clashes) > 0 {
		out.Clones = set.Clones()
	}
	out.Wants = set.Wants(in.Heads, func(node string) bool { return byHashes[node] })
	var err error
	out.Answers, _, err = e.answers(in.Wants)
	return err
}

// answers are as many as one message holds, and which wants are left over.
func (e *Endpoint) answers(list wants) (given answers, left wants, err error) {
	size := 0
	for i, w := range list {
		if size > mostAnswers {
			return given, list[i:], nil
		}
		a, has, err := e.config.Set.Answer(w)
		switch {
		case errors.Is(err, errBroken):
			return nil, nil, err
		case err != nil:
			e.config.Log.Error("a record can't be handed on", "node", w.Node, "err", err)
		case has:
			size += contentOf(a.Delta) + perEntry
			given = append(given, a)
		}
	}
	return given, nil, nil
}

// errAgain says that a delta did not fit: it is to be asked for by hashes.
var errAgain = errors.New("to be asked for by hashes")

// take merges what somebody brought. Whoever is to blame for an error, lies says
// whether it is who brought it.
func (e *Endpoint) take(a Answer) (taken bool, err error) {
	taken, err = e.config.Set.Merge(a)
	switch {
	case errors.Is(err, record.ErrMismatch) && a.Delta.Whole:
		return false, fmt.Errorf("%w: %w", errUnproved, err)
	case errors.Is(err, record.ErrMismatch), errors.Is(err, record.ErrGap):
		return false, fmt.Errorf("%w: %w", errAgain, err)
	}
	return taken, e.told(err)
}

// told says what becomes of an error: forgeries are the doing of who brought
// them, all else that is not broken is logged and does no harm.
func (e *Endpoint) told(err error) error {
	var pin *cluster.PinError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, record.ErrForged):
		return fmt.Errorf("%w: %w", errUnproved, err)
	case errors.Is(err, errFormer):
		e.config.Log.Debug("a record is not taken", "err", err)
		return nil
	case errors.As(err, &pin):
		e.config.Log.Debug("a record is not taken", "node", pin.Node, "err", err)
		return nil
	case errors.Is(err, errBroken):
		return err
	}
	e.config.Log.Warn("a record is not taken", "err", err)
	return nil
}

func summaryOf(h record.Head) Summary {
	return Summary{Node: h.Node, Incarnation: h.Incarnation, Seq: h.Seq}
}
