package steward

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func names(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint("n", i+1)
	}
	return list
}

func keys(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint("Pod/default/web-", i)
	}
	return list
}

// TestRanksAreWhatTheyAlwaysWere: nodes of different versions must agree, so
// the order is part of what is on the wire.
func TestRanksAreWhatTheyAlwaysWere(t *testing.T) {
	for key, want := range map[string][]string{
		"Pod/default/web":             {"n1", "n3", "n2", "n4"},
		"Deployment.apps/default/web": {"n4", "n1", "n3", "n2"},
		"Node/n1":                     {"n1", "n4", "n2", "n3"},
	} {
		if got := Rank(key, names(4)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", key, got, want)
		}
	}
}

func TestARankDoesNotDependOnTheOrderOfMembers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfDistinct(rapid.StringMatching(`[a-z0-9-]{1,8}`), rapid.ID[string]).Draw(t, "members")
		key := rapid.String().Draw(t, "key")
		other := slices.Clone(list)
		rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)).Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
		if a, b := Rank(key, list), Rank(key, other); !slices.Equal(a, b) {
			t.Fatalf("%v and %v", a, b)
		}
		if got := Rank(key, append(slices.Clone(list), list...)); len(got) != len(list) {
			t.Fatalf("named twice: %v", got)
		}
	})
}

func TestLosingAMemberMovesOnlyItsKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := names(rapid.IntRange(1, 12).Draw(t, "members"))
		lost := rapid.SampledFrom(all).Draw(t, "lost")
		rest := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return n == lost })
		for _, key := range keys(50) {
			before, after := Rank(key, all), Rank(key, rest)
			if want := slices.DeleteFunc(before, func(n string) bool { return n == lost }); !slices.Equal(want, after) {
				t.Fatalf("%s: %v, without %s %v", key, want, lost, after)
			}
		}
	})
}

// TestWorkIsSpreadEvenly: 1,000 keys over 10 nodes are 100 each. As many
// throws of a die deviate by 9.5 each (standard deviation); more than four of
// these is no chance. The mean deviation is a few percent of all.
func TestWorkIsSpreadEvenly(t *testing.T) {
	count := make(map[string]float64)
	for _, key := range keys(1000) {
		count[Rank(key, names(10))[0]]++
	}
	var sum float64
	for _, n := range names(10) {
		off := math.Abs(count[n] - 100)
		if sum += off; off > 38 {
			t.Errorf("%s has %v of 1000", n, count[n])
		}
	}
	if sum/1000 > 0.12 {
		t.Errorf("%.1f%% of the keys are not where an even spread has them", sum/10)
	}
	big := make(map[string]float64)
	for _, key := range keys(100_000) {
		big[Steward(key, []Member{{"a", true, false, true}, {"b", true, false, true}, {"c", true, false, true}, {"d", true, false, true}})]++
	}
	for n, c := range big {
		if math.Abs(c-25_000) > 25_000*0.03 {
			t.Errorf("%s has %v of 100000", n, c)
		}
	}
}

func TestTheStewardIsTheFirstInRankThatCanDecide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var members []Member
		var all []string
		able := make(map[string]bool)
		for _, name := range names(rapid.IntRange(0, 6).Draw(t, "members")) {
			m := Member{name, rapid.Bool().Draw(t, "alive"), rapid.Bool().Draw(t, "leaving"), rapid.Bool().Draw(t, "ready")}
			members, all = append(members, m), append(all, name)
			able[name] = m.Alive && !m.Leaving && m.Ready
		}
		key := rapid.SampledFrom(keys(20)).Draw(t, "key")
		want := ""
		for _, name := range slices.Backward(Rank(key, all)) {
			if able[name] {
				want = name
			}
		}
		if got := Steward(key, members); got != want {
			t.Fatalf("got %q, want %q of %+v", got, want, members)
		}
	})
}

func BenchmarkSteward100(b *testing.B) {
	var members []Member
	for _, name := range names(100) {
		members = append(members, Member{name, true, false, true})
	}
	for b.Loop() {
		Steward("Pod/default/web-1", members)
	}
}
