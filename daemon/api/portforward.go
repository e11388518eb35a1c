package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/websocket"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// Protocols of port-forward. Over a websocket, clients since Kubernetes 1.30
// send the very bytes that they would send over an upgraded connection
// (KEP-4006).
const (
	protocolForward = "portforward.k8s.io"
	protocolTunnel  = "SPDY/3.1+" + protocolForward
)

// maxForwarded is how many connections one client may have open, and be
// opening, at once.
const maxForwarded = 500

// portForward answers pods/portforward: each connection of the client is a
// pair of streams, one for the data and one for the reason why it failed.
func (s *Server) portForward(w http.ResponseWriter, r *http.Request, t target) error {
	pod, err := s.localPod(t)
	if err != nil {
		return err
	}
	if pod.Status.Phase != v1.PodRunning {
		return apierrors.NewBadRequest(fmt.Sprintf("unable to forward port because pod is not running. Current status=%v", pod.Status.Phase))
	}
	if !httpstream.IsUpgradeRequest(r) {
		return apierrors.NewBadRequest("port-forward needs an upgrade to websocket or SPDY/3.1")
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	f := &forwarder{
		ctx: ctx, cancel: cancel, ready: make(chan struct{}), waiting: make(map[string]*forwarded),
		streamTime: streamTime, about: pod.Namespace + "/" + pod.Name,
		dial: func(port uint16) (net.Conn, error) { return s.Pods.Dial(ctx, pod, port) },
	}
	if wsstream.IsWebSocketRequest(r) {
		return s.tunnel(w, r, f)
	}
	if _, err := httpstream.Handshake(r, w, []string{protocolForward}); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, f.open); conn != nil {
		f.serve(conn)
	}
	return nil
}

// tunnel forwards over SPDY in a websocket's binary messages.
func (s *Server) tunnel(w http.ResponseWriter, r *http.Request, f *forwarder) error {
	websocket.Server{
		Handshake: func(c *websocket.Config, _ *http.Request) error {
			if !slices.Contains(c.Protocol, protocolTunnel) {
				return fmt.Errorf("want subprotocol %s, got %q", protocolTunnel, c.Protocol)
			}
			c.Protocol = []string{protocolTunnel}
			return nil
		},
		Handler: func(ws *websocket.Conn) {
			ws.PayloadType = websocket.BinaryFrame
			conn, err := spdy.NewServerConnection(ws, f.open)
			if err != nil {
				s.Log.Debug("forward_upgrade_failed", "err", err)
				return
			}
			f.serve(conn)
		},
	}.ServeHTTP(w, r)
	return nil
}

// forwarder is one client's connections into a pod.
type forwarder struct {
	ctx        context.Context
	cancel     context.CancelFunc
	dial       func(port uint16) (net.Conn, error)
	about      string        // the pod, for errors
	streamTime time.Duration // how long a client may take to open the second stream of a pair

	conn  httpstream.Connection
	ready chan struct{} // closed when conn is set
	wait  sync.WaitGroup

	mu      sync.Mutex
	waiting map[string]*forwarded // pairs that are not complete, by request ID
	count   int                   // of connections, complete or not
	closed  bool
}

// forwarded is one connection.
type forwarded struct {
	port        uint16
	data, fault httpstream.Stream
	late        *time.Timer // gives up on the second stream
}

// serve waits until the client, or the daemon, ends the connection, and until
// nothing of it is left.
func (f *forwarder) serve(conn httpstream.Connection) {
	f.conn = conn
	close(f.ready)
	select {
	case <-conn.CloseChan():
	case <-f.ctx.Done():
	}
	f.mu.Lock()
	f.closed = true
	for _, p := range f.waiting {
		p.late.Stop()
	}
	f.mu.Unlock()
	f.cancel()
	conn.Close() // resets every stream: no copy is left waiting
	f.wait.Wait()
}

// open takes a stream that the client has opened. The second of a pair begins
// the connection. It must not block: other streams' frames wait for it.
func (f *forwarder) open(s httpstream.Stream, replied <-chan struct{}) error {
	h := s.Headers()
	id, kind := h.Get(v1.PortForwardRequestIDHeader), h.Get(v1.StreamType)
	port, err := strconv.ParseUint(h.Get(v1.PortHeader), 10, 16)
	switch {
	case err != nil || port == 0:
		return fmt.Errorf("header %s: %q is no port: want 1 to 65535", v1.PortHeader, h.Get(v1.PortHeader))
	case kind != v1.StreamTypeData && kind != v1.StreamTypeError:
		return fmt.Errorf("header %s: %q: want %s or %s", v1.StreamType, kind, v1.StreamTypeData, v1.StreamTypeError)
	case id == "":
		return fmt.Errorf("header %s is missing", v1.PortForwardRequestIDHeader)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.waiting[id]
	switch {
	case f.closed:
		return errors.New("the connection is closed")
	case p == nil && f.count == maxForwarded:
		return fmt.Errorf("more than %d connections at once", maxForwarded)
	case p == nil:
		p = &forwarded{port: uint16(port)}
		p.late = time.AfterFunc(f.streamTime, func() { f.giveUp(id, p) })
		f.waiting[id] = p
		f.count++
	}
	slot := &p.data
	if kind == v1.StreamTypeError {
		slot = &p.fault
	}
	if *slot != nil || p.port != uint16(port) {
		return fmt.Errorf("request %s has that stream already, or another port", id)
	}
	*slot = s
	if p.data == nil || p.fault == nil {
		return nil
	}
	delete(f.waiting, id)
	p.late.Stop()
	f.wait.Go(func() {
		defer f.forget(p)
		select {
		case <-replied: // the client hears of the stream before it hears from it
		case <-f.ctx.Done():
			return
		}
		f.carry(p)
	})
	return nil
}

// giveUp ends a pair whose second stream never came.
func (f *forwarder) giveUp(id string, p *forwarded) {
	f.mu.Lock()
	_, waits := f.waiting[id]
	delete(f.waiting, id)
	f.mu.Unlock()
	if waits {
		f.forget(p)
	}
}

// forget frees a connection's streams.
func (f *forwarder) forget(p *forwarded) {
	<-f.ready
	for _, s := range []httpstream.Stream{p.data, p.fault} {
		if s != nil {
			s.Reset() // nothing to a stream that is closed on both sides
			f.conn.RemoveStreams(s)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count--
}

// carry connects to the port and copies both ways until both are done.
func (f *forwarder) carry(p *forwarded) {
	defer p.fault.Close()
	conn, err := f.dial(p.port)
	if err != nil {
		fmt.Fprintf(p.fault, "error forwarding port %d to pod %s: %v", p.port, f.about, err)
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(f.ctx, func() { conn.Close() })
	defer stop()
	up := make(chan struct{})
	go func() {
		defer close(up)
		if _, err := io.Copy(conn, p.data); err != nil {
			conn.Close() // the pod takes no more, so it gets no answer through either
			return
		}
		if c, ok := conn.(interface{ CloseWrite() error }); ok {
			c.CloseWrite()
		}
	}()
	if _, err := io.Copy(unlessReset{p.data}, conn); err != nil {
		conn.Close() // one of both is gone
		p.data.Reset()
	}
	p.data.Close()
	<-up
}

// unlessReset writes to a stream until the client has reset it. spdystream
// itself would go on, and carry all that a pod sends to nobody.
type unlessReset struct{ httpstream.Stream }

func (s unlessReset) Write(b []byte) (int, error) {
	if f, ok := s.Stream.(interface{ IsFinished() bool }); ok && f.IsFinished() {
		return 0, net.ErrClosed
	}
	return s.Stream.Write(b)
}
