package gossip

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

const (
	// encounterMemory is how long a conflict or refusal counts after it was last
	// seen: longer than the pause between tries of the host that is kept out.
	encounterMemory = 2 * time.Minute
	// encountersKept bounds what hosts that make up names can have us remember.
	encountersKept = 128
)

// Conflict is a name that two hosts claim. The one that has it keeps it; the
// other one is kept out for as long as the first lives. No host is shut down.
type Conflict struct {
	Name   string
	Holder netip.AddrPort // who has the name, as far as this host sees
	Other  netip.AddrPort // who claims it too
	Here   bool           // Other is this host: it stays out of the cluster
	Since  time.Time
	Last   time.Time
}

func (c Conflict) String() string {
	if c.Here {
		return fmt.Sprintf("the name %q is taken by the host at %s: this host, at %s, stays out of the cluster until one of the two has another name", c.Name, c.Holder, c.Other)
	}
	return fmt.Sprintf("two hosts claim the name %q: the one at %s has it, the one at %s is kept out until one of the two has another name", c.Name, c.Holder, c.Other)
}

// Refusal is a host that Config.Admit did not let in.
type Refusal struct {
	Member Member // as it presented itself
	Reason string
	Since  time.Time
	Last   time.Time
}

// Conflicts are the names that two hosts claimed within the last minutes.
func (g *Gossip) Conflicts() []Conflict {
	g.reconcile()
	g.mu.Lock()
	holders := make(map[string]netip.AddrPort, len(g.known))
	for name, m := range g.known {
		if m.Status == Alive || m.Status == Leaving {
			holders[name] = m.Addr
		}
	}
	g.mu.Unlock()
	return g.meet.conflicting(holders)
}

// Refused are the hosts that were not admitted within the last minutes.
func (g *Gossip) Refused() []Refusal { return g.meet.refusals() }

// encounters is what memberlist asks and tells us about hosts that it meets. It
// is called with memberlist's locks held, so its own lock is the innermost one
// and nothing here asks Serf back.
type encounters struct {
	now    func() time.Time
	self   string
	at     netip.AddrPort
	admit  func(Member) error
	others *atomic.Int32

	mu        sync.Mutex
	conflicts map[pair]Conflict
	refused   map[pair]Refusal

	// unknown: the last member that was joined lists this host's name at another
	// address, so it may not have taken this host in.
	unknown atomic.Bool
}

type pair struct {
	name string
	addr netip.AddrPort
}

// NotifyConflict is memberlist's: existing is alive, or not dead for long enough,
// and other claims its name. memberlist ignores other.
func (e *encounters) NotifyConflict(existing, other *memberlist.Node) {
	holder, claims := nodeAddr(existing), nodeAddr(other)
	e.conflict(Conflict{Name: existing.Name, Holder: holder, Other: claims})
}

func (e *encounters) conflict(c Conflict) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := pair{c.Name, c.Other}
	now := e.now()
	c.Since, c.Last = now, now
	if old, is := e.conflicts[key]; is && now.Sub(old.Last) < encounterMemory {
		c.Since = old.Since
	}
	if e.conflicts == nil {
		e.conflicts = make(map[pair]Conflict)
	}
	if _, is := e.conflicts[key]; is || roomFor(e.conflicts, now, func(c Conflict) time.Time { return c.Last }) {
		e.conflicts[key] = c
	}
}

// NotifyMerge is Serf's: memberlist heard that these live, or is about to take
// them over in a full exchange.
func (e *encounters) NotifyMerge(members []*serf.Member) error {
	for _, s := range members {
		m := memberOf(*s)
		m.Status = Alive
		if m.Name == e.self {
			continue
		}
		err := e.admit(m)
		e.judged(m, err)
		if err != nil {
			return fmt.Errorf("%s at %s: %w", m.Name, m.Addr, err)
		}
	}
	return nil
}

// judged remembers a refusal, or that there is none any more.
func (e *encounters) judged(m Member, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key, now := pair{m.Name, m.Addr}, e.now()
	old, was := e.refused[key]
	if err == nil {
		delete(e.refused, key)
		return
	}
	if e.refused == nil {
		e.refused = make(map[pair]Refusal)
	}
	r := Refusal{Member: m, Reason: err.Error(), Since: now, Last: now}
	if was && now.Sub(old.Last) < encounterMemory {
		r.Since = old.Since
	}
	if was || roomFor(e.refused, now, func(r Refusal) time.Time { return r.Last }) {
		e.refused[key] = r
	}
}

// joining is asked before a full exchange with a host that we join, or that
// joins us, with all that it knows. An error ends it, with nothing taken over.
//
// A host that comes to a cluster in which its name lives elsewhere must not
// become half a member, unseen by the others and yet able to say, as it goes,
// that the name's holder goes.
func (e *encounters) joining(nodes []*memberlist.Node) error {
	e.unknown.Store(false)
	for _, n := range nodes {
		if n.Name != e.self || nodeAddr(n) == e.at {
			continue
		}
		if n.State != memberlist.StateAlive && n.State != memberlist.StateSuspect {
			e.unknown.Store(n.State == memberlist.StateDead)
			continue
		}
		c := Conflict{Name: e.self, Holder: nodeAddr(n), Other: e.at}
		if e.others.Load() > 0 { // we are among others: it is we who have the name
			c.Holder, c.Other = c.Other, c.Holder
		}
		e.conflict(c)
		e.unknown.Store(c.Other == e.at)
		return fmt.Errorf("the name %s is claimed by two hosts, at %s and at %s", e.self, e.at, nodeAddr(n))
	}
	if !e.unknown.Load() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.conflicts, pair{e.self, e.at}) // the name is ours again
	}
	return nil
}

// conflicting are the conflicts that still stand, by who holds the names now: a
// host that changed its address is one for a moment, until its old self failed.
func (e *encounters) conflicting(holders map[string]netip.AddrPort) []Conflict {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	var out []Conflict
	for _, c := range e.conflicts {
		c.Here = c.Name == e.self && c.Other == e.at
		holder, alive := holders[c.Name]
		if now.Sub(c.Last) < encounterMemory && (c.Here || alive && holder == c.Holder) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Conflict) int {
		if d := strings.Compare(a.Name, b.Name); d != 0 {
			return d
		}
		return a.Other.Compare(b.Other)
	})
	return out
}

func (e *encounters) refusals() []Refusal {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	var out []Refusal
	for _, r := range e.refused {
		if now.Sub(r.Last) < encounterMemory {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Refusal) int {
		if d := strings.Compare(a.Member.Name, b.Member.Name); d != 0 {
			return d
		}
		return a.Member.Addr.Compare(b.Member.Addr)
	})
	return out
}

// roomFor drops what is too old, and says whether one more may be remembered.
func roomFor[V any](m map[pair]V, now time.Time, last func(V) time.Time) bool {
	if len(m) < encountersKept {
		return true
	}
	for k, v := range m {
		if now.Sub(last(v)) >= encounterMemory {
			delete(m, k)
		}
	}
	return len(m) < encountersKept
}

func nodeAddr(n *memberlist.Node) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(addr.Unmap(), n.Port)
}
