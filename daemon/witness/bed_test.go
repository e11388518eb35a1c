package witness

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/lease"
)

// bed is some witnesses on loopback. Their clock is the test's.
type bed struct {
	t     *testing.T
	clock atomic.Int64
	mu    sync.Mutex
	wits  []*Witness
	nets  []*streams
	dirs  []string

	budget lease.Budget
	now    func() time.Duration
}

// streams are one witness' connections, which can be cut.
type streams struct {
	net.Listener
	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func (s *streams) keep(c net.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		_ = c.Close()
		return fmt.Errorf("cut off")
	}
	s.conns[c] = true
	return nil
}

func (s *streams) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if s.keep(c) == nil {
			return c, nil
		}
	}
}

func (s *streams) DialWitness(address string, timeout time.Duration) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", address, timeout)
	if err != nil {
		return nil, err
	}
	return c, s.keep(c)
}

func (s *streams) isolate(cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = cut
	for c := range s.conns {
		_ = c.Close()
		delete(s.conns, c)
	}
}

// shortBudget is measured by a clock that only moves when the test says so.
var shortBudget = lease.Default

func newBed(t *testing.T, n int) *bed {
	t.Helper()
	b := &bed{t: t, budget: shortBudget}
	b.clock.Store(int64(time.Hour))
	b.now = func() time.Duration { return time.Duration(b.clock.Load()) }
	b.begin(n)
	return b
}

// begin starts n witnesses.
func (b *bed) begin(n int) {
	t := b.t
	t.Helper()
	var servers []Server
	for range n {
		i := b.place()
		servers = append(servers, Server{b.id(i), b.nets[i].Addr().String(), true})
	}
	for i := range n {
		b.start(i)
		if err := b.wits[i].Bootstrap(servers); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for i := range b.wits {
			b.stop(i)
		}
	})
}

// place makes room for a witness that never was.
func (b *bed) place() int {
	b.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	b.wits = append(b.wits, nil)
	b.nets = append(b.nets, &streams{Listener: l, conns: make(map[net.Conn]bool)})
	b.dirs = append(b.dirs, b.t.TempDir())
	return len(b.wits) - 1
}

func (b *bed) id(i int) string { return fmt.Sprintf("n%d/%d", i, i) }

func (b *bed) config(i int) Config {
	return Config{
		ID: b.id(i), Address: b.nets[i].Addr().String(), Dir: b.dirs[i], Streams: b.nets[i], Budget: b.budget,
		Clock: b.now,
		Log:   slog.New(slog.NewTextHandler(io.Discard, nil)), Election: 400 * time.Millisecond,
	}
}

func (b *bed) start(i int) {
	b.t.Helper()
	w, err := Start(b.config(i))
	if err != nil {
		b.t.Fatal(err)
	}
	b.wits[i] = w
}

// stop ends a witness as a power cut does, and closes its address.
func (b *bed) stop(i int) {
	if b.wits[i] == nil {
		return
	}
	b.nets[i].isolate(true)
	if err := b.wits[i].Close(); err != nil {
		b.t.Logf("close witness %d: %v", i, err)
	}
	b.wits[i] = nil
}

// listen opens the address of a witness that was stopped again.
func (b *bed) listen(i int) {
	b.t.Helper()
	l, err := net.Listen("tcp", b.nets[i].Addr().String())
	if err != nil {
		b.t.Fatal(err)
	}
	b.nets[i] = &streams{Listener: l, conns: make(map[net.Conn]bool)}
}

func (b *bed) advance(d time.Duration) { b.clock.Add(int64(d)) }

// eventually waits until do succeeds.
func (b *bed) eventually(what string, do func() error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := do()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			b.t.Fatalf("%s: %v", what, err)
		case <-again.C:
		}
	}
}

// leader waits for a witness that serves, other than those left out.
func (b *bed) leader(without ...int) (found int) {
	b.t.Helper()
	b.eventually("a leader", func() error {
	next:
		for i, w := range b.wits {
			for _, not := range without {
				if i == not {
					continue next
				}
			}
			if w != nil && w.leading() != nil {
				found = i
				return nil
			}
		}
		return fmt.Errorf("nobody serves")
	})
	return found
}

// ask asks witnesses until one answers, as nodes do. It answers who did.
func (b *bed) ask(r lease.Request) (a lease.Answer, by int) {
	b.t.Helper()
	b.eventually("an answer", func() error {
		by = b.leader()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		r.Sent = time.Duration(b.clock.Load())
		var err error
		a, err = b.wits[by].Ask(ctx, r)
		return err
	})
	return a, by
}

// register is a node that gets an epoch.
func (b *bed) register(node, session string) lease.Answer {
	b.t.Helper()
	a, _ := b.ask(lease.Request{Do: lease.Register, Renewal: lease.Renewal{Node: node, Session: session}, Lease: shortBudget.Lease})
	return a
}

func (b *bed) renew(node, session string, epoch uint64) lease.Answer {
	b.t.Helper()
	a, _ := b.ask(lease.Request{Renewal: lease.Renewal{Node: node, Session: session, Epoch: epoch}})
	return a
}

func (b *bed) do(c lease.Command) (out lease.Outcome) {
	b.t.Helper()
	b.eventually(string(c.Do), func() error {
		var err error
		out, err = b.wits[b.leader()].Do(c)
		return err
	})
	return out
}
