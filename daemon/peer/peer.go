// Package peer is the stream between nodes: mutual TLS 1.3, HTTP/2, JSON. On it
// nodes compare what they know of each other's records and bring each other up
// to date (anti-entropy), and push what is new to those that must act on it.
//
// A peer holds the cluster's key, and may still be broken or hostile: what it
// says of a record counts only with the signature of the record's own node, and
// its messages, time and memory are bounded. One that lies is named, and left
// alone for a minute.
//
// A Set holds the records, an Endpoint is this node's end of all streams. What
// is asked and answered is decided without a network (sync.go, answer.go); the
// package knows nothing of objects.
package peer

import (
	"context"
	"crypto/ed25519"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/shoal-project/shoal/daemon/cluster"
)

// Peer is a node to talk to.
type Peer struct {
	Node    string // "" for whoever is there
	Address string // host:port
}

func (p Peer) String() string {
	if p.Node == "" {
		return p.Address
	}
	return p.Node + " at " + p.Address
}

// Config is what an Endpoint needs.
type Config struct {
	Node    string // this node's name
	Key     ed25519.PrivateKey
	Keyring cluster.Keyring
	Pins    *cluster.Pins
	Set     *Set
	// Cluster is the cluster's id as this node has it now.
	Cluster func() cluster.ID
	// Met is called after each exchange with a node of this cluster, which makes
	// the id settled.
	Met func(node string)
	// Yield is called when this node is to give up its id for another
	// (cluster.Meet). Until Cluster says so, nothing is exchanged.
	Yield func(to cluster.ID, node string)
	// Find is where a node listens, "" where that is not known. nil: RoundTrip
	// reaches nobody.
	Find func(node string) (address string)
	// Heard is called, often, when enough peers were heard for the first
	// publication. Nil: Run calls Set.PublishFirst by itself.
	Heard func()
	// Company says whether others of the cluster are in sight; nil: no.
	Company func() bool
	// Turned is called with the outcome of each exchange of Run.
	Turned func(node string, err error)
	Log    *slog.Logger
	Now    func() time.Time
	// Dial opens a connection in place of the kernel's TCP, for simulations.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// ErrRefused says that the other end does not want to talk. Its words follow.
var ErrRefused = errors.New("refused")

// caller sends a message to a peer, and brings its answer and who it is.
type caller interface {
	call(ctx context.Context, to Peer, m *message) (*message, cluster.Identity, error)
}

// Endpoint is this node's end of the streams to its peers. Safe for concurrent
// use.
type Endpoint struct {
	config   Config
	caller   caller
	client   atomic.Pointer[http.Client]
	requests atomic.Pointer[http.Transport]
	handler  atomic.Pointer[http.Handler] // of other nodes' requests
	tls      atomic.Pointer[tlsConfigs]

	run     string        // of this process, and no other
	gathers chan struct{} // the right to gather a large record

	mu     sync.Mutex
	chosen chooser
	served map[string]int           // exchanges under way that each node began
	rates  map[string]*rate.Limiter // of the exchanges that each node begins
	asked  map[string]int           // requests of each node under way
	conns  map[net.Conn]struct{}    // that others opened
}

// New makes an Endpoint. It neither listens nor calls anybody by itself.
func New(c Config) (*Endpoint, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	e := newEndpoint(c)
	if e.config.Heard == nil {
		e.config.Heard = c.Set.PublishFirst
	}
	if err := e.Use(c.Keyring); err != nil {
		return nil, err
	}
	e.caller = e
	return e, nil
}

func newEndpoint(c Config) *Endpoint {
	return &Endpoint{config: c, run: crand.Text(), chosen: newChooser(), served: make(map[string]int), rates: make(map[string]*rate.Limiter), asked: make(map[string]int), conns: make(map[net.Conn]struct{}), gathers: make(chan struct{}, 1)}
}

func (e *Endpoint) hello() hello {
	return hello{Protocol: protocol, Oldest: oldest, Cluster: e.config.Cluster()}
}

// meet is nil if there may be an exchange with a node that said hello.
func (e *Endpoint) meet(from string, h hello) error {
	if h.Oldest > protocol || h.Protocol < oldest {
		return fmt.Errorf("%w: node %s speaks versions %d to %d of the peers' protocol, node %s versions %d to %d: upgrade shoald on the older one",
			ErrRefused, from, h.Oldest, h.Protocol, e.config.Node, oldest, protocol)
	}
	if err := h.Cluster.Check(); err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	mine := e.config.Cluster()
	switch cluster.Meet(mine, h.Cluster) {
	case cluster.Same:
		return nil
	case cluster.Yield:
		if e.config.Yield != nil {
			e.config.Yield(h.Cluster, from)
		}
		return fmt.Errorf("%w for now: node %s goes over to cluster %s, which node %s is in", ErrRefused, e.config.Node, h.Cluster.ID, from)
	case cluster.TheyYield:
		return fmt.Errorf("%w for now: node %s is in cluster %s, and node %s goes over to it from its new one, %s", ErrRefused, e.config.Node, mine.ID, from, h.Cluster.ID)
	}
	return fmt.Errorf("%w: two clusters have met: node %s is in %s, node %s in %s. They stay apart; give one of them another key "+
		"(`shoal keygen`) and other names to join, or set the hosts of one up anew to make them one", ErrRefused, e.config.Node, mine.ID, from, h.Cluster.ID)
}

// lies says whether an error is the doing of who is at the other end.
func lies(err error) bool {
	return errors.Is(err, errBroken) || errors.Is(err, errUnproved)
}

// blame leaves a node alone for a minute.
func (e *Endpoint) blame(node string, err error) {
	e.mu.Lock()
	first := e.chosen.leaveAlone(node, e.config.Now())
	e.mu.Unlock()
	if first {
		e.config.Log.Error("a peer is not to be trusted: it is left alone for a minute", "node", node, "err", err)
	}
}

// alone says whether a node is left alone.
func (e *Endpoint) alone(node string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.chosen.isAlone(node, e.config.Now())
}

// Run exchanges with one of the peers each second, until ctx ends. Peers gives
// the nodes that are alive; this one among them does not matter. It begins to
// publish when peers were heard (Set.PublishFirst).
func (e *Endpoint) Run(ctx context.Context, peers func() []Peer, random *rand.Rand) {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		pause := time.Second*3/4 + time.Duration(random.Int64N(int64(time.Second/2)))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		list := slices.DeleteFunc(slices.Clone(peers()), func(p Peer) bool { return p.Node == e.config.Node })
		e.mu.Lock()
		p, ok := e.chosen.next(list, e.config.Now(), random)
		e.mu.Unlock()
		if !ok {
			continue
		}
		running.Go(func() { e.turn(ctx, p, len(list)) })
	}
}

// turn is one exchange of Run.
func (e *Endpoint) turn(ctx context.Context, p Peer, known int) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	err := e.Sync(ctx, p)
	e.mu.Lock()
	first := e.chosen.done(p.Node, e.config.Now(), err)
	heard := e.chosen.heardEnough(known)
	e.mu.Unlock()
	if e.config.Turned != nil && ctx.Err() == nil {
		e.config.Turned(p.Node, err)
	}
	switch {
	case first && ctx.Err() == nil:
		e.config.Log.Warn("can't exchange records with a peer", "node", p.Node, "address", p.Address, "err", err)
	case err == nil && heard && !e.config.Set.Published():
		e.config.Heard()
	}
}

// Bounds of time.
const (
	exchangeTime = 30 * time.Second // a whole exchange of Run
	callTime     = 10 * time.Second // one message and its answer
)

// readAll reads a message of a size that is allowed.
func readAll(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, mostMessage+1))
	if err == nil && len(b) > mostMessage {
		err = fmt.Errorf("a message of more than %d bytes: %w", mostMessage, errBroken)
	}
	return b, err
}
