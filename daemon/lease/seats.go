package lease

import (
	"cmp"
	"fmt"
	"slices"
)

// Seats is how many witnesses there are at most: five outlive two that are
// lost, and each further one makes each entry of the log dearer.
const Seats = 5

// Member is a host as far as the choice of witnesses goes.
type Member struct {
	ID      string // node and store, as raft knows it
	Node    string
	Alive   bool
	Left    bool   // it said goodbye, or was forgotten
	Zone    string // "": none was named
	Witness bool   // it is one
	Only    bool   // it runs no pods: `shoald --witness`
	// Cluster names the witnesses' log that it has; "": none.
	Cluster string
}

// Changes are what to do about the witnesses, one after the other.
type Changes struct {
	Add    []Member
	Remove []Member
}

// Choose says which members are to become witnesses, and which no longer. It
// keeps those that are there; fills empty seats from zones with the fewest
// witnesses, hosts that run no pods first; and replaces a lost one only once there
// is somebody else, so that the loss of hosts one after the other does not leave
// the last one alone with a majority of its own. Members of an even number are
// fine: none is taken away to make it odd.
func Choose(members []Member) Changes {
	var c Changes
	seated, lost := 0, []Member{}
	zones := make(map[string]int)
	ordered := slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	for _, m := range ordered {
		switch {
		case !m.Witness:
		case m.Left:
			c.Remove = append(c.Remove, m)
		case !m.Alive:
			lost = append(lost, m)
		default:
			seated++
			zones[m.Zone]++
		}
	}
	for seated+len(c.Add) < Seats {
		best := -1
		for i, m := range ordered {
			if m.Witness || !m.Alive || m.Left || slices.Contains(c.Add, m) {
				continue
			}
			if best < 0 || better(m, ordered[best], zones) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		c.Add = append(c.Add, ordered[best])
		zones[ordered[best].Zone]++
	}
	free := len(c.Add)
	for _, m := range lost { // each by one that takes its seat, or that has its node
		same := slices.ContainsFunc(c.Add, func(other Member) bool { return other.Node == m.Node })
		if free > 0 || same {
			c.Remove = append(c.Remove, m)
			free--
		}
	}
	return c
}

func better(a, b Member, zones map[string]int) bool {
	if zones[a.Zone] != zones[b.Zone] {
		return zones[a.Zone] < zones[b.Zone]
	}
	return a.Only && !b.Only
}

// Beginning is how a host without a log of its own comes to witnesses.
type Beginning int

// The beginnings.
const (
	Wait      Beginning = iota // for more members, or to be added
	Alone                      // be the only witness
	Bootstrap                  // with the members that Begin names
)

// Begin says how to begin. Joins is whether the host was told of others to
// join; expect is `bootstrap_expect`, the number of all hosts of a cluster that
// begins, no more and no less: where a part were enough, two parts might each
// begin a log. A log that exists anywhere is joined, never begun again.
func Begin(self Member, joins bool, expect int, members []Member) (Beginning, []Member) {
	var alive []Member
	for _, m := range members {
		if m.Cluster != "" && !m.Left {
			return Wait, nil
		}
		if m.Alive && !m.Left {
			alive = append(alive, m)
		}
	}
	switch {
	case !joins:
		return Alone, []Member{self}
	case expect <= 0 || len(alive) != expect:
		return Wait, nil
	}
	slices.SortFunc(alive, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return Bootstrap, alive[:min(len(alive), Seats)]
}

// Yield is whether a host that is its own and only witness may give that up
// to join those of others: only while nobody holds anything of it, and no lease
// runs that was given. It is an error, in words, for an operator, if not.
func Yield(s *State) error {
	for key := range s.Claims {
		if c, held := s.Holder(key); held {
			return fmt.Errorf("%s is held by %s: this host can't join other witnesses before it is released (stop the pod, or remove it)", key, c.Node)
		}
	}
	for node, e := range s.Epochs {
		if !e.Over {
			return fmt.Errorf("%s has a lease of this host: it has to resign first", node)
		}
	}
	return nil
}
