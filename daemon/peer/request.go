package peer

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/shoal-project/shoal/daemon/cluster"
)

// Besides records, streams carry requests that one node hands over to another:
// logs, exec, writes. They are HTTP/1.1 on connections of their own, told apart
// by TLS's ALPN (RFC 7301), since HTTP/2 has no upgrades to SPDY and websockets,
// and since a slow reader of logs would hold up the records behind it.
const requestProtocol = "shoal-requests/1"

const (
	// mostRequests is how many requests of others are under way here, and
	// mostRequestsEach how many of one node: those that follow a log stay.
	mostRequests     = 256
	mostRequestsEach = 64
	// idleRequests is how long a connection without a request stays.
	idleRequests = 30 * time.Second
	// mostRefusal bounds the words of a refusal, in bytes.
	mostRefusal = 1 << 10
)

// noProtocol is TLS's no_application_protocol (RFC 7301).
const noProtocol tls.AlertError = 120

const (
	headerHello   = "Shoal-Hello"   // of the node that calls
	headerRefused = "Shoal-Refused" // the body says why nobody took the request
)

// ErrUnknown says that no address of a node is known.
var ErrUnknown = errors.New("it is not in sight: it is down, cut off from here, or no member of this cluster")

type callingKey struct{}

// Calling is the node that a request comes from, "" for one that no peer sent.
func Calling(ctx context.Context) string {
	node, _ := ctx.Value(callingKey{}).(string)
	return node
}

// Answer has h answer the requests of other nodes; Calling says which node's. It
// holds no cluster's key that the caller does not hold: who it may be is for h to
// say. Until Answer is called they are told to come again.
func (e *Endpoint) Answer(h http.Handler) { e.handler.Store(&h) }

// RoundTrip sends a request to a node, which need not be at rest before. Only the
// path and query of its URL count. The connection is to that very node, or there
// is none. ErrRefused comes with the node's reason, and ErrUnknown where its
// address is not known; with both, as with an error of dialling (*net.OpError
// with Op "dial"), the node has not seen the request.
func (e *Endpoint) RoundTrip(node string, r *http.Request) (*http.Response, error) {
	if e.config.Find == nil || e.config.Find(node) == "" {
		return nil, ErrUnknown
	}
	if e.alone(node) {
		return nil, fmt.Errorf("%w here: it is left alone for a minute, for what it sent before", ErrRefused)
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host, r.RequestURI = "https", node, node, ""
	b, err := json.Marshal(e.hello())
	if err != nil {
		return nil, err
	}
	r.Header.Set(headerHello, string(b))
	resp, err := e.requests.Load().RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.Header.Get(headerRefused) == "" {
		return resp, nil
	}
	defer resp.Body.Close()
	why, _ := io.ReadAll(io.LimitReader(resp.Body, mostRefusal))
	return nil, fmt.Errorf("%w: %s", ErrRefused, strings.TrimSpace(string(why)))
}

// newRequests makes the connections on which requests go out.
func (e *Endpoint) newRequests() *http.Transport {
	return &http.Transport{
		DialTLSContext: e.dialNode, DisableCompression: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: idleRequests,
		MaxResponseHeaderBytes: 64 << 10,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1 alone
	}
}

// dialNode opens a connection to the node that is the host of a request's URL.
func (e *Endpoint) dialNode(ctx context.Context, network, at string) (net.Conn, error) {
	node, _, err := net.SplitHostPort(at)
	if err != nil {
		return nil, err
	}
	address := e.config.Find(node)
	if address == "" {
		return nil, ErrUnknown
	}
	c, err := e.dialWith(ctx, network, address, e.tls.Load().requests)
	var alert tls.AlertError
	if errors.As(err, &alert) && alert == noProtocol {
		return nil, fmt.Errorf("%w: its shoald is older than requests between nodes: upgrade it", ErrRefused)
	}
	if err != nil {
		return nil, err
	}
	who, err := cluster.Peer(c.ConnectionState())
	if err == nil && who.Node != node {
		err = fmt.Errorf("node %s answers at %s", who.Node, address)
	}
	if err != nil {
		c.Close()
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return c, nil
}

// serveRequests serves what handOver is given, until ctx ends. What it returns
// waits until the last handler is done.
func (e *Endpoint) serveRequests(ctx context.Context) (handOver func(*tls.Conn), wait func()) {
	l := &handed{conns: make(chan net.Conn), closed: make(chan struct{})}
	var running sync.WaitGroup
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			running.Add(1)
			defer running.Done()
			e.serveRequest(w, r)
		}),
		ReadHeaderTimeout: handshakeTime, IdleTimeout: idleRequests, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(e.config.Log.Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	stop := context.AfterFunc(ctx, func() { server.Close() })
	return l.hand, func() {
		stop()
		server.Close()
		<-done
		running.Wait()
	}
}

// serveRequest answers a request, or refuses it in words.
func (e *Endpoint) serveRequest(w http.ResponseWriter, r *http.Request) {
	who, code, err := e.mayAsk(r)
	if err == nil && !e.beginRequest(who.Node) {
		code, err = http.StatusTooManyRequests, fmt.Errorf("node %s is busy with other nodes' requests: try again", e.config.Node)
	}
	if errors.Is(err, errSelf) && e.config.Company != nil && e.config.Company() {
		w.Header().Set(headerRun, e.run)
	}
	if err != nil {
		w.Header().Set(headerRefused, "true")
		http.Error(w, err.Error(), code)
		return
	}
	defer e.endRequest(who.Node)
	r.Header.Del(headerHello)
	(*e.handler.Load()).ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callingKey{}, who.Node)))
}

// mayAsk says who has sent a request and, with an HTTP code, why it is not taken.
func (e *Endpoint) mayAsk(r *http.Request) (cluster.Identity, int, error) {
	who, err := e.whoCalls(r)
	if err == nil {
		err = e.admit(who)
	}
	var theirs hello
	if err == nil {
		if err = json.Unmarshal([]byte(r.Header.Get(headerHello)), &theirs); err != nil {
			err = fmt.Errorf("header %s: %w", headerHello, err)
		}
	}
	if err == nil {
		err = e.meet(who.Node, theirs)
	}
	switch {
	case err != nil:
		e.config.Log.Warn("a host's request is refused", "node", who.Node, "client", r.RemoteAddr, "err", err)
		return who, http.StatusForbidden, err
	case e.alone(who.Node):
		return who, http.StatusForbidden, fmt.Errorf("node %s leaves node %s alone for a minute, for what it sent before", e.config.Node, who.Node)
	case e.handler.Load() == nil:
		return who, http.StatusServiceUnavailable, fmt.Errorf("node %s is starting: try again", e.config.Node)
	}
	return who, 0, nil
}

func (e *Endpoint) beginRequest(node string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := 0
	for _, n := range e.asked {
		all += n
	}
	if all >= mostRequests || e.asked[node] >= mostRequestsEach {
		return false
	}
	e.asked[node]++
	return true
}

func (e *Endpoint) endRequest(node string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asked[node]--; e.asked[node] == 0 {
		delete(e.asked, node)
	}
}

// handed is a listener of connections that another server has accepted.
type handed struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// hand gives a connection to whoever accepts, and returns when it is closed.
func (h *handed) hand(c *tls.Conn) {
	ended := &ending{Conn: c, closed: make(chan struct{})}
	select {
	case h.conns <- ended:
		<-ended.closed
	case <-h.closed:
		c.Close()
	}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *handed) Addr() net.Addr { return &net.TCPAddr{} }

// ending is a TLS connection of which somebody waits for the end.
type ending struct {
	*tls.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *ending) Close() error {
	defer c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
