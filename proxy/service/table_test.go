package service

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
)

var onHost = netip.MustParsePrefix("10.244.7.0/24").Contains

func at(texts ...string) (list []netip.AddrPort) {
	for _, t := range texts {
		list = append(list, netip.MustParseAddrPort(t))
	}
	return list
}

// A service that changes touches its own elements alone, and few of them.
func TestAChangeIsAsSmallAsItCanBe(t *testing.T) {
	table := NewTable(onHost)
	web := Key{"default", "web"}
	rule := Rule{Frontend: front("10.96.0.10", v1.ProtocolTCP, 80), Cluster: true, Source: HideOutside}
	for i, step := range []struct {
		backends []netip.AddrPort
		want     string
	}{
		{nil, `cluster-ips4 10.96.0.10
refused4 10.96.0.10:80/TCP
`},
		{at("10.244.1.2:80", "10.244.1.3:80", "10.244.7.2:80"), `- refused4 10.96.0.10:80/TCP
chain cluster4-3
endpoints4 10.96.0.10:80/TCP #0 -> 10.244.1.2:80
endpoints4 10.96.0.10:80/TCP #1 -> 10.244.1.3:80
endpoints4 10.96.0.10:80/TCP #2 -> 10.244.7.2:80
hairpin4 10.244.7.2
services4 10.96.0.10:80/TCP -> cluster4-3
`},
		{at("10.244.1.2:80", "10.244.1.3:80", "10.244.7.2:80"), ""},
		{at("10.244.1.3:80", "10.244.7.2:80"), `- chain cluster4-3
- endpoints4 10.96.0.10:80/TCP #0 -> 10.244.1.2:80
- endpoints4 10.96.0.10:80/TCP #2 -> 10.244.7.2:80
- services4 10.96.0.10:80/TCP -> cluster4-3
chain cluster4-2
endpoints4 10.96.0.10:80/TCP #0 -> 10.244.7.2:80
services4 10.96.0.10:80/TCP -> cluster4-2
`},
		{at("10.244.1.9:80", "10.244.7.2:80"), `- endpoints4 10.96.0.10:80/TCP #1 -> 10.244.1.3:80
endpoints4 10.96.0.10:80/TCP #1 -> 10.244.1.9:80
`},
	} {
		var c Change
		rule.Backends = step.backends
		table.Set(web, Wish{Rules: []Rule{rule}}, &c)
		if got := c.String(); got != step.want {
			t.Errorf("step %d:\n%swant:\n%s", i, got, step.want)
		}
	}
	var c Change
	table.Set(web, Wish{}, &c)
	if left := table.String(); left != "" {
		t.Errorf("left when the last service is gone:\n%s", left)
	}
}

func TestTheOlderServiceHasAFrontend(t *testing.T) {
	table := NewTable(onHost)
	shared := front("203.0.113.7", v1.ProtocolTCP, 80)
	rule := func(backend string) []Rule { return []Rule{{Frontend: shared, Backends: at(backend)}} }
	old, young := Key{"default", "old"}, Key{"default", "young"}
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	table.Set(young, Wish{noon.Add(time.Hour), rule("10.244.1.3:80")}, nil)
	table.Set(old, Wish{noon, rule("10.244.1.2:80")}, nil)
	if h, _ := table.Holder(shared); h != old || !slices.Equal(table.Lost(young), []Frontend{shared}) || table.Lost(old) != nil {
		t.Errorf("%v has it; young lost %v", h, table.Lost(young))
	}
	if got, want := table.String(), "chain keep4-1\nendpoints4 203.0.113.7:80/TCP #0 -> 10.244.1.2:80\nservices4 203.0.113.7:80/TCP -> keep4-1\n"; got != want {
		t.Errorf("got\n%s", got)
	}
	table.Set(old, Wish{}, nil)
	if h, _ := table.Holder(shared); h != young || table.Lost(young) != nil {
		t.Errorf("%v has it after the old one went", h)
	}
}

// Whatever services come to be, in whatever order: the changes add up to the
// table, and the table is that of one that was told the end alone, but for the
// order of slots.
func TestChangesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := NewTable(onHost)
		kernel := make(map[string]bool) // what all changes have made of an empty one
		last := make(map[Key]Wish)
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			key := Key{"default", rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "service")}
			w := drawWish(t)
			last[key] = w
			var c Change
			table.Set(key, w, &c)
			follow(t, kernel, &c)
		}
		var whole Change
		table.each(func(ch chain) { whole.chain(ch, 1) }, func(e element) { whole.element(e, 1) })
		want := make(map[string]bool)
		follow(t, want, &whole)
		if fmt.Sprint(kernel) != fmt.Sprint(want) {
			t.Fatalf("changes add up to\n%v\nthe table is\n%s", kernel, table)
		}
		direct := NewTable(onHost)
		for key, w := range last {
			direct.Set(key, w, nil)
		}
		for f, r := range direct.rules {
			got := table.rules[f]
			if !got.Rule.equal(r.Rule) || len(got.slots) != len(r.Backends) || !same(got.slots, r.Backends) || !same(got.inside, r.Inside) {
				t.Fatalf("%v: %v in slots %v, want %v", f, got.Rule, got.slots, r.Rule)
			}
		}
		if len(direct.rules) != len(table.rules) || len(direct.chains) != len(table.chains) || len(direct.shared) != len(table.shared) {
			t.Fatalf("got\n%s\nwant\n%s", table, direct)
		}
	})
}

func same(a, b []netip.AddrPort) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, netip.AddrPort.Compare)
	slices.SortFunc(b, netip.AddrPort.Compare)
	return slices.Equal(a, b)
}

// follow does to a model of the kernel what a change says, and fails where the
// kernel would refuse it.
func follow(t *rapid.T, kernel map[string]bool, c *Change) {
	for _, by := range []int{-1, 1} {
		for e, b := range c.elements {
			switch {
			case b != by:
			case kernel[e.String()] == (by > 0):
				t.Fatalf("%d %v: it is there: %v", by, e, kernel[e.String()])
			case by > 0:
				kernel[e.String()] = true
			default:
				delete(kernel, e.String())
			}
		}
	}
	for ch, b := range c.chains {
		if b > 0 {
			kernel["chain "+ch.String()] = true
		} else if b < 0 {
			delete(kernel, "chain "+ch.String())
		}
	}
}

func drawWish(t *rapid.T) Wish {
	w := Wish{Created: time.Unix(int64(rapid.IntRange(0, 2).Draw(t, "created")), 0)}
	addrs := []string{"10.96.0.1", "10.96.0.2", "203.0.113.7"}
	seen := make(map[Frontend]bool)
	for range rapid.IntRange(0, 3).Draw(t, "rules") {
		f := front(rapid.SampledFrom(addrs).Draw(t, "addr"), v1.ProtocolTCP, uint16(rapid.IntRange(80, 81).Draw(t, "port")))
		if seen[f] {
			continue
		}
		seen[f] = true
		draw := func(label string) (list []netip.AddrPort) {
			for i := range 5 {
				if rapid.Bool().Draw(t, label) {
					list = append(list, netip.MustParseAddrPort(fmt.Sprintf("10.244.%d.2:80", i+4)))
				}
			}
			return list
		}
		r := Rule{Frontend: f, Cluster: f.Addr.String() != "203.0.113.7", Backends: draw("backend"), Source: Source(rapid.IntRange(0, 2).Draw(t, "source"))}
		if rapid.Bool().Draw(t, "sticky") {
			r.Affinity = time.Minute
		}
		if rapid.Bool().Draw(t, "inside") {
			r.Inside = draw("inner")
		}
		r.Drop = rapid.Bool().Draw(t, "drop")
		w.Rules = append(w.Rules, r)
	}
	return w
}

// Endpoints that stay keep their slots, so that a change of one is a change of
// three elements at most.
func TestSlotsStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewPCG(uint64(rapid.IntRange(0, 1<<30).Draw(t, "seed")), 1))
		draw := func() (list []netip.AddrPort) {
			for i := range 12 {
				if random.IntN(2) == 0 {
					list = append(list, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, byte(i)}), 80))
				}
			}
			return list
		}
		old, want := keepSlots(nil, draw()), draw()
		now := keepSlots(old, want)
		if !same(now, want) {
			t.Fatalf("%v in slots %v", want, now)
		}
		for i, b := range old {
			if i < len(now) && slices.Contains(want, b) && now[i] != b {
				t.Fatalf("%v went from slot %d, where %v is now", b, i, now[i])
			}
		}
	})
}
