// Package memnet is a network in memory for many gossip nodes in one process:
// with delay, loss and cuts in one direction, in real or virtual time
// (testing/synctest).
package memnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// packetsKept is what waits for a node that is slow, as a socket's buffer does.
const packetsKept = 512

// Network carries packets and streams between addresses. Its zero value is one
// without delay and loss.
type Network struct {
	mu    sync.Mutex
	nodes map[netip.AddrPort]*Node
	cuts  map[[2]netip.AddrPort]bool
	delay time.Duration
	loss  float64
	dice  *rand.Rand
	tap   func(from, to netip.AddrPort, packet []byte)
	sent  map[netip.AddrPort]uint64
}

// New is a network in which a packet takes delay and is lost with a probability
// of loss. The seed makes losses alike from run to run, not traces: goroutines
// are not in order.
func New(delay time.Duration, loss float64, seed uint64) *Network {
	return &Network{delay: delay, loss: loss, dice: rand.New(rand.NewPCG(seed, 0))}
}

// Node is the transport of one node.
type Node struct {
	net     *Network
	at      netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

// Node makes a transport at an address, in the place of one that was there.
func (n *Network) Node(at netip.AddrPort) *Node {
	node := &Node{
		net: n, at: at, packets: make(chan *memberlist.Packet, packetsKept),
		streams: make(chan net.Conn), closed: make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nodes == nil {
		n.nodes = make(map[netip.AddrPort]*Node)
	}
	n.nodes[at] = node
	return node
}

// Cut loses whatever goes from one address to another, and not back.
func (n *Network) Cut(from, to netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cuts == nil {
		n.cuts = make(map[[2]netip.AddrPort]bool)
	}
	n.cuts[[2]netip.AddrPort{from, to}] = true
}

// Heal ends all cuts.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts = nil
}

// Lose sets the probability with which a packet is lost. Streams lose nothing.
func (n *Network) Lose(loss float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss = loss
}

// Tap has each packet that is sent, lost or not, told to f.
func (n *Network) Tap(f func(from, to netip.AddrPort, packet []byte)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tap = f
}

// Inject delivers a packet as if from had sent it.
func (n *Network) Inject(from, to netip.AddrPort, packet []byte) { n.send(from, to, packet) }

// Sent is how many bytes of packets and streams came from an address, without
// the headers of IP, UDP and TCP.
func (n *Network) Sent(from netip.AddrPort) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent[from]
}

// count is called with the lock held.
func (n *Network) count(from netip.AddrPort, bytes int) {
	if n.sent == nil {
		n.sent = make(map[netip.AddrPort]uint64)
	}
	n.sent[from] += uint64(bytes)
}

func (n *Network) send(from, to netip.AddrPort, packet []byte) {
	n.mu.Lock()
	n.count(from, len(packet))
	tap, node, delay := n.tap, n.nodes[to], n.delay
	lost := n.cuts[[2]netip.AddrPort{from, to}] || n.loss > 0 && n.roll() < n.loss
	n.mu.Unlock()
	if tap != nil {
		tap(from, to, packet)
	}
	if node == nil || lost {
		return
	}
	p := &memberlist.Packet{Buf: append([]byte(nil), packet...), From: net.UDPAddrFromAddrPort(from)}
	arrive := func() {
		p.Timestamp = time.Now()
		select {
		case <-node.closed:
		case node.packets <- p:
		default: // its buffer is full
		}
	}
	if delay == 0 {
		arrive()
		return
	}
	time.AfterFunc(delay, arrive)
}

// roll is called with the lock held.
func (n *Network) roll() float64 {
	if n.dice == nil {
		n.dice = rand.New(rand.NewPCG(0, 0))
	}
	return n.dice.Float64()
}

func (n *Network) cut(from, to netip.AddrPort) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cuts[[2]netip.AddrPort{from, to}]
}

var errTimeout = fmt.Errorf("dial: %w", errors.New("i/o timeout"))

// dial opens a stream: a way there and back, and somebody who accepts.
func (n *Network) dial(from, to netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	n.mu.Lock()
	node, delay := n.nodes[to], n.delay
	n.mu.Unlock()
	if n.cut(from, to) || n.cut(to, from) {
		time.Sleep(timeout)
		return nil, errTimeout
	}
	time.Sleep(2 * delay)
	if node == nil {
		return nil, errors.New("connection refused")
	}
	here, there := net.Pipe()
	patience := time.NewTimer(timeout)
	defer patience.Stop()
	select {
	case <-node.closed:
		return nil, errors.New("connection refused")
	case <-patience.C:
		return nil, errTimeout
	case node.streams <- &stream{Conn: there, net: n, from: to, to: from}:
		return &stream{Conn: here, net: n, from: from, to: to}, nil
	}
}

// stream is one end of a connection.
type stream struct {
	net.Conn
	net      *Network
	from, to netip.AddrPort
}

// Write loses what is written into a cut; the other end waits for it in vain.
func (s *stream) Write(b []byte) (int, error) {
	s.net.mu.Lock()
	s.net.count(s.from, len(b))
	delay := s.net.delay
	s.net.mu.Unlock()
	if s.net.cut(s.from, s.to) {
		return len(b), nil
	}
	time.Sleep(delay)
	return s.Conn.Write(b)
}

func (s *stream) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(s.from) }
func (s *stream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.to) }

// What follows is memberlist.NodeAwareTransport.

func (t *Node) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.at.Addr().AsSlice(), int(t.at.Port()), nil
}

func (t *Node) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	select {
	case <-t.closed:
		return time.Time{}, net.ErrClosed
	default:
	}
	t.net.send(t.at, to, b)
	return time.Now(), nil
}

func (t *Node) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

func (t *Node) PacketCh() <-chan *memberlist.Packet { return t.packets }

func (t *Node) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	return t.net.dial(t.at, to, timeout)
}

func (t *Node) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}

func (t *Node) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown takes the node off the network.
func (t *Node) Shutdown() error {
	t.once.Do(func() {
		close(t.closed)
		t.net.mu.Lock()
		defer t.net.mu.Unlock()
		if t.net.nodes[t.at] == t {
			delete(t.net.nodes, t.at)
		}
	})
	return nil
}
