package service

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
)

// set is one of the kernel's sets and maps, of which there is one for each
// family.
type set uint8

const (
	services  set = iota // frontend -> chain
	insiders             // frontend -> chain, for clients inside
	endpoints            // frontend, slot -> endpoint
	choices              // frontend, slot -> id, where clients stay with their endpoint
	members              // frontend, id -> endpoint
	refused              // frontend
	dropped              // frontend
	guarded              // frontend: not everybody may
	allowed              // frontend, clients that may
	cluster              // address: what is not translated is refused
	hairpin              // endpoint, endpoint: it may meet itself
	numSets
)

var setNames = [numSets]string{
	"services", "inside-services", "endpoints", "choices", "members", "refused", "dropped", "guarded", "allowed", "cluster-ips", "hairpin",
}

// element is one of a set's. What a set does not have is zero.
type element struct {
	set   set
	f     Frontend
	slot  uint32
	id    uint32 // of an endpoint
	to    netip.AddrPort
	chain chain
	from  netip.Prefix
}

// shared says whether several rules may have it.
func (e element) shared() bool { return e.set == cluster || e.set == hairpin }

func (e element) is4() bool { return e.addr().Is4() }

func (e element) addr() netip.Addr {
	if e.set == hairpin {
		return e.to.Addr()
	}
	return e.f.Addr
}

func (e element) String() string {
	name := setNames[e.set] + family(e.is4())
	switch e.set {
	case services, insiders:
		return fmt.Sprintf("%s %v -> %v", name, e.f, e.chain)
	case endpoints:
		return fmt.Sprintf("%s %v #%d -> %v", name, e.f, e.slot, e.to)
	case choices:
		return fmt.Sprintf("%s %v #%d -> %08x", name, e.f, e.slot, e.id)
	case members:
		return fmt.Sprintf("%s %v %08x -> %v", name, e.f, e.id, e.to)
	case allowed:
		return fmt.Sprintf("%s %v %v", name, e.f, e.from)
	case cluster, hairpin:
		return fmt.Sprintf("%s %v", name, e.addr())
	}
	return fmt.Sprintf("%s %v", name, e.f)
}

// elements are what a rule has in the kernel's sets.
func (r inForce) elements(local func(netip.Addr) bool, yield func(element)) {
	f, is4 := r.Frontend, r.Addr.Is4()
	if r.Cluster {
		yield(element{set: cluster, f: Frontend{Addr: f.Addr}})
	}
	switch {
	case len(r.slots) > 0:
		yield(element{set: services, f: f, chain: chain{is4, false, r.Source, len(r.slots), r.Affinity}})
	case r.Drop:
		yield(element{set: dropped, f: f})
	default:
		yield(element{set: refused, f: f})
	}
	if len(r.inside) > 0 {
		yield(element{set: insiders, f: f, chain: chain{is4, true, HideOutside, len(r.inside), r.Affinity}})
	}
	ids := idsOf(r)
	for to, id := range ids {
		yield(element{set: members, f: f, id: id, to: to})
	}
	slot := func(slot uint32, to netip.AddrPort) {
		if r.Affinity > 0 {
			yield(element{set: choices, f: f, slot: slot, id: ids[to]})
		} else {
			yield(element{set: endpoints, f: f, slot: slot, to: to})
		}
		if local(to.Addr()) {
			yield(element{set: hairpin, to: netip.AddrPortFrom(to.Addr(), 0)})
		}
	}
	for i, to := range r.slots {
		slot(uint32(i), to)
	}
	for i, to := range r.inside {
		slot(uint32(i)+insideSlots, to)
	}
	if len(r.Allow) > 0 {
		yield(element{set: guarded, f: f})
	}
	for _, p := range r.Allow {
		yield(element{set: allowed, f: f, from: p})
	}
}

// insideSlots is where the slots for clients inside begin.
const insideSlots = 1 << 16

// idsOf are numbers by which clients' endpoints are remembered. An endpoint keeps
// its own whatever comes and goes beside it, but for two of one hash.
func idsOf(r inForce) map[netip.AddrPort]uint32 {
	if r.Affinity == 0 {
		return nil
	}
	ids, taken := make(map[netip.AddrPort]uint32), make(map[uint32]bool)
	for _, to := range slices.Concat(r.Backends, r.Inside) {
		if _, known := ids[to]; known {
			continue
		}
		h := fnv.New32a()
		_, _ = h.Write([]byte(to.String()))
		id := h.Sum32()
		for taken[id] {
			id++
		}
		ids[to], taken[id] = id, true
	}
	return ids
}

// Change is what is to be done to the kernel's sets and chains.
type Change struct {
	elements map[element]int // 1: is new, -1: goes; 0: neither
	chains   map[chain]int
	flows    map[flow]bool
}

func (c *Change) element(e element, by int) {
	if c == nil {
		return
	}
	if c.elements == nil {
		c.elements = make(map[element]int)
	}
	c.elements[e] += by
}

func (c *Change) chain(ch chain, by int) {
	if c == nil {
		return
	}
	if c.chains == nil {
		c.chains = make(map[chain]int)
	}
	c.chains[ch] += by
}

// Empty says whether nothing is to be done.
func (c *Change) Empty() bool {
	for _, by := range c.elements {
		if by != 0 {
			return false
		}
	}
	for _, by := range c.chains {
		if by != 0 {
			return false
		}
	}
	return true
}

// String lists what is to be done, a line each, sorted: with a minus what goes.
func (c *Change) String() string {
	var lines []string
	line := func(by int, what string) {
		switch by {
		case 1:
			lines = append(lines, what+"\n")
		case -1:
			lines = append(lines, "- "+what+"\n")
		}
	}
	for e, by := range c.elements {
		line(by, e.String())
	}
	for ch, by := range c.chains {
		line(by, "chain "+ch.String())
	}
	for f := range c.flows {
		lines = append(lines, "forget "+f.String()+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
