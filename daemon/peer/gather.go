package peer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/shoal-project/shoal/daemon/record"
)

// gathering is a record that comes in parts. Single parts can't be checked
// against the signed head: they are put together aside, and merged at once. The
// record may change meanwhile, since each part is asked for with the hashes of
// what is there.
type gathering struct {
	node    string
	entries map[record.Name]record.Entry
	size    int // bytes that were brought
}

// Gather begins with what this node has.
func (s *Set) Gather(node string) *gathering {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := &gathering{node: node, entries: make(map[record.Name]record.Entry)}
	if r := s.handOut(node); r != nil {
		maps.Copy(g.entries, r.Entries)
	}
	return g
}

// want asks for the next part.
func (g *gathering) want() Want {
	r := record.New(g.node, 0)
	r.Entries = g.entries
	return Want{Node: g.node, Hashes: packed(r.Hashes())}
}

// add takes in a part. With the last one it is the whole record, to be merged.
func (g *gathering) add(a Answer) (whole Answer, done bool, err error) {
	d := a.Delta
	if d.Node != g.node || !d.Partial || len(d.Buckets) == 0 && a.More {
		return Answer{}, false, fmt.Errorf("a part of the record of %s that is none: %w", g.node, errBroken)
	}
	if g.size += contentOf(d); g.size > 2*mostRecord {
		return Answer{}, false, fmt.Errorf("the record of %s in parts: %w", g.node, errTooLarge)
	}
	replaced := [record.Buckets]bool{}
	for _, b := range d.Buckets {
		replaced[b] = true
	}
	maps.DeleteFunc(g.entries, func(n record.Name, _ record.Entry) bool { return replaced[n.Bucket()] })
	for _, e := range d.Entries {
		if !replaced[e.Name.Bucket()] {
			return Answer{}, false, fmt.Errorf("a part of the record of %s with something else: %w", g.node, errBroken)
		}
		g.entries[e.Name] = e
	}
	if a.More {
		return Answer{}, false, nil
	}
	d.Partial, d.Buckets, d.Whole, d.From = false, nil, true, 0
	d.Entries = slices.SortedFunc(maps.Values(g.entries), func(a, b record.Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	return Answer{Delta: d, Key: a.Key}, true, nil
}
