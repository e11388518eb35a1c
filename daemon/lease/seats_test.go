package lease

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// parse reads members: "a* b! c(z) d- e+" are a witness, a dead one, one in
// zone z, one that left, and one that runs no pods. Marks combine.
func parse(text string) (members []Member) {
	for _, word := range strings.Fields(text) {
		m := Member{ID: word[:1], Node: word[:1], Alive: true}
		if open := strings.Index(word, "("); open > 0 {
			m.Zone = word[open+1 : len(word)-1]
			word = word[:open]
		}
		m.Witness, m.Only = strings.Contains(word, "*"), strings.Contains(word, "+")
		m.Left = strings.Contains(word, "-")
		m.Alive = !strings.Contains(word, "!") && !m.Left
		members = append(members, m)
	}
	return members
}

func ids(members []Member) (text string) {
	for _, m := range members {
		text += m.ID
	}
	return text
}

func TestWhoWitnesses(t *testing.T) {
	for _, test := range []struct{ name, members, add, remove string }{
		{"one grows to all of three", "a* b c", "bc", ""},
		{"five seats are filled and no more", "a* b c d e f g", "bcde", ""},
		{"who has a seat keeps it", "c* d* e* f* g* a b", "", ""},
		{"zones without a witness come first", "a*(x) b(x) c(y) d(z) e(x) f(y)", "cdbf", ""},
		{"hosts without pods come first", "a* b c+ d e f g", "cbde", ""},
		{"a lost one is replaced", "a* b* c*! d", "d", "c"},
		{"a lost one without a replacement keeps its vote", "a* b* c*!", "", ""},
		{"of two lost ones with one replacement one keeps its vote", "a* b* c* d*! e*! f", "f", "d"},
		{"two hosts do not become one", "a* b*!", "", ""},
		{"who left loses its vote", "a* b* c*-", "", "c"},
		{"the dead and the gone get no seat", "a* b! c-", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			members := parse(test.members)
			got := Choose(members)
			if ids(got.Add) != test.add || ids(got.Remove) != test.remove {
				t.Errorf("add %q, remove %q, want %q, %q", ids(got.Add), ids(got.Remove), test.add, test.remove)
			}
			slices.Reverse(members)
			if again := Choose(members); fmt.Sprint(again) != fmt.Sprint(got) {
				t.Errorf("the order of members matters: %v, %v", again, got)
			}
		})
	}
}

func TestAHostWithANewDiskTakesItsOldSeat(t *testing.T) {
	members := parse("a* b* c*! d")
	members[3].Node = "c"
	if got := Choose(members); ids(got.Add) != "d" || ids(got.Remove) != "c" {
		t.Errorf("got %+v", got)
	}
}

func TestHowWitnessesBegin(t *testing.T) {
	three := parse("a b c")
	other := slices.Clone(three)
	other[2].Cluster = "x"
	for _, test := range []struct {
		name    string
		joins   bool
		expect  int
		members []Member
		want    Beginning
		with    string
	}{
		{"a host that joins nobody is its own", false, 3, three, Alone, "a"},
		{"too few wait", true, 3, three[:2], Wait, ""},
		{"enough begin together", true, 3, three, Bootstrap, "abc"},
		{"more than expected wait: others may see other ones", true, 2, three, Wait, ""},
		{"of many five begin", true, 7, parse("g f e d c b a"), Bootstrap, "abcde"},
		{"nobody begins unless told how many", true, 0, three, Wait, ""},
		{"where there are witnesses one waits to be added", true, 3, other, Wait, ""},
	} {
		got, with := Begin(three[0], test.joins, test.expect, test.members)
		if got != test.want || ids(with) != test.with {
			t.Errorf("%s: got %v with %q, want %v with %q", test.name, got, ids(with), test.want, test.with)
		}
	}
}

func TestALoneWitnessJoinsOthersOnlyWithEmptyHands(t *testing.T) {
	s := NewState()
	if err := Yield(s); err != nil {
		t.Error(err)
	}
	s.Apply(1, register("a", "s1"))
	if Yield(s) == nil {
		t.Error("yielded with a lease")
	}
	pinned := acquire("a", 1, 1)
	pinned.Pinned = true
	s.Apply(1, pinned)
	s.Apply(1, Command{Do: Resign, Node: "a", Epoch: 1})
	if err := Yield(s); err == nil || !strings.Contains(err.Error(), "k is held by a") {
		t.Errorf("yielded with a pinned claim: %v", err)
	}
}
