package peer

import (
	"errors"

	"github.com/shoal-project/shoal/daemon/record"
)

// errFormer says that something was said in the cluster that this node has just
// left for another: nobody is to blame.
var errFormer = errors.New("it was said in the cluster that this node was in before")

// Yield takes this node into another cluster. Its record is a draft again: the
// node may have been a member there before, and takes its record back then.
// Call PublishFirst when a peer of that cluster was heard.
func (s *Set) Yield(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == s.config.Cluster {
		return
	}
	s.former, s.config.Cluster = s.config.Cluster, id
	s.clones, s.twin, s.digest = make(map[string]Clone), nil, nil
	for node, r := range s.records {
		if node != s.config.Node { // of use, and asked for again
			r.Incarnation, r.Seq, r.Floor = 0, 0, 0
		}
	}
	s.published, s.loaded, s.base = false, 0, record.New(s.config.Node, 0)
}

// Head is the head of a node's record as this node has it.
func (s *Set) Head(node string) record.Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.handOut(node); r != nil {
		return r.Head()
	}
	return record.Head{Node: node}
}

// News is what has changed in this node's record after a sequence number, with
// its head and key: what Merge takes elsewhere. It is false before the first
// publication, and for a node with a twin.
func (s *Set) News(after uint64) (Answer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.published || s.mayPublish() != nil {
		return Answer{}, false
	}
	return Answer{Delta: s.own.Since(after), Key: s.keyOf(s.config.Node)}, true
}
