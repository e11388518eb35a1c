package gossip_test

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/serf/serf"

	"github.com/shoal-project/shoal/daemon/gossip"
)

func TestAHostWithoutTheKeyGetsNothing(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		hosts := f.hosts(3)
		var heard [][]byte
		f.net.Tap(func(_, to netip.AddrPort, packet []byte) {
			if to == at(9) {
				heard = append(heard, packet)
			}
		})
		for i, keys := range [][][]byte{{key(9)}, {key(8), key(7)}} {
			stranger := f.start(gossip.Config{Name: "stranger", Advertise: at(9 + i), Join: joinAll(3), Keys: keys})
			f.always("nobody sees the other", 5*time.Minute, func() bool {
				return count(hosts[0], gossip.Alive) == 3 && len(hosts[0].Members()) == 3 && len(stranger.Members()) == 1
			})
		}
		if len(heard) != 0 {
			t.Errorf("the stranger was sent %d packets", len(heard))
		}
		// Nor does one that speaks Serf without any encryption.
		plain := serf.DefaultConfig()
		plain.NodeName, plain.LogOutput = "plain", &bytes.Buffer{}
		plain.MemberlistConfig.LogOutput = &bytes.Buffer{}
		plain.MemberlistConfig.Transport = f.net.Node(at(11))
		s, err := serf.Create(plain)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Shutdown()
		if _, err := s.Join([]string{at(1).String()}, false); err == nil {
			t.Error("a host without a key joined")
		}
		f.always("nobody sees it", time.Minute, func() bool { return len(hosts[0].Members()) == 3 && s.NumNodes() == 1 })
	})
}

func TestKeysAreRotatedWithNobodyLost(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		hosts := f.hosts(4)
		last := 0
		stays := func() bool {
			last++
			if err := hosts[last%4].Send("n", []byte{byte(last)}); err != nil {
				t.Fatal(err)
			}
			for _, g := range hosts {
				if count(g, gossip.Alive) != 4 {
					return false
				}
			}
			return true
		}
		for _, keys := range [][][]byte{{key(1), key(2)}, {key(2), key(1)}, {key(2)}} {
			for _, g := range hosts { // one after the other, with time between
				if err := g.Use(keys); err != nil {
					t.Fatal(err)
				}
				f.always("all see all alive", time.Minute, stays)
			}
		}
		old := f.start(gossip.Config{Name: "old", Advertise: at(9), Join: joinAll(4), Keys: [][]byte{key(1)}})
		f.always("the old key opens nothing", time.Minute, func() bool { return len(old.Members()) == 1 && stays() })
		fresh := f.start(gossip.Config{Name: "fresh", Advertise: at(8), Join: joinAll(4), Keys: [][]byte{key(2)}})
		f.until("the new one does", time.Minute, func() bool { return count(fresh, gossip.Alive) == 5 })
		for _, bad := range [][][]byte{nil, {key(2), []byte("short")}} {
			if err := hosts[0].Use(bad); err == nil || strings.Contains(err.Error(), "short") {
				t.Errorf("keys %v: %v", bad, err)
			}
		}
	})
}

// Amid a rotation, Serf's own queries would tell the new key to whoever has stolen
// the old one, and change keys on all hosts.
func TestKeysAreNeitherToldNorChangedOverTheNetwork(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		hosts := f.hosts(3)
		for _, g := range hosts {
			if err := g.Use([][]byte{key(1), key(2)}); err != nil {
				t.Fatal(err)
			}
		}
		thief := serf.DefaultConfig()
		thief.NodeName, thief.LogOutput = "thief", &bytes.Buffer{}
		m := thief.MemberlistConfig
		m.LogOutput, m.Transport, m.EnableCompression = &bytes.Buffer{}, f.net.Node(at(9)), false
		m.SecretKey = slices.Clone(key(1))
		s, err := serf.Create(thief)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Shutdown()
		if _, err := s.Join([]string{at(1).String()}, false); err != nil {
			t.Fatal(err)
		}
		f.until("it is a member", time.Minute, func() bool { return s.NumNodes() == 4 && count(hosts[2], gossip.Alive) == 4 })
		for _, query := range []string{"_serf_list-keys", "_serf_ping", "_serf_conflict"} {
			q, err := s.Query(query, []byte("n1"), &serf.QueryParam{RequestAck: true, Timeout: 30 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			acks, answers := 0, 0
			for a := q.AckCh(); a != nil; {
				select {
				case from, open := <-a:
					if !open {
						a = nil
					} else if from != "thief" {
						acks++
					}
				case r, open := <-q.ResponseCh():
					if open && r.From != "thief" {
						answers++
					}
				}
			}
			if acks+answers != 0 {
				t.Errorf("%s: %d acknowledged, %d answered", query, acks, answers)
			}
		}
	})
}

func TestPacketsThatAreReplayedOrBrokenChangeNothing(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		type packet struct {
			from, to netip.AddrPort
			data     []byte
		}
		var mu sync.Mutex // a tap is called from wherever somebody sends
		var tape []packet
		f.net.Tap(func(from, to netip.AddrPort, data []byte) {
			mu.Lock()
			defer mu.Unlock()
			tape = append(tape, packet{from, to, bytes.Clone(data)})
		})
		hosts := f.hosts(3)
		for i := range 20 {
			if err := hosts[i%3].Send("n", []byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		// n3 dies, returns elsewhere, and leaves: all of it is on the tape.
		hosts[2].Shutdown()
		f.until("failed", time.Minute, func() bool { return count(hosts[0], gossip.Failed) == 1 })
		back := f.start(gossip.Config{Name: "n3", Advertise: moved(3), Join: joinAll(3)})
		f.until("back", time.Minute, func() bool { return count(hosts[0], gossip.Alive) == 3 && count(hosts[1], gossip.Alive) == 3 })
		if err := back.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		back = f.start(gossip.Config{Name: "n3", Advertise: moved(3), Join: joinAll(3)})
		f.until("back again", time.Minute, func() bool { return count(hosts[0], gossip.Alive) == 3 && count(hosts[1], gossip.Alive) == 3 })
		time.Sleep(time.Minute)
		f.net.Tap(nil)
		mu.Lock()
		taped := tape
		mu.Unlock()
		for _, g := range hosts[:2] {
			got(g)
		}

		stranger, want := at(77), "n1 10.0.0.1 alive, n2 10.0.0.2 alive, n3 10.0.1.3 alive"
		for i, p := range taped {
			for _, to := range []netip.AddrPort{at(1), at(2), moved(3)} {
				f.net.Inject(p.from, to, p.data)
				f.net.Inject(stranger, to, p.data)
				broken := bytes.Clone(p.data)
				broken[i%len(broken)] ^= 1 << (i % 8)
				f.net.Inject(stranger, to, broken)
				f.net.Inject(stranger, to, p.data[:i%len(p.data)])
			}
			if i%100 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		t.Logf("%d packets replayed", len(taped))
		f.until("all see the truth", time.Minute, func() bool {
			return show(hosts[0]) == want && show(hosts[1]) == want && show(back) == want
		})
		f.always("and go on seeing it", 5*time.Minute, func() bool { return show(hosts[0]) == want && show(hosts[1]) == want })
		for _, g := range hosts[:2] {
			if news := got(g); len(news) != 0 {
				t.Errorf("news came again: %d", len(news))
			}
		}
	})
}
