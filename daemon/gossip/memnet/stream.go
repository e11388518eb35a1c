package memnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// resend is when TCP sends again what was lost, for the first time (RFC 6298's
// least in Linux); each further time it waits twice as long.
const resend = 200 * time.Millisecond

var (
	errTimeout = fmt.Errorf("dial: %w", os.ErrDeadlineExceeded)
	errRefused = errors.New("connection refused")
)

// dial opens a stream: a way there and back, and somebody who accepts.
func (n *Network) dial(ctx context.Context, from, to netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	node, delay := n.nodes[to], n.later(from.Addr(), to.Addr())
	back := n.later(to.Addr(), from.Addr())
	apart := n.apart(from.Addr(), to.Addr()) || n.apart(to.Addr(), from.Addr())
	n.mu.Unlock()
	trip := time.NewTimer(delay + back)
	defer trip.Stop()
	if apart {
		trip.Stop()
	}
	select {
	case <-trip.C:
	case <-ctx.Done():
		return nil, errTimeout
	}
	if node == nil {
		return nil, errRefused
	}
	in, out := newHalf(), newHalf()
	select {
	case <-node.closed:
		return nil, errRefused
	case <-ctx.Done():
		return nil, errTimeout
	case node.streams <- &stream{net: n, in: in, out: out, from: to, to: from}:
		return &stream{net: n, in: out, out: in, from: from, to: to}, nil
	}
}

// Dial opens a stream from a host, to where a Listener is or is not.
func (n *Network) Dial(ctx context.Context, from netip.AddrPort, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	return n.dial(ctx, from, to)
}

// Listen accepts streams at an address.
func (n *Network) Listen(at netip.AddrPort) net.Listener { return listener{n.Node(at)} }

type listener struct{ node *Node }

func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.node.streams:
		return c, nil
	case <-l.node.closed:
		return nil, net.ErrClosed
	}
}

func (l listener) Close() error   { return l.node.Shutdown() }
func (l listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.node.at) }

// half is one direction of a stream, as its reader sees it.
type half struct {
	mu       sync.Mutex
	changed  sync.Cond
	chunks   []chunk
	last     time.Time // when the newest chunk arrives: nothing overtakes
	ended    bool      // its writer has closed it, and that arrives with the last
	closed   bool      // its reader has
	lost     bool      // something was written into a cut: nothing arrives any more
	deadline time.Time
}

type chunk struct {
	at   time.Time
	data []byte
}

func newHalf() *half {
	h := new(half)
	h.changed.L = &h.mu
	return h
}

// look has the reader look again.
func (h *half) look() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changed.Broadcast()
}

func (h *half) read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ; ; h.changed.Wait() {
		now := time.Now()
		switch {
		case h.closed:
			return 0, net.ErrClosed
		case !h.deadline.IsZero() && !now.Before(h.deadline):
			return 0, os.ErrDeadlineExceeded
		case len(h.chunks) > 0 && !now.Before(h.chunks[0].at):
			n := copy(b, h.chunks[0].data)
			if h.chunks[0].data = h.chunks[0].data[n:]; len(h.chunks[0].data) == 0 {
				h.chunks = h.chunks[1:]
			}
			return n, nil
		case len(h.chunks) == 0 && h.ended && !now.Before(h.last):
			return 0, io.EOF
		}
	}
}

// bring has data arrive after a delay; nil is the end.
func (h *half) bring(data []byte, delay time.Duration, lost bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return net.ErrClosed
	}
	if h.lost = h.lost || lost; h.lost {
		return nil
	}
	if h.closed {
		return errors.New("connection reset by peer")
	}
	now := time.Now()
	if at := now.Add(delay); at.After(h.last) {
		h.last = at
	}
	if data == nil {
		h.ended = true
	} else {
		h.chunks = append(h.chunks, chunk{h.last, append([]byte(nil), data...)})
	}
	if h.last.After(now) {
		time.AfterFunc(h.last.Sub(now), h.look)
	} else {
		h.changed.Broadcast()
	}
	return nil
}

func (h *half) until(t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deadline = t
	h.changed.Broadcast()
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		time.AfterFunc(wait, h.look)
	}
}

func (h *half) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed, h.chunks = true, nil
	h.changed.Broadcast()
}

// stream is one end of a connection.
type stream struct {
	net      *Network
	in, out  *half
	from, to netip.AddrPort
}

func (s *stream) Read(b []byte) (int, error) { return s.in.read(b) }

// Write never waits. What is written into a cut is lost, and the stream with it.
func (s *stream) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	delay, lost := s.net.carry(s.from, s.to, len(b))
	if err := s.out.bring(b, delay, lost); err != nil {
		return 0, err
	}
	return len(b), nil
}

// carry is how long what is written on a stream takes.
func (n *Network) carry(from, to netip.AddrPort, bytes int) (delay time.Duration, lost bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.count(from, bytes)
	delay = n.later(from.Addr(), to.Addr())
	for again := resend; n.loss > 0 && n.loss < 1 && n.roll() < n.loss; again *= 2 {
		delay += again
		n.count(from, bytes)
	}
	return delay, n.apart(from.Addr(), to.Addr())
}

func (s *stream) Close() error {
	delay, lost := s.net.carry(s.from, s.to, 0)
	_ = s.out.bring(nil, delay, lost)
	s.in.close()
	return nil
}

func (s *stream) SetDeadline(t time.Time) error     { return s.SetReadDeadline(t) }
func (s *stream) SetReadDeadline(t time.Time) error { s.in.until(t); return nil }

// SetWriteDeadline does nothing: no write waits.
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

func (s *stream) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(s.from) }
func (s *stream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.to) }
