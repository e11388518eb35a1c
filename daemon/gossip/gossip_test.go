package gossip_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/gossip/memnet"
)

// Addresses: 10.0.0.N is host N, 10.0.1.N its next address.
func at(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), gossip.DefaultPort)
}

func moved(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(n)}), gossip.DefaultPort)
}

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// fleet is hosts in virtual time on a network in memory.
type fleet struct {
	t      *testing.T
	net    *memnet.Network
	timers gossip.Timers

	mu  sync.Mutex
	all []*gossip.Gossip
}

// virtual runs a test in virtual time, and ends every host before the bubble ends.
func virtual(t *testing.T, test func(t *testing.T, f *fleet)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{t: t, net: memnet.New(time.Millisecond, 0, 1)}
		defer func() {
			for _, g := range f.all {
				g.Shutdown()
			}
			time.Sleep(time.Minute) // virtual: timers of Serf's that were set
		}()
		test(t, f)
	})
}

func joinAll(n int) []string {
	var list []string
	for i := 1; i <= n; i++ {
		list = append(list, at(i).String())
	}
	return list
}

// start adds a host; hosts that start at the same virtual instant would tick in
// lock-step.
func (f *fleet) start(c gossip.Config) *gossip.Gossip {
	f.t.Helper()
	time.Sleep(137 * time.Millisecond)
	if c.Keys == nil {
		c.Keys = [][]byte{key(1)}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	c.Timers = f.timers
	c.Transport = f.net.Node(c.Advertise)
	g, err := gossip.Start(c)
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, g)
	return g
}

// hosts starts n of them, named n1..., all with the same join list.
func (f *fleet) hosts(n int) []*gossip.Gossip {
	f.t.Helper()
	var out []*gossip.Gossip
	for i := 1; i <= n; i++ {
		out = append(out, f.start(gossip.Config{Name: name(i), Advertise: at(i), Join: joinAll(n)}))
	}
	f.until("all see all alive", 5*time.Minute, func() bool {
		for _, g := range out {
			if count(g, gossip.Alive) != n {
				return false
			}
		}
		return true
	})
	return out
}

func name(i int) string { return fmt.Sprintf("n%d", i) }

// until waits, in virtual time, for what has to come.
func (f *fleet) until(what string, patience time.Duration, cond func() bool) {
	f.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(max(100*time.Millisecond, patience/2000)) {
		if cond() {
			return
		}
	}
	var b strings.Builder
	for _, g := range f.all {
		fmt.Fprintf(&b, "\nat %s: %s; conflicts %v; refused %v", g.Address(), show(g), g.Conflicts(), g.Refused())
	}
	f.t.Fatalf("after %s not yet: %s%s", patience, what, b.String())
}

// always says whether something holds all the time.
func (f *fleet) always(what string, how time.Duration, cond func() bool) {
	f.t.Helper()
	for end := time.Now().Add(how); time.Now().Before(end); time.Sleep(max(100*time.Millisecond, how/2000)) {
		if !cond() {
			f.t.Fatalf("no more: %s", what)
		}
	}
}

func count(g *gossip.Gossip, s gossip.Status) int {
	n := 0
	for _, m := range g.Members() {
		if m.Status == s {
			n++
		}
	}
	return n
}

func member(g *gossip.Gossip, name string) gossip.Member {
	for _, m := range g.Members() {
		if m.Name == name {
			return m
		}
	}
	return gossip.Member{}
}

// show is what a host sees, in the order of names.
func show(g *gossip.Gossip) string {
	var parts []string
	for _, m := range g.Members() {
		parts = append(parts, fmt.Sprintf("%s %s %s", m.Name, m.Addr.Addr(), m.Status))
	}
	return strings.Join(parts, ", ")
}

func TestHostsWithTheSameJoinListFindEachOther(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		hosts := f.hosts(5)
		for _, g := range hosts {
			if got, want := show(g), "n1 10.0.0.1 alive, n2 10.0.0.2 alive, n3 10.0.0.3 alive, n4 10.0.0.4 alive, n5 10.0.0.5 alive"; got != want {
				t.Errorf("%s sees %s, want %s", g.Address(), got, want)
			}
		}
	})
}

func TestAHostLooksForOthersForEver(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		a := f.start(gossip.Config{Name: "n1", Advertise: at(1), Join: joinAll(2)})
		time.Sleep(26 * time.Hour)
		if got, want := show(a), "n1 10.0.0.1 alive"; got != want {
			t.Errorf("alone: %s, want %s", got, want)
		}
		// The other one has no list: it can only be found.
		b := f.start(gossip.Config{Name: "n2", Advertise: at(2)})
		f.until("the host that came a day later is found", time.Minute, func() bool { return count(b, gossip.Alive) == 2 })
	})
}

func TestAHostThatDiesFailsAndReturns(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		hosts := f.hosts(5)
		before := member(hosts[0], "n5").Since
		drainChanges(hosts[0])
		died := time.Now()
		hosts[4].Shutdown()
		f.until("the others see it failed", 30*time.Second, func() bool {
			return member(hosts[0], "n5").Status == gossip.Failed && member(hosts[3], "n5").Status == gossip.Failed
		})
		select {
		case <-hosts[0].Changes():
		default:
			t.Error("nothing was told of the change")
		}
		if m := member(hosts[0], "n5"); !m.Since.After(died) || !m.Since.After(before) {
			t.Errorf("failed since %s, want after %s", m.Since, died)
		}
		b := f.start(gossip.Config{Name: "n5", Advertise: at(5), Join: joinAll(5)})
		f.until("it is back", time.Minute, func() bool {
			return count(hosts[0], gossip.Alive) == 5 && count(b, gossip.Alive) == 5
		})
	})
}

func drainChanges(g *gossip.Gossip) {
	select {
	case <-g.Changes():
	default:
	}
}

func TestTheSecondHostOfANameIsKeptOutAndNobodyIsShutDown(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		hosts := f.hosts(3)
		late := f.start(gossip.Config{Name: "n1", Advertise: at(9), Join: joinAll(3)})
		f.until("the late host says why it is outside", time.Minute, func() bool { return len(late.Conflicts()) > 0 })
		f.until("the holder says so as well", 2*time.Minute, func() bool { return len(hosts[0].Conflicts()) > 0 })
		f.always("the holder keeps the name, and the late host is outside", 10*time.Minute, func() bool {
			return show(hosts[1]) == "n1 10.0.0.1 alive, n2 10.0.0.2 alive, n3 10.0.0.3 alive" &&
				show(hosts[0]) == show(hosts[1]) && show(late) == "n1 10.0.0.9 alive"
		})
		if got, want := late.Conflicts()[0].String(), `the name "n1" is taken by the host at 10.0.0.1:7946: this host, at 10.0.0.9:7946, stays out of the cluster until one of the two has another name`; got != want {
			t.Errorf("the late host says %s\nwant %s", got, want)
		}
		if got, want := hosts[0].Conflicts()[0].String(), `two hosts claim the name "n1": the one at 10.0.0.1:7946 has it, the one at 10.0.0.9:7946 is kept out until one of the two has another name`; got != want {
			t.Errorf("the holder says %s\nwant %s", got, want)
		}
		// It says nothing in the cluster, not even as it goes.
		if err := late.Leave(t.Context()); err != nil {
			t.Error(err)
		}
		f.always("the holder stays", time.Minute, func() bool { return member(hosts[1], "n1").Status == gossip.Alive })
		f.until("the conflict is over", 5*time.Minute, func() bool { return len(hosts[0].Conflicts()) == 0 })
	})
}

func TestOfTwoHostsOfOneNameNoneIsShutDown(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		a := f.start(gossip.Config{Name: "same", Advertise: at(1), Join: joinAll(2)})
		b := f.start(gossip.Config{Name: "same", Advertise: at(2), Join: joinAll(2)})
		f.until("both say so", time.Minute, func() bool { return len(a.Conflicts()) > 0 && len(b.Conflicts()) > 0 })
		f.always("both run", 10*time.Minute, func() bool {
			return show(a) == "same 10.0.0.1 alive" && show(b) == "same 10.0.0.2 alive" && len(a.Conflicts()) == 1
		})
		b.Shutdown()
		c := f.start(gossip.Config{Name: "other", Advertise: at(2), Join: joinAll(2)})
		f.until("with another name it joins", time.Minute, func() bool { return count(a, gossip.Alive) == 2 && count(c, gossip.Alive) == 2 })
	})
}

func TestTheNameOfAHostThatDiedGoesToTheOneThatWaits(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		hosts := f.hosts(3)
		late := f.start(gossip.Config{Name: "n1", Advertise: moved(1), Join: joinAll(3)})
		f.until("it is kept out", time.Minute, func() bool { return len(late.Conflicts()) > 0 })
		hosts[0].Shutdown()
		f.until("it has the name", 2*time.Minute, func() bool {
			return show(hosts[1]) == "n1 10.0.1.1 alive, n2 10.0.0.2 alive, n3 10.0.0.3 alive" && show(hosts[2]) == show(hosts[1]) && show(late) == show(hosts[1])
		})
		f.until("no conflict is left", 10*time.Second, func() bool { return len(late.Conflicts())+len(hosts[1].Conflicts()) == 0 })
	})
}

func TestAHostReturnsWithAnotherAddress(t *testing.T) {
	for _, away := range []time.Duration{0, 3 * time.Second, 8 * time.Second, time.Minute, time.Hour} {
		t.Run(away.String(), func(t *testing.T) {
			virtual(t, func(t *testing.T, f *fleet) {
				hosts := f.hosts(3)
				hosts[2].Shutdown()
				time.Sleep(away)
				back := f.start(gossip.Config{Name: "n3", Advertise: moved(3), Join: joinAll(3)})
				patience := 2 * time.Minute
				if away == 0 {
					patience = 30 * time.Second // Timers.Reclaim; later, memberlist has forgotten the old address anyway
				}
				f.until("all know its address", patience, func() bool {
					return show(hosts[0]) == "n1 10.0.0.1 alive, n2 10.0.0.2 alive, n3 10.0.1.3 alive" && show(hosts[1]) == show(hosts[0]) && show(back) == show(hosts[0])
				})
				f.until("that is no conflict", 10*time.Second, func() bool { return len(hosts[0].Conflicts())+len(back.Conflicts()) == 0 })
			})
		})
	}
}

func TestTheSnapshotFindsTheOthersAgain(t *testing.T) {
	dir := t.TempDir()
	file := func(i int) string { return filepath.Join(dir, name(i)) }
	virtual(t, func(t *testing.T, f *fleet) {
		seed := f.start(gossip.Config{Name: "n1", Advertise: at(1), Snapshot: file(1)})
		b := f.start(gossip.Config{Name: "n2", Advertise: at(2), Snapshot: file(2), Join: joinAll(1)})
		c := f.start(gossip.Config{Name: "n3", Advertise: at(3), Snapshot: file(3), Join: joinAll(1)})
		f.until("three", time.Minute, func() bool { return count(seed, gossip.Alive) == 3 && count(c, gossip.Alive) == 3 })
		// The power goes, one after the other: the last one has seen both fail.
		seed.Shutdown()
		b.Shutdown()
		f.until("both failed", time.Minute, func() bool { return count(c, gossip.Failed) == 2 })
		c.Shutdown()
		// They return without a join list, one with another address.
		back := []*gossip.Gossip{
			f.start(gossip.Config{Name: "n1", Advertise: moved(1), Snapshot: file(1)}),
			f.start(gossip.Config{Name: "n2", Advertise: at(2), Snapshot: file(2)}),
			f.start(gossip.Config{Name: "n3", Advertise: at(3), Snapshot: file(3)}),
		}
		f.until("they have found each other", time.Minute, func() bool {
			return show(back[0]) == "n1 10.0.1.1 alive, n2 10.0.0.2 alive, n3 10.0.0.3 alive" && show(back[2]) == show(back[0])
		})
	})
}

func TestWhoLeftIsNotLookedForAndMayComeBack(t *testing.T) {
	dir := t.TempDir()
	virtual(t, func(t *testing.T, f *fleet) {
		a := f.start(gossip.Config{Name: "n1", Advertise: at(1), Snapshot: filepath.Join(dir, "1")})
		b := f.start(gossip.Config{Name: "n2", Advertise: at(2), Snapshot: filepath.Join(dir, "2"), Join: joinAll(1)})
		f.until("two", time.Minute, func() bool { return count(a, gossip.Alive) == 2 && count(b, gossip.Alive) == 2 })
		if err := a.ForceLeave("n2"); err == nil || !strings.Contains(err.Error(), "n2 is alive, at 10.0.0.2:7946") {
			t.Errorf("forgetting a living host: %v", err)
		}
		if err := b.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.until("it left", time.Second, func() bool { return show(a) == "n1 10.0.0.1 alive, n2 10.0.0.2 left" })
		alone := f.start(gossip.Config{Name: "n2", Advertise: at(2), Snapshot: filepath.Join(dir, "2")})
		f.always("it is not looked for, nor looks", 10*time.Minute, func() bool { return show(alone) == "n2 10.0.0.2 alive" })
		alone.Shutdown()
		back := f.start(gossip.Config{Name: "n2", Advertise: moved(2), Join: joinAll(1)})
		f.until("it is back, elsewhere", time.Minute, func() bool { return show(a) == "n1 10.0.0.1 alive, n2 10.0.1.2 alive" })
		back.Shutdown()
		f.until("failed", time.Minute, func() bool { return count(a, gossip.Failed) == 1 })
		if err := a.ForceLeave("n2"); err != nil {
			t.Fatal(err)
		}
		f.until("forgotten", time.Minute, func() bool { return show(a) == "n1 10.0.0.1 alive" })
		for _, bad := range []string{"n2", "n7", "n1"} {
			if err := a.ForceLeave(bad); err == nil {
				t.Errorf("%s was forgotten", bad)
			}
		}
	})
}

func TestOneWayCutsAndLossFailNobody(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		hosts := f.hosts(5)
		f.net.Cut(at(1), at(2))
		f.net.Lose(0.05)
		f.always("all see all alive", 5*time.Minute, func() bool {
			for _, g := range hosts {
				if count(g, gossip.Alive) != 5 {
					return false
				}
			}
			return true
		})
	})
}

func TestHalvesThatForgotEachOtherMeetAgain(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		f.timers.Forget = 10 * time.Minute
		hosts := f.hosts(4)
		for _, a := range []int{1, 2} {
			for _, b := range []int{3, 4} {
				f.net.Cut(at(a), at(b))
				f.net.Cut(at(b), at(a))
			}
		}
		f.until("the halves have forgotten each other", 20*time.Minute, func() bool {
			return show(hosts[0]) == "n1 10.0.0.1 alive, n2 10.0.0.2 alive" && show(hosts[3]) == "n3 10.0.0.3 alive, n4 10.0.0.4 alive"
		})
		f.net.Heal()
		f.until("one cluster", 5*time.Minute, func() bool { return count(hosts[0], gossip.Alive) == 4 && count(hosts[3], gossip.Alive) == 4 })
	})
}

func TestClustersThatDoNotAdmitEachOtherStayApartAndSaySo(t *testing.T) {
	of := func(id string) func(gossip.Member) error {
		return func(m gossip.Member) error {
			if m.Tags["id"] != id {
				return errors.New("it is of cluster " + m.Tags["id"] + ", this is " + id)
			}
			return nil
		}
	}
	virtual(t, func(t *testing.T, f *fleet) {
		var hosts []*gossip.Gossip
		for i := 1; i <= 6; i++ {
			id := []string{"blue", "red"}[i%2]
			// Both clusters have a node called "db".
			host := name(i)
			if i > 4 {
				host = "db"
			}
			hosts = append(hosts, f.start(gossip.Config{Name: host, Advertise: at(i), Join: joinAll(6), Tags: map[string]string{"id": id}, Admit: of(id)}))
		}
		red, blue := hosts[0], hosts[1]
		f.until("each is one", 10*time.Minute, func() bool {
			return show(red) == "db 10.0.0.5 alive, n1 10.0.0.1 alive, n3 10.0.0.3 alive" && show(blue) == "db 10.0.0.6 alive, n2 10.0.0.2 alive, n4 10.0.0.4 alive"
		})
		f.always("they stay apart, and no host is hurt by its namesake", 30*time.Minute, func() bool {
			return count(red, gossip.Alive) == 3 && count(blue, gossip.Alive) == 3 && len(red.Members()) == 3
		})
		f.until("both say so", 5*time.Minute, func() bool { return len(red.Refused()) > 0 && len(blue.Refused()) > 0 })
		if got, want := red.Refused()[0].Reason, "it is of cluster blue, this is red"; got != want {
			t.Errorf("refused because %s, want %s", got, want)
		}
	})
}

func TestTagsReachAllAndTheirLimitNamesTheLargest(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		hosts := f.hosts(3)
		if err := hosts[0].SetTags(map[string]string{"zone": "a"}); err != nil {
			t.Fatal(err)
		}
		f.until("all see it", time.Minute, func() bool {
			return member(hosts[1], "n1").Tags["zone"] == "a" && member(hosts[2], "n1").Tags["zone"] == "a"
		})
		err := hosts[0].SetTags(map[string]string{"zone": "a", "key": strings.Repeat("k", 300), "addr": strings.Repeat("a", 210)})
		if want := `gossip: the node's tags take 535 bytes, and 512 are all there is: the largest are "key" with 307, "addr" with 218, "zone" with 7`; err == nil || err.Error() != strings.Replace(want, "535", "534", 1) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		if got := member(hosts[1], "n1").Tags["zone"]; got != "a" {
			t.Errorf("the tags that were in force are gone: %q", got)
		}
	})
}
