package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// fleet is members with their key files.
type fleet map[string]Keyring

func (f fleet) held() Members {
	m := make(Members)
	for name, ring := range f {
		m[name] = ring.Held()
	}
	return m
}

// do carries a step out at one member, as a daemon does.
func (f fleet) do(s Step, at string, now time.Time) {
	ring := f[at]
	switch s.Do {
	case Trust:
		if k, is := f[s.From].Key(s.Key); is {
			made := f[s.From].marks[k].made
			ring, _ = ring.Trusting(k, made)
		}
	case Use:
		ring, _ = ring.Using(s.Key, now)
	case Drop:
		ring, _ = ring.Without(s.Old)
	}
	f[at] = ring
}

func (f fleet) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range f {
			if !yield(name) {
				return
			}
		}
	}) {
		fmt.Fprintf(&b, "%s:", name)
		for _, h := range f[name].Held() {
			fmt.Fprintf(&b, " %s", h.ID[:4])
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}

// apart names two members that do not understand each other.
func (f fleet) apart() string {
	for a, mine := range f {
		for b, theirs := range f {
			if _, trusted := theirs.Key(mine.keys[0].ID()); !trusted {
				return a + " uses a key that " + b + " does not trust"
			}
		}
	}
	return ""
}

func testKey(n byte) (k Key) {
	for i := range k {
		k[i] = n
	}
	return k
}

func TestTheStepsOfARotation(t *testing.T) {
	old, fresh := testKey(1), testKey(2)
	f := fleet{"n1": NewKeyring(old), "n2": NewKeyring(old), "n3": NewKeyring(old)}
	step := func(finish bool, now time.Time) string {
		s := Next(f.held(), finish, now)
		for _, at := range s.At {
			f.do(s, at, now)
			if why := f.apart(); why != "" {
				t.Fatalf("after %s at %s %s", s.Do, at, why)
			}
		}
		return fmt.Sprint(s.Do, s.At)
	}
	expect := func(want string, finish bool, now time.Time) {
		t.Helper()
		if got := step(finish, now); got != want {
			t.Errorf("got %s, want %s\n%s", got, want, f)
		}
	}
	expect("begin[]", false, noon)
	f["n2"], _ = f["n2"].Trusting(fresh, noon)
	expect("trust[n1 n3]", false, noon)
	expect("use[n1 n2 n3]", false, noon)
	expect("keep[]", false, noon.Add(time.Minute))
	expect("keep[]", false, noon.Add(KeptFor-time.Second))
	late := fleet{}
	for name, ring := range f {
		late[name] = ring
	}
	expect("drop[n1 n2 n3]", true, noon.Add(time.Minute))
	expect("begin[]", false, noon.Add(time.Minute))
	f = late
	expect("drop[n1 n2 n3]", false, noon.Add(KeptFor))
	expect("begin[]", true, noon.Add(KeptFor))
	for name, ring := range f {
		if len(ring.keys) != 1 || ring.keys[0] != fresh {
			t.Errorf("%s has %v", name, ring.Held())
		}
	}
}

func TestWhoIsSilentIsWaitedForBeforeAKeyIsUsed(t *testing.T) {
	both, err := NewKeyring(testKey(1)).Trusting(testKey(2), noon)
	if err != nil {
		t.Fatal(err)
	}
	members := Members{"n1": both.Held(), "n2": nil, "n3": NewKeyring(testKey(1)).Held()}
	if s := Next(members, true, noon); s.Do != Trust || !slices.Equal(s.At, []string{"n3"}) || s.From != "n1" {
		t.Errorf("got %+v", s)
	}
	members["n3"] = both.Held()
	if s := Next(members, true, noon); s.Do != Await || !slices.Equal(s.At, []string{"n2"}) {
		t.Errorf("got %+v", s)
	}
	if s := Next(Members{"n1": NewKeyring(testKey(1)).Held(), "n2": nil}, false, noon); s.Do != Await {
		t.Errorf("a rotation began that a silent member may be amid: %+v", s)
	}
}

// TestRotationsNeverPartMembers: whoever is stopped where, and however many
// rotate at once by what they saw a while ago, any two members understand each
// other at any time, and in the end all have one key.
func TestRotationsNeverPartMembers(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 0))
		f := fleet{}
		names := []string{"n1", "n2", "n3", "n4"}[:2+random.IntN(3)]
		for _, name := range names {
			f[name] = NewKeyring(testKey(1))
		}
		now := noon
		next := byte(2)
		type order struct {
			Step
			at string
		}
		var late []order // steps on their way
		for range 200 {
			now = now.Add(time.Duration(random.IntN(90)) * time.Second)
			switch random.IntN(4) {
			case 0, 1: // somebody looks, and sends out what follows
				s := Next(f.held(), random.IntN(2) == 0, now)
				if s.Do == Begin && next < 6 {
					at := names[random.IntN(len(names))]
					f[at], _ = f[at].Trusting(testKey(next), now)
					next++
				}
				for _, at := range s.At {
					late = append(late, order{s, at})
				}
			case 2: // another one begins, who does not know of the first
				if random.IntN(20) == 0 && next < 6 {
					at := names[random.IntN(len(names))]
					f[at], _ = f[at].Trusting(testKey(next), now)
					next++
				}
			default: // one arrives, or is lost
				if len(late) == 0 {
					continue
				}
				i := random.IntN(len(late))
				if random.IntN(4) > 0 {
					f.do(late[i].Step, late[i].at, now)
				}
				late = slices.Delete(late, i, i+1)
			}
			if why := f.apart(); why != "" {
				t.Fatalf("seed %d: %s\n%s", seed, why, f)
			}
		}
		for range 10 { // now one alone goes on
			s := Next(f.held(), true, now)
			if s.Do == Begin {
				break
			}
			for _, at := range s.At {
				f.do(s, at, now)
			}
		}
		if s := Next(f.held(), true, now); s.Do != Begin {
			t.Fatalf("seed %d: it ends with %s\n%s", seed, s.Do, f)
		}
	}
}

func TestTheKeyFileIsReplacedWhole(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.key"), filepath.Join(dir, "cluster.key")
	if err := os.WriteFile(real, []byte("# of the shop's cluster\n\n"+testKey(1).Text()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	ring, err := ReadKeyring(link)
	if err != nil {
		t.Fatal(err)
	}
	ring, _ = ring.Trusting(testKey(2), noon)
	ring, err = ring.Using(testKey(2).ID(), noon.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Write(link); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(real)
	want := "# of the shop's cluster\n\n# made 2026-11-21T12:00:00Z, in use since 2026-11-21T12:01:00Z\n" + testKey(2).Text() + "\n" + testKey(1).Text() + "\n"
	if err != nil || string(text) != want {
		t.Errorf("got %v:\n%s\nwant:\n%s", err, text, want)
	}
	if info, err := os.Stat(real); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v", info.Mode(), err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Errorf("something is left behind: %v", files)
	}
	again, err := ReadKeyring(link)
	if err != nil || !again.Equal(ring) || !slices.Equal(again.Held(), ring.Held()) {
		t.Errorf("read again it is %v, %v, was %v", again.Held(), err, ring.Held())
	}
}

func TestARingRefusesWhatWouldPartHosts(t *testing.T) {
	ring, _ := NewKeyring(testKey(1)).Trusting(testKey(2), noon)
	if _, err := ring.Using(testKey(3).ID(), noon); err == nil {
		t.Error("a key that is not there is used")
	}
	if _, err := ring.Without([]string{testKey(1).ID()}); err == nil {
		t.Error("the key in use was dropped")
	}
	ring, err := ring.Using(testKey(2).ID(), noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Using(testKey(1).ID(), noon); err == nil {
		t.Error("an older key is used again")
	}
	for n := byte(3); n <= mostKeys; n++ {
		if ring, err = ring.Trusting(testKey(n), noon); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ring.Trusting(testKey(99), noon); err == nil {
		t.Error("a ninth key was taken")
	}
}
