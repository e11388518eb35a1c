package warden

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/identity"
	"github.com/shoal-project/shoal/daemon/tenure"
)

// What is spoken on the port, by TLS's negotiation (ALPN).
const (
	raftProtocol = "shoal-witness/1"
	askProtocol  = "http/1.1"
)

const (
	// mostConns is how many connections are open that others opened: two of each
	// host of a large cluster at its worst, when it asks for a leader.
	mostConns = 2048
	// handshakeTime is how long a stranger may take to show the cluster's key.
	handshakeTime = 5 * time.Second
	// mostHello bounds what a witness says first.
	mostHello = 1 << 10
)

// port is this host's end of the streams to other hosts' lease processes.
type port struct {
	w     *Warden
	tls   atomic.Pointer[tls.Config]
	asks  http.Client
	serve http.Server

	made struct { // what the port is made of, by the goroutine that follows
		listen, keys string
	}
	listener net.Listener
	problem  atomic.Pointer[string]

	askers chan asker

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// follow has the port be as the host says: open where there are others.
func (p *port) follow(h tenure.Host) {
	err := p.use(h)
	if err == nil {
		err = p.open(h.Listen)
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	if old := p.problem.Swap(&text); text != "" && (old == nil || *old != text) {
		p.w.config.Log.Error("other hosts' lease processes can't be reached", "err", err)
	}
}

// use has the keys that the files hold now in force. Connections of before end.
func (p *port) use(h tenure.Host) error {
	stamp := ""
	if h.KeyFile != "" {
		info, err := os.Stat(h.KeyFile)
		if err != nil {
			return fmt.Errorf("the cluster's key: %w", err)
		}
		stamp = fmt.Sprint(h.Node, h.KeyFile, info.ModTime().UnixNano(), info.Size())
	}
	if stamp == p.made.keys {
		return nil
	}
	var config *tls.Config
	if h.KeyFile != "" {
		ring, err := cluster.ReadKeyring(h.KeyFile)
		if err != nil {
			return err
		}
		key, err := identity.Open(h.Identity)
		if err != nil {
			return err
		}
		if config, err = ring.TLS(h.Node, key, p.admit); err != nil {
			return err
		}
	}
	p.tls.Store(config)
	p.made.keys = stamp
	p.hangUp()
	return nil
}

// admit lets in whom the daemon knows by the same key.
func (p *port) admit(who cluster.Identity) error {
	h := p.w.snapshot()
	for _, m := range h.Members {
		if m.Name != who.Node {
			continue
		}
		if len(m.Key) == 0 || !who.Key.Equal(ed25519.PublicKey(m.Key)) {
			return &cluster.PinError{Node: who.Node, Known: ed25519.PublicKey(m.Key), Now: who.Key}
		}
		return nil
	}
	return fmt.Errorf("node %s is not known here", who.Node)
}

// open listens there, or nowhere.
func (p *port) open(address string) error {
	if address == p.made.listen {
		return nil
	}
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener, p.made.listen = nil, ""
		p.hangUp()
	}
	if address == "" {
		return nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen for other hosts' lease processes: %w", err)
	}
	p.listener, p.made.listen = l, address
	go p.accept(netutil.LimitListener(l, mostConns))
	return nil
}

func (p *port) close() {
	if p.listener != nil {
		_ = p.listener.Close()
	}
	_ = p.serve.Close()
	p.hangUp()
}

// hangUp ends all connections.
func (p *port) hangUp() {
	p.asks.CloseIdleConnections()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

// kept is a connection that is known until it is closed.
type kept struct {
	net.Conn
	p *port
}

func (p *port) keep(c net.Conn) net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := kept{c, p}
	p.conns[k] = struct{}{}
	return k
}

func (k kept) Close() error {
	go k.p.drop(k) // hangUp holds the lock
	return k.Conn.Close()
}

func (p *port) drop(k kept) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, k)
}

func (p *port) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			p.w.config.Log.Warn("can't take a connection", "err", err)
			time.Sleep(100 * time.Millisecond) // descriptors ran out: they come back
			continue
		}
		go func() {
			if err := p.take(c); err != nil {
				p.w.config.Log.Debug("a connection is refused", "client", c.RemoteAddr().String(), "err", err)
				_ = c.Close()
			}
		}()
	}
}

// take finds out who calls and what for.
func (p *port) take(raw net.Conn) error {
	config := p.tls.Load()
	if config == nil {
		return errors.New("there is no cluster key")
	}
	config = config.Clone()
	config.NextProtos = []string{raftProtocol, askProtocol}
	c := tls.Server(raw, config)
	ctx, cancel := context.WithTimeout(p.w.ended, handshakeTime)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	who, err := cluster.Peer(c.ConnectionState())
	if err != nil {
		return err
	}
	switch c.ConnectionState().NegotiatedProtocol {
	case raftProtocol:
		return p.takeWitness(c, who.Node)
	case askProtocol:
		return p.handOver(p.keep(c), who.Node)
	}
	return errors.New("the other end does not say what it wants")
}

// hello is what a witness says first on a stream to another one, a line of
// JSON. The answer is a line: "" or why not.
type hello struct {
	Log  string `json:"log"`
	From string `json:"from"` // ids
	To   string `json:"to"`
}

func (p *port) takeWitness(c *tls.Conn, from string) error {
	if err := c.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return err
	}
	var h hello
	line, err := readLine(c)
	if err == nil {
		err = json.Unmarshal(line, &h)
	}
	if err != nil {
		return err
	}
	s, refused := p.w.admitStream(h, from)
	if refused != nil {
		_, _ = io.WriteString(c, refused.Error()+"\n") // who is refused may have gone
		return refused
	}
	if _, err := io.WriteString(c, "\n"); err != nil {
		return err
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return err
	}
	return s.take(p.keep(c))
}

// readLine reads byte by byte: what follows is raft's.
func readLine(c net.Conn) ([]byte, error) {
	var line []byte
	r := bufio.NewReaderSize(io.LimitReader(c, 1), 16)
	for len(line) < mostHello {
		b, err := r.ReadByte()
		if err != nil {
			return nil, err
		}
		if b == '\n' {
			return line, nil
		}
		line = append(line, b)
		r.Reset(io.LimitReader(c, 1))
	}
	return nil, errors.New("a line of more than a kilobyte")
}

// dial opens a connection to a node's lease process.
func (p *port) dial(ctx context.Context, node, protocol string) (*tls.Conn, error) {
	config := p.tls.Load()
	if config == nil {
		return nil, errors.New("this host has no cluster key")
	}
	address := ""
	for _, m := range p.w.snapshot().Members {
		if m.Name == node {
			address = m.Address
		}
	}
	if address == "" {
		return nil, fmt.Errorf("where node %s is, is not known", node)
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	config = config.Clone()
	config.NextProtos = []string{protocol}
	c := tls.Client(raw, config)
	if err = c.HandshakeContext(ctx); err == nil {
		var who cluster.Identity
		if who, err = cluster.Peer(c.ConnectionState()); err == nil && who.Node != node {
			err = fmt.Errorf("node %s answers at %s, not %s", who.Node, address, node)
		}
	}
	if err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("call the lease process of %s: %w", node, err)
	}
	return c, nil
}
