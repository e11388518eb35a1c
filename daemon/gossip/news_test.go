package gossip_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/gossip"
)

// got takes what has come of news.
func got(g *gossip.Gossip) (news []gossip.News) {
	for {
		select {
		case n := <-g.News():
			news = append(news, n)
		default:
			return news
		}
	}
}

func TestTheLargestNewsIsGossiped(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		f.timers.PushPull = 24 * time.Hour // what arrives was gossiped
		hosts := f.hosts(20)
		time.Sleep(time.Minute) // membership gossip has settled
		name, payload := strings.Repeat("n", gossip.MaxNewsName), bytes.Repeat([]byte{0xff}, gossip.MaxNews)
		if err := hosts[3].Send(name, payload); err != nil {
			t.Fatal(err)
		}
		had := make(map[int]bool)
		f.until("all have it", 5*time.Second, func() bool {
			for i, g := range hosts {
				for _, n := range got(g) {
					if had[i] || n.Name != name || !bytes.Equal(n.Payload, payload) {
						t.Fatalf("host %d has it twice, or otherwise: %d bytes", i, len(n.Payload))
					}
					had[i] = true
				}
			}
			return len(had) == len(hosts)
		})
		for _, bad := range []struct {
			name string
			size int
		}{{name, gossip.MaxNews + 1}, {name + "n", 1}, {"", 1}} {
			if err := hosts[0].Send(bad.name, make([]byte, bad.size)); err == nil {
				t.Errorf("news %q of %d bytes was taken", bad.name, bad.size)
			}
		}
	})
}

func TestNewsUnderOneNameIsNotMerged(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		hosts := f.hosts(3)
		want := make(map[string]bool)
		for i := range 50 {
			text := fmt.Sprint(i)
			want[text] = true
			if err := hosts[i%3].Send("delta", []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		f.until("all fifty", time.Minute, func() bool {
			for _, n := range got(hosts[1]) {
				delete(want, string(n.Payload))
			}
			return len(want) == 0
		})
	})
}

func TestASlowReaderLosesTheOldestNewsAndHoldsNothingUp(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		hosts := f.hosts(3)
		const said = 3000 // more than all buffers on the way
		for i := range said {
			if err := hosts[0].Send("n", fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		f.until("it is counted", time.Minute, func() bool { return hosts[0].Dropped() > 0 && hosts[0].Dropped() == said-256 })
		kept := got(hosts[0])
		if first, last := string(kept[0].Payload), string(kept[len(kept)-1].Payload); len(kept) != 256 || first != fmt.Sprint(said-256) || last != fmt.Sprint(said-1) {
			t.Errorf("kept %d, %s to %s", len(kept), first, last)
		}
		if n := count(hosts[0], gossip.Alive); n != 3 {
			t.Errorf("sees %d alive", n)
		}
	})
}

func TestWhoComesLaterIsNotToldWhatWasSaidBefore(t *testing.T) {
	virtual(t, func(t *testing.T, f *fleet) {
		hosts := f.hosts(2)
		if err := hosts[0].Send("old", []byte("x")); err != nil {
			t.Fatal(err)
		}
		f.until("it arrived", time.Minute, func() bool { return len(got(hosts[1])) == 1 })
		late := f.start(gossip.Config{Name: "n3", Advertise: at(3), Join: joinAll(2)})
		f.until("three", time.Minute, func() bool { return count(late, gossip.Alive) == 3 })
		time.Sleep(5 * time.Minute) // several full exchanges
		if n := got(late); len(n) != 0 {
			t.Errorf("was told %q", n)
		}
		if err := hosts[0].Send("new", []byte("y")); err != nil {
			t.Fatal(err)
		}
		f.until("what is said from then on", time.Minute, func() bool { return len(got(late)) == 1 })
	})
}
