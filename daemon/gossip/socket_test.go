package gossip_test

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/gossip"
)

// Loopback addresses: 127.7.0.N is host N; the port is one that is free.

// onSockets starts n hosts on loopback with one join list.
func onSockets(t *testing.T, n int, log *slog.Logger) []*gossip.Gossip {
	t.Helper()
	port := freePort(t)
	var list []string
	addr := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 7, 0, byte(i)}), port)
	}
	for i := 1; i <= n; i++ {
		list = append(list, addr(i).String())
	}
	var out []*gossip.Gossip
	for i := 1; i <= n; i++ {
		g, err := gossip.Start(gossip.Config{Name: name(i), Bind: addr(i), Keys: [][]byte{key(1)}, Join: list, Log: log})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.Shutdown)
		out = append(out, g)
	}
	await(t, out, n)
	return out
}

// await waits until all see so many alive.
func await(t *testing.T, hosts []*gossip.Gossip, n int) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		all := true
		for _, g := range hosts {
			all = all && count(g, gossip.Alive) == n
		}
		if all {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not all see %d alive: %s", n, show(hosts[0]))
		}
	}
}

// freePort is one that is free for UDP and TCP on every address of these tests.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// lines counts log lines.
type lines struct {
	mu   sync.Mutex
	text []string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, string(b))
	return len(b), nil
}

func (l *lines) with(part string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.text {
		if strings.Contains(s, part) {
			n++
		}
	}
	return n
}

func TestHostsMeetOverSocketsAndLeave(t *testing.T) {
	hosts := onSockets(t, 3, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err := hosts[0].Send("delta", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	for _, g := range hosts {
		select {
		case n := <-g.News():
			if n.Name != "delta" || string(n.Payload) != "hello" {
				t.Errorf("got %s %q", n.Name, n.Payload)
			}
		case <-time.After(time.Minute):
			t.Fatal("no news")
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := hosts[2].Leave(ctx); err != nil {
		t.Fatal(err)
	}
	await(t, hosts[:2], 2)
	if err := hosts[2].Leave(ctx); err == nil {
		t.Error("a host that was shut down left")
	}
	hosts[2].Shutdown()
}

// A stranger on the network sends thousands of broken packets and streams: the
// hosts see each other all the time, and their log stays short.
func TestAStrangersPacketsAndStreamsDoNothing(t *testing.T) {
	said := &lines{}
	hosts := onSockets(t, 2, slog.New(slog.NewTextHandler(said, nil)))
	target := hosts[0].Address()
	conn, err := net.Dial("udp", target.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	dice := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		packet := make([]byte, dice.IntN(1600))
		for i := range packet {
			packet[i] = byte(dice.Uint32())
		}
		if len(packet) > 0 {
			packet[0] = []byte{0, 1, 1, 1, 2, 7, 8, 9, 10, 12, 244, byte(dice.Uint32())}[dice.IntN(12)]
		}
		conn.Write(packet)
	}
	var streams sync.WaitGroup
	for i := range 200 {
		size := []uint32{0, 1, 29, 30, 64, 1 << 10, 20 << 20, 1<<32 - 1}[i%8]
		head := binary.BigEndian.AppendUint32([]byte{[]byte{10, 10, 10, 6, 244, 0}[i%6]}, size)
		body := make([]byte, min(size, 4096))
		streams.Go(func() {
			c, err := net.DialTimeout("tcp", target.String(), 5*time.Second)
			if err != nil {
				return // there are enough of them
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			c.Write(head)
			c.Write(append([]byte{byte(i % 3)}, body...))
			c.(*net.TCPConn).CloseWrite()
			if answer, _ := io.ReadAll(c); strings.Contains(string(answer), "n1") || strings.Contains(string(answer), "n2") {
				t.Errorf("was told %q", answer)
			}
		})
	}
	streams.Wait()
	await(t, hosts, 2)
	if err := hosts[1].Send("still", []byte("here")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-hosts[0].News():
	case <-time.After(time.Minute):
		t.Error("news no longer comes")
	}
	if n := said.with("none of the cluster's keys"); n == 0 || n > 20 {
		t.Errorf("%d lines about strangers, want a few", n)
	}
}

func TestAPortThatIsTakenIsSaid(t *testing.T) {
	l, err := net.Listen("tcp4", "127.7.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	_, err = gossip.Start(gossip.Config{Name: "n1", Bind: at, Keys: [][]byte{key(1)}})
	if err == nil || !strings.Contains(err.Error(), "gossip: listen on "+at.String()) || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}

func TestABadConfigurationIsRefusedInWords(t *testing.T) {
	good := gossip.Config{Name: "n1", Bind: netip.MustParseAddrPort("127.7.0.1:1"), Keys: [][]byte{key(1)}}
	for _, c := range []struct {
		change func(*gossip.Config)
		want   string
	}{
		{func(c *gossip.Config) { c.Name = "n 1" }, `gossip: the node's name "n 1": want 1 to 128 letters, digits, '-' and '.'`},
		{func(c *gossip.Config) { c.Keys = nil }, "gossip: no key: hosts without one do not gossip"},
		{func(c *gossip.Config) { c.Keys = [][]byte{key(1), key(2)[:31]} }, "gossip: key 2 of 2 has 31 bytes: want 16, 24 or 32"},
		{func(c *gossip.Config) { c.Join = []string{"ok", "a:b"} }, `gossip: join "a:b": the port "b": want 1 to 65535`},
		{func(c *gossip.Config) { c.Timers.ProbeInterval = time.Millisecond }, "gossip: timer ProbeInterval is 1ms: want at least 10ms, or 0 for the default"},
		{func(c *gossip.Config) { c.Timers.ProbeTimeout = time.Second }, "gossip: timer ProbeTimeout is 1s: want less than ProbeInterval (1s)"},
		{func(c *gossip.Config) { c.Timers.SuspicionMult = 1 }, "gossip: timer SuspicionMult is 1: want at least 3 (below, nobody's confirmation counts), or 0 for the default"},
		{func(c *gossip.Config) { c.Advertise = netip.MustParseAddrPort("0.0.0.0:7946") }, "gossip: 0.0.0.0 is no address that other hosts can reach: set the one that they can"},
	} {
		cfg := good
		c.change(&cfg)
		if _, err := gossip.Start(cfg); err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}
