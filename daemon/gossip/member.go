package gossip

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/serf/serf"
)

// Status is how this host sees a member.
type Status int

const (
	Failed  Status = iota // it does not answer; hosts that are cut off look the same
	Alive                 // it answers, or somebody says that it does
	Leaving               // it said that it goes, and still answers
	Left                  // it went on purpose
)

func (s Status) String() string {
	switch s {
	case Alive:
		return "alive"
	case Leaving:
		return "leaving"
	case Left:
		return "left"
	case Failed:
		return "failed"
	}
	return fmt.Sprintf("Status(%d)", int(s))
}

// Member is a host of the cluster as this one sees it.
type Member struct {
	Name   string
	Addr   netip.AddrPort    // where it is reached; other addresses of it are for tags
	Tags   map[string]string // not to be changed
	Status Status
	Since  time.Time // when this daemon first saw it in this status
}

// Members are all that are known, this host among them, in the order of names.
// Who failed or left stays for Timers.Forget; that it is dropped then says
// nothing of its record, which is the daemon's to keep.
func (g *Gossip) Members() []Member {
	g.reconcile()
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.SortedFunc(maps.Values(g.known), func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
}

// Changes has an element when Members may say something new. It holds one at
// most: look at all members, not at what changed.
func (g *Gossip) Changes() <-chan struct{} { return g.changes }

func (g *Gossip) member(name string) (Member, bool) {
	g.reconcile()
	g.mu.Lock()
	defer g.mu.Unlock()
	m, is := g.known[name]
	return m, is
}

// reconcile takes over what Serf knows, if that may be new, and tells whoever
// waits for Changes.
func (g *Gossip) reconcile() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.stale.Swap(false) { // comparing a thousand members each second adds up
		return
	}
	next, changes := follow(g.known, g.serf.Members(), g.cfg.Now())
	alive := 0
	for _, m := range next {
		if m.Status == Alive && m.Name != g.cfg.Name {
			alive++
		}
	}
	g.others.Store(int32(alive))
	before := g.known
	g.known = next
	for _, c := range changes {
		if old, was := before[c.Name]; was && old.Status == c.Status && old.Addr == c.Addr {
			continue // it has other tags, as often as something is new on it
		}
		g.log.Info("a member of the cluster", "node", c.Name, "address", c.Addr.String(), "status", c.Status.String())
	}
	if len(changes) == 0 {
		return
	}
	select {
	case g.changes <- struct{}{}:
	default: // whoever reads has not looked yet
	}
}

// follow is what is known after Serf said now, and the members that are new or
// are seen otherwise, in the order of names. A member that Serf dropped is one
// of them, with status Left.
func follow(known map[string]Member, said []serf.Member, now time.Time) (next map[string]Member, changes []Member) {
	next = make(map[string]Member, len(said))
	for _, s := range said {
		m := memberOf(s)
		m.Since = now
		old, was := known[m.Name]
		if was && old.Status == m.Status {
			m.Since = old.Since
		}
		next[m.Name] = m
		if !was || old.Status != m.Status || old.Addr != m.Addr || !maps.Equal(old.Tags, m.Tags) {
			changes = append(changes, m)
		}
	}
	for name, old := range known {
		if _, still := next[name]; !still {
			old.Status, old.Since = Left, now
			changes = append(changes, old)
		}
	}
	slices.SortFunc(changes, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return next, changes
}

func memberOf(s serf.Member) Member {
	addr, _ := netip.AddrFromSlice(s.Addr)
	m := Member{Name: s.Name, Addr: netip.AddrPortFrom(addr.Unmap(), s.Port), Tags: s.Tags}
	switch s.Status {
	case serf.StatusAlive:
		m.Status = Alive
	case serf.StatusLeaving:
		m.Status = Leaving
	case serf.StatusLeft:
		m.Status = Left
	default:
		m.Status = Failed
	}
	return m
}
