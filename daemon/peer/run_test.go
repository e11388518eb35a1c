package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-project/shoal/daemon/cluster"

	"crypto/ed25519"
)

var quiet = slog.New(slog.DiscardHandler)

func TestAChooserGoesAroundAndLeavesThoseThatFail(t *testing.T) {
	var peers []Peer
	for i := range 20 {
		peers = append(peers, Peer{Node: fmt.Sprint("n", i)})
	}
	random := rand.New(rand.NewPCG(1, 2))
	c := newChooser()
	now := time.Unix(0, 0)
	met := make(map[string]int)
	for i := range 2000 {
		now = now.Add(time.Second)
		p, ok := c.next(peers, now, random)
		if !ok || len(c.near) > neighbours {
			t.Fatalf("turn %d: %v, near %v", i, ok, c.near)
		}
		var err error
		if p.Node == "n7" {
			err = errLost
		}
		c.done(p.Node, now, err)
		met[p.Node]++
	}
	if len(met) != 20 {
		t.Errorf("met %d of 20 in 2000 turns: %v", len(met), met)
	}
	if met["n7"] > 2000/30+10 || met["n7"] < 5 {
		t.Errorf("one that never answers was tried %d times in 2000 s", met["n7"])
	}
	if !c.leaveAlone("n3", now) || c.leaveAlone("n3", now) {
		t.Error("leaving alone is not told once")
	}
	for range 59 {
		now = now.Add(time.Second)
		if p, _ := c.next(peers, now, random); p.Node == "n3" {
			t.Fatal("one that lied is talked to within a minute")
		} else {
			c.done(p.Node, now, nil)
		}
	}
	if only, ok := c.next(peers[3:4], now.Add(time.Second), random); !ok || only.Node != "n3" {
		t.Errorf("after the minute: %v, %v", only, ok)
	}
	if _, ok := c.next(peers[3:4], now.Add(2*time.Second), random); ok {
		t.Error("one that is busy is chosen again")
	}
	if len(c.failed) != 0 {
		t.Errorf("it remembers %v, which are gone", c.failed)
	}
}

func TestHowManyAreEnough(t *testing.T) {
	for _, tt := range []struct {
		heard, failed []string
		known         int
		want          bool
	}{
		{nil, nil, 0, false},
		{[]string{"a"}, nil, 1, true},
		{[]string{"a"}, nil, 2, false},
		{[]string{"a"}, []string{"b"}, 2, true},
		{[]string{"a", "b"}, nil, 9, false},
		{[]string{"a", "b", "c"}, nil, 9, true},
		{nil, []string{"a", "b"}, 2, false},
	} {
		c := newChooser()
		for _, n := range tt.heard {
			c.done(n, time.Time{}, nil)
		}
		for _, n := range tt.failed {
			c.done(n, time.Time{}, errLost)
		}
		if got := c.heardEnough(tt.known); got != tt.want {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
}

// TestRunConvergesAndIsQuietAfterwards: ten nodes, a third of all messages lost,
// one node dead.
func TestRunConvergesAndIsQuietAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(3, 4))
		w := &wire{hosts: make(map[string]*Endpoint), lost: func() (bool, bool) {
			mu.Lock()
			defer mu.Unlock()
			return random.IntN(6) == 0, random.IntN(6) == 0
		}}
		var dead atomic.Int64
		peers := []Peer{{"dead", "dead"}}
		var hosts []*host
		for i := range 10 {
			node := fmt.Sprint("n", i)
			h := stands(t, node, keyOf(node), func(c *Config, s *SetConfig) { c.Log, s.Alone = quiet, false })
			h.Endpoint.caller = deadCounter{w.from(cluster.Identity{Node: node, Key: keyOf(node).Public().(ed25519.PublicKey)}), &dead}
			h.publish(t, many(5, fmt.Sprint(i))...)
			w.hosts[node] = h.Endpoint
			peers = append(peers, Peer{node, node})
			hosts = append(hosts, h)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i, h := range hosts {
			all.Go(func() { h.Run(ctx, func() []Peer { return peers }, rand.New(rand.NewPCG(5, uint64(i)))) })
		}
		agree := func() bool {
			return !slices.ContainsFunc(hosts, func(h *host) bool {
				return !h.set.Published() || h.set.Digest() != hosts[0].set.Digest() || len(h.set.Heads()) != len(hosts)
			})
		}
		began := time.Now()
		for !agree() {
			if time.Sleep(time.Second); time.Since(began) > 2*time.Minute {
				t.Fatal("they do not agree after two minutes")
			}
		}
		t.Logf("ten nodes agree after %v", time.Since(began))
		hosts[3].publish(t, "new", `1`)
		began = time.Now()
		for !agree() {
			if time.Sleep(100 * time.Millisecond); time.Since(began) > time.Minute {
				t.Fatal("one change is not everywhere after a minute")
			}
		}
		t.Logf("one change is everywhere after %v", time.Since(began))
		before := dead.Load()
		time.Sleep(5 * time.Minute)
		if n := dead.Load() - before; n > 10*10+10 || n == 0 {
			t.Errorf("the dead node was called %d times by ten nodes in 5 minutes", n)
		}
		cancel()
		all.Wait()
	})
}

type deadCounter struct {
	caller
	n *atomic.Int64
}

func (d deadCounter) call(ctx context.Context, to Peer, m *message) (*message, cluster.Identity, error) {
	if to.Address == "dead" {
		d.n.Add(1)
		return nil, cluster.Identity{}, errors.New("connection refused")
	}
	return d.caller.call(ctx, to, m)
}
