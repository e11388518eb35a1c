package service

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Key is a service's name.
type Key struct{ Namespace, Name string }

func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Wish is what one service is to be. Of two services that want one frontend, as
// external IPs may, the older has it.
type Wish struct {
	Created time.Time
	Rules   []Rule
}

// Table is the rules of all services: those that are in force, and what the
// kernel's sets and chains hold for them.
type Table struct {
	wishes map[Key]Wish
	claims map[Frontend][]Key // the first has it
	rules  map[Frontend]inForce
	shared map[element]int // those that several rules have, and how many do
	chains map[chain]int
	local  func(netip.Addr) bool
}

// inForce is a rule with its backends in the order of their slots.
type inForce struct {
	Rule
	slots, inside []netip.AddrPort
}

// NewTable is a table without services, on a node whose pods have the addresses
// that local tells.
func NewTable(local func(netip.Addr) bool) *Table {
	return &Table{
		wishes: make(map[Key]Wish), claims: make(map[Frontend][]Key), rules: make(map[Frontend]inForce),
		shared: make(map[element]int), chains: make(map[chain]int), local: local,
	}
}

// Set has a service be as wished; without rules it is gone. What that changes is
// added to c, if there is one.
func (t *Table) Set(key Key, w Wish, c *Change) {
	old, had := t.wishes[key]
	if had && old.Created.Equal(w.Created) && slices.EqualFunc(old.Rules, w.Rules, Rule.equal) {
		return
	}
	touched := make(map[Frontend]bool)
	for _, r := range old.Rules {
		t.unclaim(r.Frontend, key)
		touched[r.Frontend] = true
	}
	delete(t.wishes, key)
	if len(w.Rules) > 0 {
		t.wishes[key] = w
	}
	for _, r := range w.Rules {
		t.claim(r.Frontend, key)
		touched[r.Frontend] = true
	}
	for f := range touched {
		t.settle(f, c)
	}
}

// Lost are the frontends that a service wants and another one has.
func (t *Table) Lost(key Key) (lost []Frontend) {
	for _, r := range t.wishes[key].Rules {
		if t.claims[r.Frontend][0] != key {
			lost = append(lost, r.Frontend)
		}
	}
	return lost
}

// Holder is the service that a frontend leads to.
func (t *Table) Holder(f Frontend) (Key, bool) {
	if c := t.claims[f]; len(c) > 0 {
		return c[0], true
	}
	return Key{}, false
}

// Keys are the services that have rules.
func (t *Table) Keys() []Key { return slices.Collect(maps.Keys(t.wishes)) }

func (t *Table) unclaim(f Frontend, key Key) {
	t.claims[f] = slices.DeleteFunc(t.claims[f], func(k Key) bool { return k == key })
	if len(t.claims[f]) == 0 {
		delete(t.claims, f)
	}
}

func (t *Table) claim(f Frontend, key Key) {
	c := append(t.claims[f], key)
	slices.SortFunc(c, func(a, b Key) int {
		return cmp.Or(t.wishes[a].Created.Compare(t.wishes[b].Created), strings.Compare(a.String(), b.String()))
	})
	t.claims[f] = slices.Compact(c)
}

// settle puts the rule in force for a frontend that its first claim wishes.
func (t *Table) settle(f Frontend, c *Change) {
	old, had := t.rules[f]
	var now inForce
	holder, has := t.Holder(f)
	if has {
		rules := t.wishes[holder].Rules
		r := rules[slices.IndexFunc(rules, func(r Rule) bool { return r.Frontend == f })]
		now = inForce{r, keepSlots(old.slots, r.Backends), keepSlots(old.inside, r.Inside)}
		t.rules[f] = now
	} else {
		delete(t.rules, f)
	}
	before, after := make(map[element]bool), make(map[element]bool)
	if had {
		old.elements(t.local, func(e element) { before[e] = true })
	}
	if has {
		now.elements(t.local, func(e element) { after[e] = true })
	}
	for e := range before {
		if !after[e] {
			t.drop(e, c)
		}
	}
	for e := range after {
		if !before[e] {
			t.add(e, c)
		}
	}
	c.stale(f, old, now)
}

func (t *Table) add(e element, c *Change) {
	if e.chain != (chain{}) {
		if t.chains[e.chain]++; t.chains[e.chain] == 1 {
			c.chain(e.chain, 1)
		}
	}
	if e.shared() {
		if t.shared[e]++; t.shared[e] > 1 {
			return
		}
	}
	c.element(e, 1)
}

func (t *Table) drop(e element, c *Change) {
	if e.chain != (chain{}) {
		if t.chains[e.chain]--; t.chains[e.chain] == 0 {
			delete(t.chains, e.chain)
			c.chain(e.chain, -1)
		}
	}
	if e.shared() {
		if t.shared[e]--; t.shared[e] > 0 {
			return
		}
		delete(t.shared, e)
	}
	c.element(e, -1)
}

// each yields every chain and then every element.
func (t *Table) each(chains func(chain), elements func(element)) {
	for ch := range t.chains {
		chains(ch)
	}
	for e := range t.shared {
		elements(e)
	}
	for _, r := range t.rules {
		r.elements(t.local, func(e element) {
			if !e.shared() {
				elements(e)
			}
		})
	}
}

// String lists the sets' elements and the chains, a line each, sorted.
func (t *Table) String() string {
	var c Change
	t.each(func(ch chain) { c.chain(ch, 1) }, func(e element) { c.element(e, 1) })
	return c.String()
}

// keepSlots puts backends into slots so that as few as can be change: one that
// stays keeps its slot, and the last ones fill the gaps.
func keepSlots(old, want []netip.AddrPort) []netip.AddrPort {
	if len(old) == 0 || len(want) == 0 {
		return want
	}
	wanted := make(map[netip.AddrPort]bool, len(want))
	for _, b := range want {
		wanted[b] = true
	}
	slots := make([]netip.AddrPort, len(want))
	for i, b := range old {
		if i < len(slots) && wanted[b] {
			slots[i] = b
			delete(wanted, b)
		}
	}
	next := 0
	for _, b := range want {
		if !wanted[b] {
			continue
		}
		for slots[next].IsValid() {
			next++
		}
		slots[next] = b
	}
	return slots
}

func (r Rule) equal(o Rule) bool {
	return r.Frontend == o.Frontend && r.Cluster == o.Cluster && r.Source == o.Source && r.Affinity == o.Affinity && r.Drop == o.Drop &&
		slices.Equal(r.Backends, o.Backends) && slices.Equal(r.Inside, o.Inside) && slices.Equal(r.Allow, o.Allow)
}

// chain is one that services share.
type chain struct {
	is4      bool
	inside   bool // for clients inside, from slots of their own
	source   Source
	slots    int
	affinity time.Duration
}

func (c chain) String() string {
	name := [...]string{Keep: "keep", HideOutside: "cluster", Hide: "hide"}[c.source]
	if c.inside {
		name = "inside"
	}
	name += family(c.is4) + "-" + fmt.Sprint(c.slots)
	if c.affinity > 0 {
		name += fmt.Sprintf("-%ds", c.affinity/time.Second)
	}
	return name
}

func family(is4 bool) string {
	if is4 {
		return "4"
	}
	return "6"
}
