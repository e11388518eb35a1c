package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/time/rate"

	"github.com/shoal-project/shoal/daemon/cluster"
)

const (
	// mostServed is how many exchanges are served at a time, and mostServedEach
	// how many that one node began: each may hold a message in memory.
	mostServed     = 8
	mostServedEach = 2
	// servedRate is how many exchanges a second one node may begin, and servedBurst
	// how many at once after a pause. Each calls one of its peers a second, pushes
	// what is new at most ten times a second, and brings a large record in parts;
	// without a bound one that calls without a pause keeps a processor busy.
	servedRate  = 40
	servedBurst = 200
	// mostConns is how many connections are open that others opened, strangers'
	// handshakes among them.
	mostConns = 512
	// idleConn is how long one without an exchange stays.
	idleConn = 90 * time.Second
	// handshakeTime is how long a stranger may take to show the cluster's key.
	handshakeTime = 5 * time.Second
)

// tlsConfigs follow from the keyring that is in use.
type tlsConfigs struct {
	server, client, requests, self *tls.Config
	verify                         func(tls.ConnectionState) error // a connection that was made before
}

// Use makes a keyring the one in use, amid a rotation. What is under way goes on,
// on connections whose other end has shown a key that is still trusted; what
// comes goes over new ones.
func (e *Endpoint) Use(ring cluster.Keyring) error {
	// A server hears a refusal in words by HTTP; of TLS's the other end sees a
	// number.
	server, err := ring.TLS(e.config.Node, e.config.Key, func(cluster.Identity) error { return nil })
	if err != nil {
		return err
	}
	client, err := ring.TLS(e.config.Node, e.config.Key, e.admit)
	if err != nil {
		return err
	}
	self, err := ring.TLS(e.config.Node, e.config.Key, e.isSelf)
	if err != nil {
		return err
	}
	verify, err := ring.Verifier()
	if err != nil {
		return err
	}
	requests := client.Clone()
	self.NextProtos = []string{requestProtocol}
	server.NextProtos, client.NextProtos, requests.NextProtos = []string{"h2", requestProtocol}, []string{"h2"}, []string{requestProtocol}
	e.tls.Store(&tlsConfigs{server, client, requests, self, verify})
	if before := e.client.Swap(e.newClient()); before != nil {
		before.CloseIdleConnections()
	}
	if before := e.requests.Swap(e.newRequests()); before != nil {
		before.CloseIdleConnections()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		go func() { // who is amid a handshake is waited for
			if t, is := c.(*tls.Conn); !is || verify(t.ConnectionState()) != nil {
				c.Close()
			}
		}()
	}
	return nil
}

// errSelf says that this node called itself.
var errSelf = errors.New("at this address is this node itself")

// admit is nil for a node that may exchange with this one.
func (e *Endpoint) admit(who cluster.Identity) error {
	switch {
	case who.Node == e.config.Node && who.Key.Equal(e.config.Key.Public()):
		return errSelf
	case who.Node == e.config.Node:
		return &cluster.PinError{Node: who.Node, Known: e.config.Set.keyOf(who.Node), Now: who.Key}
	case len(who.Node) > mostName:
		return fmt.Errorf("a node's name of %d characters: %w", len(who.Node), errBroken)
	case e.config.Pins.Key(who.Node) == nil && e.config.Pins.Len() >= mostNodes:
		return fmt.Errorf("node %s is one more than %d: %w", who.Node, mostNodes, errTooLarge)
	}
	return e.config.Pins.Admit(who)
}

// Serve answers peers until ctx ends, then waits for those under way.
func (e *Endpoint) Serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+path, e.serve)
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	handOver, wait := e.serveRequests(ctx)
	defer wait()
	server := &http.Server{
		Handler: mux, Protocols: protocols,
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){requestProtocol: func(_ *http.Server, c *tls.Conn, _ http.Handler) { handOver(c) }},
		ReadHeaderTimeout: handshakeTime, ReadTimeout: callTime, WriteTimeout: 2 * callTime, IdleTimeout: idleConn,
		MaxHeaderBytes: 4 << 10,
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: 2 * mostServedEach, MaxReceiveBufferPerConnection: 1 << 20, MaxReceiveBufferPerStream: 256 << 10},
		ConnState:      e.track,
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ErrorLog:       slog.NewLogLogger(e.config.Log.Handler(), slog.LevelDebug), // strangers' handshakes
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(within) != nil {
			server.Close()
		}
	})
	err := server.Serve(tls.NewListener(netutil.LimitListener(watchful{l}, mostConns), &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return e.tls.Load().server, nil },
	}))
	if stop() {
		return fmt.Errorf("serve peers: %w", err)
	}
	<-stopped
	return nil
}

// Close ends the connections that this node opened.
func (e *Endpoint) Close() {
	e.client.Load().CloseIdleConnections()
	e.requests.Load().CloseIdleConnections()
}

// track knows the connections that others opened.
func (e *Endpoint) track(c net.Conn, state http.ConnState) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch state {
	case http.StateNew:
		e.conns[c] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(e.conns, c)
	}
}

// whoCalls is who sent a request, if the key that it showed is still trusted.
func (e *Endpoint) whoCalls(r *http.Request) (cluster.Identity, error) {
	who, err := cluster.Peer(*r.TLS)
	if err == nil {
		err = e.tls.Load().verify(*r.TLS)
	}
	return who, err
}

// serve is one message and its answer.
func (e *Endpoint) serve(w http.ResponseWriter, r *http.Request) {
	who, err := e.whoCalls(r)
	if err == nil {
		err = e.admit(who)
	}
	if err != nil {
		e.config.Log.Warn("a host is refused", "node", who.Node, "client", r.RemoteAddr, "err", err)
		e.write(w, &message{Hello: e.hello(), Refused: err.Error()})
		return
	}
	if !e.mayBegin(who.Node) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, fmt.Sprintf("node %s calls node %s more than %d times a second", who.Node, e.config.Node, servedRate), http.StatusTooManyRequests)
		return
	}
	if !e.begin(who.Node) {
		http.Error(w, fmt.Sprintf("node %s is busy with other peers", e.config.Node), http.StatusServiceUnavailable)
		return
	}
	defer e.end(who.Node)
	b, err := readAll(r.Body)
	var in *message
	if err == nil {
		in, err = decode(b)
	}
	if lies(err) {
		e.blame(who.Node, err)
		e.write(w, &message{Hello: e.hello(), Refused: err.Error()})
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest) // it went away, or was too slow
		return
	}
	b = nil // while the answer is made
	e.write(w, e.answer(who, in))
}

func (e *Endpoint) write(w http.ResponseWriter, m *message) {
	b, err := encode(m)
	if err != nil {
		e.config.Log.Error("can't answer a peer", "err", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header()["Date"] = nil // bytes that nobody reads
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // who went away asks again
}

// mayBegin says whether a node does not call too often. Nothing of its message
// has been read by then.
func (e *Endpoint) mayBegin(node string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.config.Now()
	l := e.rates[node]
	if l == nil {
		if len(e.rates) >= mostRates {
			maps.DeleteFunc(e.rates, func(_ string, l *rate.Limiter) bool { return l.TokensAt(now) >= servedBurst })
		}
		l = rate.NewLimiter(servedRate, servedBurst)
		e.rates[node] = l
	}
	return l.AllowN(now, 1)
}

// mostRates is how many nodes' rates are remembered before those at rest are
// forgotten.
const mostRates = 1000

// begin counts an exchange that a node wants, if it may be served now.
func (e *Endpoint) begin(node string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := 0
	for _, n := range e.served {
		all += n
	}
	if all >= mostServed || e.served[node] >= mostServedEach {
		return false
	}
	e.served[node]++
	return true
}

func (e *Endpoint) end(node string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.served[node]--; e.served[node] == 0 {
		delete(e.served, node)
	}
}

func (e *Endpoint) newClient() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &http.Client{
		Transport: &http.Transport{
			DialTLSContext: e.dial, Protocols: protocols, IdleConnTimeout: idleConn, DisableCompression: true, MaxResponseHeaderBytes: 4 << 10,
			HTTP2: &http.HTTP2Config{MaxReceiveBufferPerConnection: 1 << 20, MaxReceiveBufferPerStream: 1 << 20, SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errBroken },
	}
}

// dial opens a connection whose other end has shown who it is.
func (e *Endpoint) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return e.dialWith(ctx, network, address, e.tls.Load().client)
}

func (e *Endpoint) dialWith(ctx context.Context, network, address string, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	raw, err := e.config.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	watchOver(raw)
	c := tls.Client(raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, &net.OpError{Op: "dial", Net: network, Addr: raw.RemoteAddr(), Err: err}
	}
	return c, nil
}

// call sends a message over HTTP.
func (e *Endpoint) call(ctx context.Context, to Peer, m *message) (*message, cluster.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	b, err := encode(m)
	if err != nil {
		return nil, cluster.Identity{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+to.Address+path, bytes.NewReader(b))
	if err != nil {
		return nil, cluster.Identity{}, err
	}
	req.Header.Set("User-Agent", "shoald")
	resp, err := e.client.Load().Do(req)
	if err != nil {
		var u *url.Error // it says again whom this node called
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, cluster.Identity{}, err
	}
	defer resp.Body.Close()
	who, err := cluster.Peer(*resp.TLS)
	if err != nil {
		return nil, cluster.Identity{}, err
	}
	if to.Node != "" && who.Node != to.Node {
		return nil, cluster.Identity{}, fmt.Errorf("node %s answers there", who.Node)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return nil, who, fmt.Errorf("HTTP %d: %s", resp.StatusCode, strings.TrimSpace(string(text)))
	}
	if b, err = readAll(resp.Body); err != nil {
		return nil, who, err
	}
	in, err := decode(b)
	return in, who, err
}
