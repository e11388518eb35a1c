package daemon

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/steward"
)

const (
	// membersGrace is how long after its start a host waits for members that it
	// knows from before. Until then it counts them as alive: it has not looked, and
	// what they decide is theirs. It decides nothing itself before it has their news.
	membersGrace = 10 * time.Second
	// triedGrace is how long a host that knows nobody waits for those that it is to
	// join, where nobody refuses it either.
	triedGrace = 2 * time.Second
)

// members are the nodes that this one knows and that were not forgotten, itself
// among them. The list is not to be changed.
func (d *Daemon) members() []steward.Member {
	if d.fleet.list == nil {
		return []steward.Member{{Name: d.Config.Node, Alive: true, Ready: true}}
	}
	return d.fleet.list
}

// sight is what a host knows of who is there.
type sight struct {
	me        string
	running   bool            // it is to be one of several
	leaving   bool            // it shuts down
	published bool            // it has its peers' records, and its own back
	tried     bool            // all that may be there were tried
	since     time.Duration   // it has looked for so long
	seen      []gossip.Member // others
	known     []string        // nodes with records, itself among them
	left      map[string]bool // those of them that say that they left
}

// members are the nodes as they count for deciding, by name.
func (s sight) members() []steward.Member {
	me := steward.Member{Name: s.me, Alive: true, Leaving: s.leaving, Ready: true}
	waits := s.running && !s.published && s.since < membersGrace
	list := make([]steward.Member, 0, 1+len(s.seen))
	named := map[string]bool{s.me: true}
	company := false
	for _, m := range s.seen {
		if named[m.Name] {
			continue
		}
		named[m.Name] = true
		here := m.Status == gossip.Alive || m.Status == gossip.Leaving
		company = company || here
		list = append(list, steward.Member{
			Name: m.Name, Alive: here, Ready: m.Tags[tagReady] != "",
			Leaving: m.Status == gossip.Leaving || m.Status == gossip.Left || m.Tags[tagLeaving] != "",
		})
	}
	for _, name := range s.known {
		if named[name] {
			continue
		}
		named[name] = true
		if s.left[name] {
			list = append(list, steward.Member{Name: name, Leaving: true})
			continue
		}
		company = true
		early := s.running && s.since < membersGrace // it has not been looked for
		list = append(list, steward.Member{Name: name, Alive: early, Ready: early})
	}
	if waits && (company || !s.tried && s.since < triedGrace) {
		me.Ready = false
	}
	list = append(list, me)
	slices.SortFunc(list, func(a, b steward.Member) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// sight is what this host knows now.
func (d *Daemon) sight() sight {
	s := sight{me: d.Config.Node, running: d.fleet.wanted, leaving: d.shuttingDown(), published: d.records.Published()}
	if d.sees != nil {
		s.seen, s.tried, s.since = d.sees(), true, membersGrace
	} else if g := d.fleet.gossip.Load(); g != nil {
		s.since = d.Now().Sub(d.fleet.began)
		s.seen = slices.DeleteFunc(g.Members(), func(m gossip.Member) bool { return m.Name == s.me })
		select {
		case <-g.Tried():
			s.tried = true
		default:
		}
	} else {
		s.since = d.Now().Sub(d.started)
		s.tried = d.fleet.problem.Load() != nil
	}
	d.records.Read(func(records map[string]*record.Record) {
		for name, r := range records {
			s.known = append(s.known, name)
			if r.Entries[leftName].Value != nil {
				if s.left == nil {
					s.left = make(map[string]bool)
				}
				s.left[name] = true
			}
		}
	})
	return s
}

// lookAround brings the members up to date. The loop follows.
func (d *Daemon) lookAround() {
	s := d.sight()
	d.fleet.list = s.members()
	if life := s.life(d.started); !reflect.DeepEqual(life, d.nodes.members) {
		d.nodes.members, d.nodes.look = life, true
	}
}
