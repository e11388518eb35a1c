package podcidr

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestRangesOfASpace(t *testing.T) {
	for _, c := range []struct {
		prefix      string
		mask        int
		ranges      int
		second, end string
	}{
		{"10.244.0.0/16", 24, 256, "10.244.1.0/24", "10.244.255.0/24"},
		{"10.244.0.0/16", 26, 1024, "10.244.0.64/26", "10.244.255.192/26"},
		{"10.0.0.0/8", 24, 65536, "10.0.1.0/24", "10.255.255.0/24"},
		{"172.16.0.0/12", 20, 256, "172.16.16.0/20", "172.31.240.0/20"},
		{"fd00:10:244::/48", 64, 65536, "fd00:10:244:1::/64", "fd00:10:244:ffff::/64"},
		{"fd00::/61", 64, 8, "fd00:0:0:1::/64", "fd00:0:0:7::/64"},
		{"10.1.2.0/24", 24, 1, "", "10.1.2.0/24"},
	} {
		s := Space{prefix(c.prefix), c.mask}
		if err := s.Validate(); err != nil {
			t.Error(err)
		}
		got := fmt.Sprint(s.Ranges(), s.nth(s.Ranges()-1))
		if want := fmt.Sprint(c.ranges, prefix(c.end)); got != want {
			t.Errorf("%s by /%d: got %s, want %s", c.prefix, c.mask, got, want)
		}
		if c.second != "" && s.nth(1) != prefix(c.second) {
			t.Errorf("%s by /%d: the second is %v, want %s", c.prefix, c.mask, s.nth(1), c.second)
		}
	}
}

func TestEachRangeIsHeldAndOverlapsNoOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(0, 24).Draw(t, "bits")
		mask := bits + rapid.IntRange(0, min(16, 30-bits)).Draw(t, "more")
		s := Space{netip.PrefixFrom(netip.MustParseAddr("10.244.0.0"), bits).Masked(), mask}
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		a := rapid.IntRange(0, s.Ranges()-1).Draw(t, "a")
		b := rapid.IntRange(0, s.Ranges()-1).Draw(t, "b")
		if !s.Holds(s.nth(a)) || (a != b) == s.nth(a).Overlaps(s.nth(b)) {
			t.Fatalf("%v by /%d: %d is %v, %d is %v", s.Prefix, s.Mask, a, s.nth(a), b, s.nth(b))
		}
	})
}

func TestSpacesThatCannotBeCutSayWhy(t *testing.T) {
	for _, c := range []struct {
		space Space
		want  string
	}{
		{Space{prefix("10.244.0.0/26"), 24}, "too small for even one node's /24"},
		{Space{prefix("10.0.0.0/8"), 25}, "more than 65536 ranges of /25: want /24"},
		{Space{prefix("10.0.0.0/24"), 31}, "no room for a gateway and a pod: want at most /30"},
		{Space{netip.Prefix{}, 24}, "is not a prefix"},
	} {
		if err := c.space.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want %q", c.space, err, c.want)
		}
	}
}

func TestAClaimAvoidsOthersAndTheHostsNetworks(t *testing.T) {
	s := Space{prefix("10.244.0.0/22"), 24}
	others := []Claim{{Node: "b", CIDR: prefix("10.244.0.0/24"), Since: 100}, {Node: "me", CIDR: prefix("10.244.1.0/24"), Since: 5}}
	avoid := []netip.Prefix{prefix("10.244.2.64/26"), prefix("192.168.0.0/16")}
	seen := map[netip.Prefix]bool{}
	for i := range 50 {
		c, err := Next(s, fmt.Sprint("node", i), others, avoid, 50)
		if err != nil {
			t.Fatal(err)
		}
		if c.Since != 101 {
			t.Fatalf("claimed at %d, want 101: after all that are known", c.Since)
		}
		seen[c.CIDR] = true
	}
	if len(seen) != 1 || !seen[prefix("10.244.3.0/24")] {
		t.Errorf("got %v, want 10.244.3.0/24 alone", seen)
	}
	_, err := Next(s, "me", []Claim{{Node: "b", CIDR: prefix("10.244.0.0/23")}}, []netip.Prefix{prefix("10.244.2.0/23")}, 0)
	want := "cluster CIDR 10.244.0.0/22: all 4 ranges of /24 are taken by other nodes or overlap this host's own networks; set a larger one, or a longer prefix for each node, or forget nodes that are gone"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// world is nodes that hear of each other late, or not at all.
type world struct {
	space Space
	nodes map[string]*member
	clock int64
}

type member struct {
	claim Claim            // zero: it could not have any
	heard map[string]Claim // of others, as it heard last
	skew  int64
	fixed netip.Prefix
}

func (w *world) others(name string) (list []Claim) {
	for node, c := range w.nodes[name].heard {
		if node != name && c.CIDR.IsValid() {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b Claim) int { return strings.Compare(a.Node, b.Node) })
	return list
}

// decide is what the daemon does with what it heard. It says whether it moved.
func (w *world) decide(name string) bool {
	m, others := w.nodes[name], w.others(name)
	now := w.clock + m.skew
	if m.claim.CIDR.IsValid() {
		if _, loses := Loses(m.claim, others); !loses {
			return false
		}
	}
	old := m.claim
	m.claim = Claim{}
	if m.fixed.IsValid() && !old.Fixed {
		c := Claim{Node: name, CIDR: m.fixed, Since: Since(others, now), Fixed: true}
		if _, loses := Loses(c, others); !loses {
			m.claim = c
			return true
		}
	}
	c, err := Next(w.space, name, others, nil, now)
	if err == nil {
		m.claim = c
	}
	return m.claim != old
}

func (w *world) hear(who, of string) { w.nodes[who].heard[of] = w.nodes[of].claim }

func TestNoTwoNodesKeepOverlappingRangesOnceViewsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{space: Space{prefix("10.244.0.0/21"), 24}, nodes: map[string]*member{}, clock: 1000}
		name := func(t *rapid.T) string { return rapid.StringMatching(`[a-f]`).Draw(t, "node") }
		fixed := []netip.Prefix{{}, {}, {}, prefix("10.244.1.0/24"), prefix("10.244.2.0/23")}
		t.Repeat(map[string]func(*rapid.T){
			"a node starts, or starts with an empty disk": func(t *rapid.T) {
				n := name(t)
				w.clock += 10
				w.nodes[n] = &member{
					heard: map[string]Claim{}, skew: rapid.Int64Range(-5000, 5000).Draw(t, "skew"),
					fixed: rapid.SampledFrom(fixed).Draw(t, "fixed"),
				}
				w.decide(n)
			},
			"one hears of another": func(t *rapid.T) {
				a, b := name(t), name(t)
				if w.nodes[a] != nil && w.nodes[b] != nil {
					w.hear(a, b)
				}
			},
			"one looks": func(t *rapid.T) {
				w.clock++
				if n := name(t); w.nodes[n] != nil {
					w.decide(n)
				}
			},
			"one is forgotten": func(t *rapid.T) {
				n := name(t)
				delete(w.nodes, n)
				for _, m := range w.nodes {
					delete(m.heard, n)
				}
			},
		})
		w.agree(t)
	})
}

// agree lets all hear of all and look, until nothing moves.
func (w *world) agree(t *rapid.T) {
	for round := 0; ; round++ {
		if round > 2*len(w.nodes)+2 {
			t.Fatalf("no peace after %d rounds", round)
		}
		for a := range w.nodes {
			for b := range w.nodes {
				w.hear(a, b)
			}
		}
		moved := false
		for a := range w.nodes { // all at once: each by what it heard before
			moved = w.decide(a) || moved
		}
		if !moved {
			break
		}
	}
	for a, m := range w.nodes {
		if !m.claim.CIDR.IsValid() {
			t.Fatalf("node %s has no range, with %d nodes and 8 ranges", a, len(w.nodes))
		}
		for b, o := range w.nodes {
			if a < b && m.claim.CIDR.Overlaps(o.claim.CIDR) {
				t.Fatalf("%s has %v and %s has %v", a, m.claim, b, o.claim)
			}
		}
	}
}

func TestWhoWasFirstKeepsItsRangeWhoeverJoins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := Claim{Node: "the first", CIDR: prefix("10.244.3.0/24"), Since: 10}
		var others []Claim
		for i := range rapid.IntRange(1, 20).Draw(t, "others") {
			others = append(others, Claim{Node: fmt.Sprint("n", i), Since: rapid.Int64Range(11, 99).Draw(t, "since"),
				CIDR: Space{prefix("10.244.0.0/20"), 24}.nth(rapid.IntRange(0, 15).Draw(t, "range"))})
		}
		if to, loses := Loses(first, others); loses {
			t.Fatalf("%v gives way to %v", first, to)
		}
	})
}

func TestAConfiguredRangeComesBeforeOlderClaims(t *testing.T) {
	fixed := Claim{Node: "b", CIDR: prefix("10.244.3.0/24"), Since: 99, Fixed: true}
	claimed := Claim{Node: "a", CIDR: prefix("10.244.3.0/24"), Since: 1}
	if _, loses := Loses(fixed, []Claim{claimed}); loses {
		t.Error("the configured range gives way")
	}
	if to, loses := Loses(claimed, []Claim{fixed}); !loses || to != fixed {
		t.Error("the claimed range does not give way to the configured one")
	}
}
