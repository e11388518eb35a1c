package peer

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/record"
)

var (
	ring = cluster.NewKeyring(cluster.Key{1})
	ours = cluster.ID{ID: "c1", Settled: true, Minted: 1}
)

func keyOf(host string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(host))
	return ed25519.NewKeyFromSeed(seed[:])
}

func noPins(t testing.TB) *cluster.Pins {
	pins, err := cluster.OpenPins("", func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	return pins
}

// host is a node of a test.
type host struct {
	*Endpoint
	set  *Set
	peer Peer
	sent atomic.Int64 // bytes, on connections that others opened
	got  atomic.Int64
}

// stands makes a host that publishes, without a network.
func stands(t testing.TB, node string, key ed25519.PrivateKey, change func(*Config, *SetConfig)) *host {
	t.Helper()
	pins := noPins(t)
	sc := SetConfig{Node: node, Cluster: ours.ID, Key: key, Pins: pins, Alone: true, Now: time.Now}
	c := Config{Node: node, Key: key, Keyring: ring, Pins: pins, Cluster: func() cluster.ID { return ours }, Now: time.Now}
	if testing.Verbose() {
		c.Log = slog.New(slog.NewTextHandler(t.Output(), nil)).With("at", node)
	}
	if change != nil {
		change(&c, &sc)
	}
	c.Set = NewSet(sc)
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return &host{Endpoint: e, set: c.Set}
}

// listens makes a host that others can call on loopback.
func listens(t testing.TB, node string, change func(*Config, *SetConfig)) *host {
	t.Helper()
	h := stands(t, node, keyOf(node), change)
	h.serveOn(t)
	return h
}

func (h *host) serveOn(t testing.TB) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.peer = Peer{h.config.Node, l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Serve(ctx, counted{l, h}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// counted counts what goes over a listener's connections.
type counted struct {
	net.Listener
	h *host
}

type countedConn struct {
	net.Conn
	h *host
}

func (l counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countedConn{c, l.h}, err
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.h.got.Add(int64(n))
	return n, err
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.h.sent.Add(int64(n))
	return n, err
}

func values(pairs ...string) map[record.Name]json.RawMessage {
	m := make(map[record.Name]json.RawMessage)
	for i := 0; i < len(pairs); i += 2 {
		var v json.RawMessage
		if pairs[i+1] != "" {
			v = json.RawMessage(pairs[i+1])
		}
		m[record.Name{Section: record.Claims, Key: pairs[i]}] = v
	}
	return m
}

func (h *host) publish(t testing.TB, pairs ...string) record.Delta {
	t.Helper()
	d, err := h.set.Publish(1, values(pairs...))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func many(n int, value string) []string {
	var pairs []string
	for i := range n {
		pairs = append(pairs, fmt.Sprintf("apps/Deployment/default/%d", i), value)
	}
	return pairs
}

func (h *host) sync(t testing.TB, with *host) {
	t.Helper()
	if err := h.Sync(t.Context(), with.peer); err != nil {
		t.Fatal(err)
	}
}

// content is what a set knows: values by node and name.
func content(s *Set) map[string]map[string]string {
	all := make(map[string]map[string]string)
	s.Read(func(records map[string]*record.Record) {
		for node, r := range records {
			m := make(map[string]string)
			for name, e := range r.Entries {
				if e.Value != nil {
					m[name.Key] = string(e.Value)
				}
			}
			all[node] = m
		}
	})
	return all
}

func same(t testing.TB, hosts ...*host) {
	t.Helper()
	for _, h := range hosts[1:] {
		if got, want := content(h.set), content(hosts[0].set); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s has %.500v\n%s has %.500v", h.config.Node, got, hosts[0].config.Node, want)
		}
		if h.set.Digest() != hosts[0].set.Digest() {
			t.Fatalf("%s and %s have equal content and other digests", h.config.Node, hosts[0].config.Node)
		}
	}
}

// wire is an in-memory network between Endpoints: it carries JSON, as HTTP
// does, and may lose a message or its answer.
type wire struct {
	hosts map[string]*Endpoint // by address
	lost  func() (request, answer bool)
}

var errLost = errors.New("lost")

func (w *wire) from(who cluster.Identity) caller { return wireEnd{w, who} }

type wireEnd struct {
	*wire
	who cluster.Identity
}

func (w wireEnd) call(ctx context.Context, to Peer, m *message) (*message, cluster.Identity, error) {
	there := w.hosts[to.Address]
	if there == nil {
		return nil, cluster.Identity{}, io.EOF
	}
	id := cluster.Identity{Node: there.config.Node, Key: there.config.Key.Public().(ed25519.PublicKey)}
	request, answer := w.lost()
	if request {
		return nil, cluster.Identity{}, errLost
	}
	b, err := encode(m)
	if err != nil {
		return nil, id, err
	}
	in, err := decode(b)
	if err != nil {
		return nil, id, err
	}
	if err := there.admit(w.who); err != nil {
		return nil, id, err
	}
	if b, err = encode(there.answer(w.who, in)); err != nil {
		return nil, id, err
	}
	if answer {
		return nil, id, errLost
	}
	out, err := decode(b)
	return out, id, err
}
