// Package steward says which node decides about an object, and which of several
// nodes' decisions counts.
//
// Nobody is elected. Each node ranks the members for an object's key by
// rendezvous hash, and whoever ranks first of those that can decide does. Nodes
// that see different members may decide at once for a while; what they decided
// is settled by Settle, which every node answers alike once it has the same
// records, in whatever order these came.
package steward

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Member is what a node knows of one that was not forgotten.
type Member struct {
	Name    string
	Alive   bool // in Serf's eyes, here
	Leaving bool // it drains, shuts down or has said goodbye: what it has, goes elsewhere
	Ready   bool // its node status says that it has read its files and its peers' records
}

// CanDecide says whether the member may be a steward.
func (m Member) CanDecide() bool { return m.Alive && !m.Leaving && m.Ready }

// Rank is the members' names in the order in which they are asked to decide
// about a key (manifests.Key's text): by SHA-256(key, node), highest first
// (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates",
// 1998). A name that is there twice counts once.
func Rank(key string, members []string) []string {
	type scored struct {
		name  string
		score [sha256.Size]byte
	}
	list := make([]scored, 0, len(members))
	for _, name := range members {
		list = append(list, scored{name, score(key, name)})
	}
	slices.SortFunc(list, func(a, b scored) int {
		return cmp.Or(bytes.Compare(b.score[:], a.score[:]), cmp.Compare(a.name, b.name))
	})
	ranked := make([]string, len(list))
	for i, s := range list {
		ranked[i] = s.name
	}
	return slices.Compact(ranked)
}

// Steward is who decides about a key: the first in rank of the members that
// can; "" where none can.
func Steward(key string, members []Member) string {
	var name string
	var best [sha256.Size]byte
	for _, m := range members {
		if !m.CanDecide() {
			continue
		}
		if s := score(key, m.Name); name == "" || bytes.Compare(s[:], best[:]) > 0 {
			name, best = m.Name, s
		}
	}
	return name
}

// score is SHA-256 over the key, its length before it: no two pairs of key and
// node have the same bytes.
func score(key, node string) [sha256.Size]byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(key)+len(node)), uint64(len(key)))
	return sha256.Sum256(append(append(b, key...), node...))
}
