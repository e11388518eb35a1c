package steward

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/shoal-project/shoal/daemon/record"
)

func TestSettle(t *testing.T) {
	n1 := Decision{Steward: "s1", Term: 1, Stamp: 10, UID: "u1", Node: "n1"}
	with := func(d Decision, change func(*Decision)) Decision { change(&d); return d }
	later := with(n1, func(d *Decision) { d.Steward, d.Stamp, d.UID, d.Node = "s2", 11, "u2", "n2" })
	higher := with(later, func(d *Decision) { d.Term, d.Stamp = 2, 5 })
	moved := with(higher, func(d *Decision) { d.UID = "u1" })
	for _, c := range []struct {
		name      string
		decisions []Decision
		admitted  []Binding
		want      Decision
	}{
		{"one alone", []Decision{n1}, nil, n1},
		{"in one term the later stamp counts", []Decision{n1, later}, nil, later},
		{"of equal stamps the node", []Decision{n1, with(later, func(d *Decision) { d.Stamp = 10 })}, nil, with(later, func(d *Decision) { d.Stamp = 10 })},
		{"a higher term counts, whatever its stamp", []Decision{n1, higher}, nil, higher},
		{"in one term what was admitted counts", []Decision{n1, later}, []Binding{{"u1", "n1"}}, n1},
		{"admitted by another node than it is bound to is not admitted", []Decision{n1, later}, []Binding{{"u1", "n2"}}, later},
		{"another object of a higher term replaces one that was admitted", []Decision{n1, higher}, []Binding{{"u1", "n1"}}, higher},
		{"one that was admitted is not moved by a higher term", []Decision{n1, moved}, []Binding{{"u1", "n1"}}, n1},
		{"one that nobody admitted is", []Decision{n1, moved}, nil, moved},
		{"admitted twice, the larger counts", []Decision{n1, moved}, []Binding{{"u1", "n1"}, {"u1", "n2"}}, moved},
		{"that there is none is a decision", []Decision{n1, with(higher, func(d *Decision) { d.UID, d.Node = "", "" })}, []Binding{{"u1", "n1"}},
			with(higher, func(d *Decision) { d.UID, d.Node = "", "" })},
	} {
		admitted := make(map[Binding]bool)
		for _, b := range c.admitted {
			admitted[b] = true
		}
		for range 2 {
			if got, ok := Settle(c.decisions, admitted); !ok || got != c.want {
				t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
			}
			slices.Reverse(c.decisions)
		}
	}
	if _, ok := Settle(nil, nil); ok {
		t.Error("something is settled of nothing")
	}
}

func TestTheNextStewardSaysTheSameInAHigherTerm(t *testing.T) {
	decisions := []Decision{{"s1", 4, 10, "u1", "n1"}}
	verb, d := TakeOver("s2", "s2", decisions, nil)
	if want := (Decision{Steward: "s2", Term: 5, UID: "u1", Node: "n1"}); verb != Republish || d != want {
		t.Fatalf("got %v %+v, want republish %+v", verb, d, want)
	}
	d.Stamp = 3 // by a clock that is behind
	decisions = append(decisions, d)
	for me, want := range map[string]Verb{"s1": Withdraw, "s2": Keep, "s3": Keep} {
		if got, _ := TakeOver(me, "s2", decisions, nil); got != want {
			t.Errorf("%s: got %v, want %v", me, got, want)
		}
	}
	other := Decision{"s3", 5, 4, "u2", "n2"} // who took over at the same time
	for me, want := range map[string]Verb{"s1": Withdraw, "s2": Keep, "s3": Keep, "s4": Republish} {
		if got, _ := TakeOver(me, "s4", append(decisions, other), nil); got != want {
			t.Errorf("while s4 has not taken over, %s: got %v, want %v", me, got, want)
		}
	}
	if !Ended("s2", decisions) || Ended("s2", decisions[1:]) {
		t.Error("what another record would bring back is to be remembered as ended, and no longer than that")
	}
}

// said is what one node's record says: of the one key there is, and of what
// runs on the node.
type said struct {
	seq      int
	decision *Decision
	admitted map[string]bool // UIDs
}

// host is a node: its copies of all records, its own among them, and whom it
// sees alive.
type host struct {
	name    string
	records map[string]said
	alive   map[string]bool
}

func (h *host) seen() (list []Decision, admitted map[Binding]bool) {
	admitted = make(map[Binding]bool)
	for _, name := range slices.Sorted(maps.Keys(h.records)) {
		s := h.records[name]
		if s.decision != nil {
			list = append(list, *s.decision)
		}
		for uid := range s.admitted {
			admitted[Binding{uid, name}] = true
		}
	}
	return list, admitted
}

func (h *host) publish(change func(*said)) {
	s := h.records[h.name]
	s.admitted = maps.Clone(s.admitted)
	if s.admitted == nil {
		s.admitted = make(map[string]bool)
	}
	s.seq++
	change(&s)
	h.records[h.name] = s
}

// act is one turn of a node as steward and as the one that runs things. It
// says whether there was anything to do.
func (h *host) act(stamp record.Stamp, bindTo string) bool {
	var members []Member
	for name, alive := range h.alive {
		members = append(members, Member{Name: name, Alive: alive, Ready: true})
	}
	steward := Steward("Pod/default/web", members)
	decisions, admitted := h.seen()
	verb, d := TakeOver(h.name, steward, decisions, admitted)
	did := verb != Keep
	switch {
	case verb == Republish:
		d.Stamp = stamp
		h.publish(func(s *said) { s.decision = &d })
	case verb == Withdraw:
		h.publish(func(s *said) { s.decision = nil })
	case len(decisions) == 0 && steward == h.name:
		did = true
		h.publish(func(s *said) {
			s.decision = &Decision{Steward: h.name, Term: Term(decisions), Stamp: stamp, UID: fmt.Sprint("u", stamp), Node: bindTo}
		})
	}
	decisions, admitted = h.seen()
	settled, _ := Settle(decisions, admitted)
	for uid := range h.records[h.name].admitted {
		if uid != settled.UID || settled.Node != h.name {
			h.publish(func(s *said) { delete(s.admitted, uid) })
			did = true
		}
	}
	if settled.Node == h.name && !h.records[h.name].admitted[settled.UID] {
		h.publish(func(s *said) { s.admitted[settled.UID] = true })
		did = true
	}
	return did
}

// hear takes over what another host has, if it is newer.
func (h *host) hear(from *host, of string) {
	if s := from.records[of]; s.seq > h.records[of].seq {
		h.records[of] = s
	}
}

// deciding is how many nodes' records have a decision.
func deciding(hosts []*host) (n int) {
	for _, h := range hosts {
		if h.records[h.name].decision != nil {
			n++
		}
	}
	return n
}

// TestStewardsThatActAtOnceSettleTheSameWay: hosts that see different members,
// hear of records in any order and late, decide, admit and end. When all are in
// sight again there is one decision, which all hold for settled, and its object
// runs on one node.
func TestStewardsThatActAtOnceSettleTheSameWay(t *testing.T) {
	var contested int
	rapid.Check(t, func(t *rapid.T) {
		var hosts []*host
		all := names(rapid.IntRange(2, 5).Draw(t, "hosts"))
		for _, name := range all {
			h := &host{name, make(map[string]said), make(map[string]bool)}
			for _, n := range all {
				h.alive[n] = true
			}
			hosts = append(hosts, h)
		}
		pick := func(what string) *host { return rapid.SampledFrom(hosts).Draw(t, what) }
		stamp, most := record.Stamp(100), 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				pick("to").hear(pick("from"), rapid.SampledFrom(all).Draw(t, "of"))
			case 1:
				h, other := pick("who"), rapid.SampledFrom(all).Draw(t, "sees")
				h.alive[other] = other == h.name || !h.alive[other]
			default:
				stamp++ // a clock is up to 50 behind or ahead, and no two stamps of it are equal
				h := pick("acts")
				h.act(stamp*10+record.Stamp(500*slices.Index(all, h.name)), rapid.SampledFrom(all).Draw(t, "bind to"))
			}
			most = max(most, deciding(hosts))
		}
		var decided []string // UIDs
		for _, h := range hosts {
			if d := h.records[h.name].decision; d != nil {
				decided = append(decided, d.UID)
			}
			for _, n := range all {
				h.alive[n] = true
			}
		}
		if most > 1 {
			contested++
		}
		order := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 0))
		for round := 0; ; round++ {
			busy := false
			for _, i := range order.Perm(len(hosts)) {
				for _, from := range hosts {
					before := maps.Clone(hosts[i].records)
					for _, of := range all {
						hosts[i].hear(from, of)
					}
					busy = busy || !reflect.DeepEqual(before, hosts[i].records)
				}
				stamp++
				busy = hosts[i].act(stamp*10, all[0]) || busy
			}
			if !busy {
				break
			}
			if round > 20 {
				t.Fatalf("never at rest: %+v", hosts[0].records)
			}
		}
		agreed, admitted := hosts[0].seen()
		if len(agreed) != 1 || len(admitted) != 1 || !admitted[Binding{agreed[0].UID, agreed[0].Node}] {
			t.Fatalf("decided %+v, runs %v", agreed, admitted)
		}
		if len(decided) > 0 && !slices.Contains(decided, agreed[0].UID) {
			t.Fatalf("of %v %+v is left", decided, agreed)
		}
		for _, h := range hosts[1:] {
			if d, a := h.seen(); !reflect.DeepEqual(d, agreed) || !reflect.DeepEqual(a, admitted) {
				t.Fatalf("%s has %+v %v\nnot %+v %v", h.name, d, a, agreed, admitted)
			}
		}
	})
	if contested == 0 && !testing.Short() { // with -short there are 20 cases
		t.Error("never did two nodes decide at once: the test shows nothing")
	}
}

// TestAnObjectThatRunsStaysWhereItIs: whoever dies of the stewards, and in
// whatever order, one after another takes over the UID and the binding.
func TestAnObjectThatRunsStaysWhereItIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := names(6)
		decisions := map[string]Decision{"n1": {"n1", 1, 50, "u1", "n6"}}
		admitted := map[Binding]bool{{"u1", "n6"}: true}
		for i := range rapid.IntRange(1, 10).Draw(t, "times") {
			me := rapid.SampledFrom(all).Draw(t, "steward")
			list := slices.Collect(maps.Values(decisions))
			verb, d := TakeOver(me, me, list, admitted)
			if before, _ := Settle(list, admitted); verb == Republish {
				if d.Term <= before.Term || d.UID != "u1" || d.Node != "n6" {
					t.Fatalf("after %+v comes %+v", before, d)
				}
				d.Stamp = record.Stamp(rapid.IntRange(0, 100).Draw(t, fmt.Sprint("stamp", i)))
				decisions[me] = d
			} else if before.Steward != me {
				t.Fatalf("%s does not take over %+v: %v", me, before, verb)
			}
		}
	})
}
