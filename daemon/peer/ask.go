package peer

import (
	"fmt"
	"slices"

	"github.com/shoal-project/shoal/daemon/record"
)

// mostAnswer is how large, in bytes, the delta of one answer becomes before it
// is handed out in parts, and mostAnswers how much is put into one message.
const (
	mostAnswer  = 2 << 20
	mostAnswers = 1 << 20
)

// mostHashes is how many wants of one message come with hashes, of 11 kB each.
const mostHashes = 64

// Wants is what this node lacks of what somebody has. Those of which byHashes is
// true are compared by hashes, since a delta did not fit, and so are those of
// another incarnation.
func (s *Set) Wants(theirs []Summary, byHashes func(node string) bool) []Want {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Want
	hashed := 0
	for _, t := range theirs {
		mine := s.summary(t.Node)
		r := s.records[t.Node]
		switch {
		case t.Cloned || mine.Cloned || t.compare(mine) <= 0 || len(t.Node) > mostName:
			continue
		case s.isForgotten(t.head()):
			continue
		case t.Node == s.config.Node && s.published && s.twin != nil:
			continue // there is no more to know
		case t.Node == s.config.Node && !s.published:
			r = s.base
		case r == nil && len(s.records) >= mostNodes:
			continue
		}
		w := Want{Node: t.Node, Incarnation: mine.Incarnation, Seq: mine.Seq}
		if r != nil && len(r.Entries) > 0 && (byHashes(t.Node) || t.Incarnation != mine.Incarnation) {
			if hashed++; hashed > mostHashes {
				continue
			}
			w.Hashes = packed(r.Hashes())
		}
		list = append(list, w)
	}
	return list
}

// mostName is the longest name of a node: a DNS subdomain (RFC 1123), as
// Kubernetes wants it.
const mostName = 253

// Ahead is what this node has and somebody lacks.
func (s *Set) Ahead(theirs []Summary) []Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := byNode(theirs)
	var list []Summary
	for _, mine := range s.heads() {
		if t, is := known[mine.Node]; !is || !t.Cloned && !mine.Cloned && mine.compare(t) > 0 {
			list = append(list, mine)
		}
	}
	return list
}

// Clashes are this node's heads of moments of which somebody has others: proof of
// a clone, if both are properly signed. There are no entries with them.
func (s *Set) Clashes(theirs []Summary) []Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Answer
	for _, t := range theirs {
		mine := s.summary(t.Node)
		if t.Cloned || mine.Cloned || t.Incarnation == 0 || mine.compare(t) != 0 || mine.Mark == t.Mark || len(list) == mostClones {
			continue
		}
		d := s.handOut(t.Node).Since(mine.Seq)
		d.Entries = nil
		list = append(list, Answer{Delta: d, Key: s.keyOf(t.Node)})
	}
	return list
}

// Unproved are the proofs of clones that somebody does not know of.
func (s *Set) Unproved(theirs []Summary) []Clone {
	known := byNode(theirs)
	return slices.DeleteFunc(s.Clones(), func(c Clone) bool { return known[c.A.Node].Cloned })
}

func byNode(list []Summary) map[string]Summary {
	m := make(map[string]Summary, len(list))
	for _, s := range list {
		m[s.Node] = s
	}
	return m
}

// handOut is the record that peers are told of, nil if there is none.
func (s *Set) handOut(node string) *record.Record {
	if node == s.config.Node && !s.published {
		return s.base
	}
	return s.records[node]
}

// Answer is what somebody lacks. It is false if this node has no more than that.
func (s *Set) Answer(w Want) (Answer, bool, error) {
	hashes, err := w.hashes()
	if err != nil {
		return Answer{}, false, fmt.Errorf("%w: %w", errBroken, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := s.summary(w.Node)
	if mine.Incarnation == 0 || mine.compare(Summary{Node: w.Node, Incarnation: w.Incarnation, Seq: w.Seq}) <= 0 {
		return Answer{}, false, nil
	}
	r := s.handOut(w.Node)
	a := Answer{Key: s.keyOf(w.Node)}
	switch {
	case hashes != nil:
		a.Delta = r.Parts(r.Differing(*hashes))
	case w.Incarnation == mine.Incarnation:
		a.Delta = r.Since(w.Seq)
	default:
		a.Delta = r.Since(0)
	}
	if contentOf(a.Delta) <= mostAnswer {
		return a, true, nil
	}
	if hashes == nil {
		empty := record.New(w.Node, 0).Hashes()
		a.Delta = r.Parts(r.Differing(empty))
	}
	return s.part(a)
}

// part is the first buckets of an answer: as many as fit, and one at least.
func (s *Set) part(a Answer) (Answer, bool, error) {
	byBucket := make(map[uint8][]record.Entry)
	for _, e := range a.Delta.Entries {
		b := e.Name.Bucket()
		byBucket[b] = append(byBucket[b], e)
	}
	all := a.Delta.Buckets
	a.Delta.Buckets, a.Delta.Entries = nil, nil
	size := 0
	for _, b := range all {
		if size += sizeOfAll(byBucket[b]); size > mostAnswer && len(a.Delta.Buckets) > 0 {
			break
		}
		a.Delta.Buckets = append(a.Delta.Buckets, b)
		a.Delta.Entries = append(a.Delta.Entries, byBucket[b]...)
	}
	if n := contentOf(a.Delta); n > mostBucket {
		return Answer{}, false, fmt.Errorf("one of %d parts of the record of %s has %d bytes, and can't be sent: %w", record.Buckets, a.Delta.Node, n, errTooLarge)
	}
	a.More = len(a.Delta.Buckets) < len(all)
	return a, true, nil
}

func contentOf(d record.Delta) int { return sizeOfAll(d.Entries) }

func sizeOfAll(list []record.Entry) (n int) {
	for _, e := range list {
		n += len(e.Name.Section) + len(e.Name.Key) + len(e.Value) + perEntry
	}
	return n
}
