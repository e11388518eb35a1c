package userns

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestThePoolIsWhatSubordinateIDsGive(t *testing.T) {
	none := "root:100000:65536\n"
	for _, c := range []struct {
		name, subuid, subgid string
		perPod               uint32
		want                 Pool
		wrong                string
	}{
		{name: "default", subuid: none, perPod: Unit, want: Pool{1879048192, 268304384, Unit}},
		{name: "default, more for each", perPod: 2 * Unit, want: Pool{1879048192, 268304384, 2 * Unit}},
		{name: "given", subuid: none + "shoal:655360:131072\n", subgid: "shoal:655360:131072\n", perPod: Unit, want: Pool{655360, 131072, Unit}},
		{name: "begins between multiples", subuid: "shoal:100000:200000", subgid: "shoal:100000:200000", perPod: Unit, want: Pool{131072, 131072, Unit}},
		{name: "never the host's own", subuid: "shoal:0:196608", subgid: "shoal:0:196608", perPod: Unit, want: Pool{65536, 131072, Unit}},
		{name: "to the end", subuid: "shoal:4294836224:131071", subgid: "shoal:4294836224:131071", perPod: Unit, want: Pool{4294836224, 65536, Unit}},
		{name: "too short", subuid: "shoal:100000:65536", subgid: "shoal:100000:65536", perPod: Unit, wrong: "not one pod's 65536"},
		{name: "differ", subuid: "shoal:655360:65536", perPod: Unit, wrong: "different IDs"},
		{name: "two blocks", subuid: "shoal:655360:65536\nshoal:1655360:65536", subgid: "shoal:655360:65536\nshoal:1655360:65536", perPod: Unit, wrong: "2 blocks"},
		{name: "no count", subuid: none + "shoal:655360", perPod: Unit, wrong: "/etc/subuid:2: want shoal:FIRST:COUNT"},
		{name: "beyond the last ID", subgid: "shoal:4294901760:65536", perPod: Unit, wrong: "/etc/subgid:1"},
		{name: "negative", subuid: "shoal:-1:65536", perPod: Unit, wrong: "/etc/subuid:1"},
		{name: "odd length", perPod: 1000, wrong: "multiple of 65536"},
		{name: "no length", perPod: 0, wrong: "multiple of 65536"},
	} {
		got, err := NewPool([]byte(c.subuid), []byte(c.subgid), "shoal", c.perPod)
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: got error %v, want one with %q", c.name, err, c.wrong)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s: got %v, %v, want %v", c.name, got, err, c.want)
		}
	}
}

func TestTheLowestFreeRangeIsNext(t *testing.T) {
	p := Pool{First: 10 * Unit, Length: 3 * Unit, PerPod: Unit}
	for _, c := range []struct {
		used []Range
		want uint32 // 0: none
	}{
		{nil, 10 * Unit},
		{[]Range{{10 * Unit, Unit}}, 11 * Unit},
		{[]Range{{11 * Unit, Unit}, {10 * Unit, Unit}}, 12 * Unit},
		{[]Range{{10 * Unit, Unit}, {12 * Unit, Unit}}, 11 * Unit},
		{[]Range{{9*Unit + 1, Unit}}, 11 * Unit},                  // of another pool, into this one
		{[]Range{{5 * Unit, 6 * Unit}, {6 * Unit, 1}}, 11 * Unit}, // one within another
		{[]Range{{10 * Unit, Unit}, {11 * Unit, 2 * Unit}}, 0},    // longer ones
		{[]Range{{1, Unit}, {20 * Unit, Unit}}, 10 * Unit},        // elsewhere
		{[]Range{{10 * Unit, 5}, {10*Unit + 9, 1}}, 11 * Unit},    // two in one
		{[]Range{{12*Unit - 1, 1}, {10 * Unit, 1}}, 12 * Unit},    // the last ID counts
		{[]Range{{13 * Unit, Unit}, {10*Unit - 1, 1}}, 10 * Unit}, // next to it does not
	} {
		got, err := p.Next(c.used)
		if c.want == 0 {
			if !errors.Is(err, ErrFull) {
				t.Errorf("used %v: got %v, %v, want ErrFull", c.used, got, err)
			}
			continue
		}
		if err != nil || got != (Range{c.want, Unit}) {
			t.Errorf("used %v: got %v, %v, want %d", c.used, got, err, c.want)
		}
	}
}

// Whatever pods come and go, also while the pool changes, no two have an ID in
// common and none has one of the host's own, and a range is refused only when
// none is free.
func TestNoTwoPodsShareAnID(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		p := Pool{First: Unit * (1 + rnd.Uint32N(20)), PerPod: Unit * (1 + rnd.Uint32N(3))}
		p.Length = p.PerPod * (1 + rnd.Uint32N(12))
		var used []Range
		for range 60 {
			if len(used) > 0 && rnd.IntN(3) == 0 {
				i := rnd.IntN(len(used))
				used = append(used[:i], used[i+1:]...)
				continue
			}
			if rnd.IntN(20) == 0 {
				p.First += Unit * rnd.Uint32N(4)
			}
			r, err := p.Next(used)
			free := freeIn(p, used)
			if err != nil {
				if free {
					t.Fatalf("seed %d: %+v refuses with %v in use: %v", seed, p, used, err)
				}
				continue
			}
			if r.First < Unit || r.Length != p.PerPod || r.First < p.First || r.First+r.Length > p.First+p.Length {
				t.Fatalf("seed %d: %+v gives %v", seed, p, r)
			}
			for _, o := range used {
				for _, id := range []uint32{r.First, r.First + r.Length/2, r.First + r.Length - 1} {
					if id >= o.First && id-o.First < o.Length {
						t.Fatalf("seed %d: %v and %v share %d", seed, r, o, id)
					}
				}
			}
			used = append(used, r)
		}
	}
}

// freeIn looks at each of the pool's ranges, ID by ID in steps of a unit, which
// all ranges here are made of.
func freeIn(p Pool, used []Range) bool {
	taken := map[uint32]bool{}
	for _, r := range used {
		for id := r.First; id < r.First+r.Length; id += Unit {
			taken[id] = true
		}
	}
	for i := range uint32(p.Pods()) {
		free := true
		for u := uint32(0); u < p.PerPod; u += Unit {
			free = free && !taken[p.First+i*p.PerPod+u]
		}
		if free {
			return true
		}
	}
	return false
}
