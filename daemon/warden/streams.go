package warden

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync"
	"time"
)

// streams are the connections between this host's witness and the others.
type streams struct {
	w       *Warden
	id, log string
	in      chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func newStreams(w *Warden, id, log string) *streams {
	return &streams{w: w, id: id, log: log, in: make(chan net.Conn), closed: make(chan struct{})}
}

// take hands a connection that another witness opened to raft.
func (s *streams) take(c net.Conn) error {
	select {
	case s.in <- c:
		return nil
	case <-s.closed:
		return net.ErrClosed
	}
}

// Accept is net.Listener's.
func (s *streams) Accept() (net.Conn, error) {
	select {
	case c := <-s.in:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close is net.Listener's.
func (s *streams) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr is net.Listener's.
func (s *streams) Addr() net.Addr { return address(s.id) }

type address string

func (address) Network() string  { return "witness" }
func (a address) String() string { return string(a) }

// DialWitness is witness.Streams'.
func (s *streams) DialWitness(to string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.w.ended, timeout)
	defer cancel()
	raw, err := s.w.port.dial(ctx, nodeOf(to), raftProtocol)
	if err != nil {
		return nil, err
	}
	c := s.w.port.keep(raw)
	text, err := json.Marshal(hello{Log: s.log, From: s.id, To: to})
	if err == nil {
		err = c.SetDeadline(time.Now().Add(handshakeTime))
	}
	if err == nil {
		_, err = c.Write(append(text, '\n'))
	}
	var refused []byte
	if err == nil {
		refused, err = readLine(c)
	}
	if err == nil && len(refused) > 0 {
		err = errors.New(string(refused))
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}
