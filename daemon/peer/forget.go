package peer

import (
	"maps"

	"github.com/shoal-project/shoal/daemon/record"
)

// Honour forgets nodes: the record of each, if its incarnation is not higher
// than said, is dropped with what proves that it was cloned and its key, and is
// taken from nobody any more. A node that comes back begins a higher
// incarnation, this one as well if it is among them.
func (s *Set) Honour(forgotten map[string]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if maps.Equal(forgotten, s.forgotten) {
		return
	}
	s.forgotten, s.digest = maps.Clone(forgotten), nil
	for node, upTo := range forgotten {
		r := s.records[node]
		switch {
		case node == s.config.Node:
			s.comeBack(upTo)
		case r == nil:
			s.drop(node) // its key may be known
		case r.Head().Incarnation <= upTo:
			s.drop(node)
		}
	}
}

// comeBack begins a higher incarnation of this node's record.
func (s *Set) comeBack(upTo uint64) {
	delete(s.clones, s.config.Node)
	if s.twin != nil && s.twin.Incarnation <= upTo {
		s.twin = nil
	}
	if s.base != nil && s.base.Incarnation <= upTo {
		s.base, s.loaded = record.New(s.config.Node, 0), 0
	}
	if !s.published || s.own.Incarnation > upTo {
		s.own.Incarnation = max(s.own.Incarnation, upTo)
		return
	}
	s.own.Incarnation = max(uint64(max(s.config.Now().UnixMilli(), 1)), upTo+1)
	s.sign()
	s.config.Store.Save(s.own.Since(0))
}

// Forgotten says whether a node is to be forgotten, and was: nothing newer of it is known.
func (s *Set) Forgotten(node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, is := s.forgotten[node]
	return is && s.records[node] == nil && node != s.config.Node
}

// drop forgets one node.
func (s *Set) drop(node string) {
	var names []record.Name
	if r := s.records[node]; r != nil {
		for name, e := range r.Entries {
			if e.Value != nil {
				names = append(names, name)
			}
		}
	}
	delete(s.records, node)
	delete(s.clones, node)
	s.total -= s.sizes[node]
	delete(s.sizes, node)
	s.digest = nil
	s.config.Pins.Forget(node)
	s.config.Store.Forget(node)
	s.config.Changed(record.Delta{Node: node}, names)
}

// isForgotten says whether somebody had this moment of a node's record
// forgotten.
func (s *Set) isForgotten(h record.Head) bool {
	upTo, is := s.forgotten[h.Node]
	return is && h.Incarnation <= upTo
}
