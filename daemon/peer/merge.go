package peer

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/record"
)

// Merge takes in what somebody brought, if it is properly signed by the node
// that it is of, and says whether anything changed. The errors:
//
//   - record.ErrGap, record.ErrMismatch: ask for it by hashes;
//   - record.ErrForged, errBroken: who brought it does not check what it takes;
//   - a *cluster.PinError, errTooLarge and others: it is not to be had here, and
//     that is not the doing of who brought it.
func (s *Set) Merge(a Answer) (changed bool, err error) {
	d := a.Delta
	if err := wellFormed(a); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.summary(d.Node).Cloned || s.isForgotten(d.Head) {
		return false, nil
	}
	r := s.handOut(d.Node)
	if r == nil {
		r = record.New(d.Node, 0)
	}
	known := r.Head()
	if c := d.Head.Compare(known); c < 0 || c == 0 && (known.Signature == nil || !record.Cloned(known, d.Head)) {
		return false, nil
	}
	if err := s.check(d.Head, a.Key); err != nil {
		return false, err
	}
	if d.Head.Compare(known) == 0 {
		s.clone(Clone{A: known, B: d.Head, Key: s.keyOf(d.Node)})
		return true, nil
	}
	if d.Node == s.config.Node {
		return s.mergeOwn(d)
	}
	if err := s.room(r, d); err != nil {
		return false, err
	}
	names, err := r.MergeSigned(d, anyHead)
	if err != nil {
		return false, err
	}
	if s.keyOf(d.Node) == nil {
		if err := s.config.Pins.Admit(cluster.Identity{Node: d.Node, Key: a.Key}); err != nil {
			return false, err
		}
	}
	s.records[d.Node], s.digest = r, nil
	s.total -= s.sizes[d.Node]
	s.sizes[d.Node] = sizeOf(r)
	s.total += s.sizes[d.Node]
	s.config.Store.Save(d)
	s.config.Changed(d, names)
	return true, nil
}

// anyHead is for heads that were checked before.
func anyHead(record.Head) error { return nil }

// wellFormed says what is wrong with an answer, whoever signed it.
func wellFormed(a Answer) error {
	d := a.Delta
	switch {
	case d.Node == "" || len(d.Node) > mostName:
		return fmt.Errorf("a node's name of %d characters: %w", len(d.Node), errBroken)
	case len(a.Key) != ed25519.PublicKeySize:
		return fmt.Errorf("a key of %d bytes: %w", len(a.Key), errBroken)
	case d.Incarnation == 0:
		return fmt.Errorf("a record of %s without an incarnation: %w", d.Node, errBroken)
	}
	for _, e := range d.Entries {
		// The owner may have signed what others can't hand on: they would be taken
		// for liars.
		if !bytes.Equal(record.Carried(e.Value), e.Value) {
			return fmt.Errorf("entry %q of %s is not as JSON carries it: %w", e.Name, d.Node, errBroken)
		}
	}
	return nil
}

// check is nil for a head that is the node's own.
func (s *Set) check(h record.Head, key ed25519.PublicKey) error {
	known := s.keyOf(h.Node)
	switch {
	case known == nil && len(s.records) >= mostNodes:
		return fmt.Errorf("node %s is one more than %d: %w", h.Node, mostNodes, errTooLarge)
	case known == nil:
		known = key
	}
	err := h.Verify(s.config.Cluster, known)
	if err != nil && s.former != "" && h.Verify(s.former, known) == nil {
		return fmt.Errorf("the record of %s: %w", h.Node, errFormer)
	}
	if err != nil && !known.Equal(key) && h.Verify(s.config.Cluster, key) == nil {
		return &cluster.PinError{Node: h.Node, Known: known, Now: key}
	}
	return err
}

// room says whether a delta may be taken in. What it replaces is counted twice:
// the bounds are far away.
func (s *Set) room(r *record.Record, d record.Delta) error {
	n := contentOf(d)
	if after := s.sizes[d.Node] + n; after > mostRecord && (!d.Whole || n > mostRecord) {
		return fmt.Errorf("the record of %s would have %d bytes, at most %d are kept: %w", d.Node, after, mostRecord, errTooLarge)
	}
	if after := s.sizes[d.Node] + n; after > mostBucket && bucketOver(r, d) {
		return fmt.Errorf("a part of the record of %s would take more than a message: %w", d.Node, errTooLarge)
	}
	if s.total+n > mostRecords {
		return fmt.Errorf("all records would have %d bytes, at most %d are kept: %w", s.total+n, mostRecords, errTooLarge)
	}
	return nil
}

// mostBucket is how much of a record, in bytes, one of its buckets may hold:
// more could not be handed on.
const mostBucket = mostMessage - mostAnswers

// bucketOver says whether the record would have a larger one.
func bucketOver(r *record.Record, d record.Delta) bool {
	var sizes [record.Buckets]int
	brought := make(map[record.Name]bool, len(d.Entries))
	for _, e := range d.Entries {
		brought[e.Name] = true
		sizes[e.Name.Bucket()] += contentOf(record.Delta{Entries: []record.Entry{e}})
	}
	for name, e := range r.Entries {
		if b := name.Bucket(); !d.Whole && !brought[name] && !(d.Partial && slices.Contains(d.Buckets, b)) {
			sizes[b] += contentOf(record.Delta{Entries: []record.Entry{e}})
		}
	}
	return slices.Max(sizes[:]) > mostBucket
}

// mergeOwn is what becomes of a head of this node's own record that was checked.
func (s *Set) mergeOwn(d record.Delta) (changed bool, err error) {
	switch judge(s.handOut(d.Node).Head(), d.Head, s.published, s.isNew) {
	case takeBack:
		if s.published { // all that it said is a draft again
			s.isNew, s.published, s.loaded, s.base, s.digest = false, false, 0, record.New(s.config.Node, 0), nil
			s.least = d.Incarnation
		}
		if _, err := s.base.MergeSigned(d, anyHead); err != nil {
			return false, err
		}
		s.digest = nil
		return true, nil
	case twin:
		h := d.Head
		s.twin = &h
		return true, nil
	}
	return false, nil
}

// Prove takes in what proves that a node was cloned.
func (s *Set) Prove(c Clone) error {
	if !record.Cloned(c.A, c.B) || len(c.Key) != ed25519.PublicKeySize {
		return fmt.Errorf("a proof of a clone that proves nothing: %w", errBroken)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.summary(c.A.Node).Cloned || s.isForgotten(c.A) {
		return nil
	}
	if err := errors.Join(s.check(c.A, c.Key), s.check(c.B, c.Key)); err != nil {
		return err
	}
	s.clone(c)
	return nil
}

// Clash takes in another head of a moment that this node knows.
func (s *Set) Clash(a Answer) error {
	s.mu.Lock()
	mine := record.Head{}
	if r := s.handOut(a.Delta.Node); r != nil {
		mine = r.Head()
	}
	s.mu.Unlock()
	if mine.Signature == nil || len(a.Key) != ed25519.PublicKeySize || !record.Cloned(mine, a.Delta.Head) {
		return nil // it has changed since
	}
	return s.Prove(Clone{A: mine, B: a.Delta.Head, Key: a.Key})
}

// clone keeps a node out: what is known of it stays as it is, and nothing is
// taken any more until somebody forgets it.
func (s *Set) clone(c Clone) {
	if len(s.clones) < mostClones {
		s.clones[c.A.Node], s.digest = c, nil
	}
}
