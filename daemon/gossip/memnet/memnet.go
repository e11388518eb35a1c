// Package memnet is a network in memory for many gossip nodes in one process:
// with delay, loss and cuts in one direction, in real or virtual time
// (testing/synctest).
package memnet

import (
	"context"
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
	cuts  map[[2]netip.Addr]bool
	off   map[netip.Addr]bool
	held  map[netip.Addr]time.Time // until when
	delay time.Duration
	loss  float64
	dice  *rand.Rand
	tap   func(from, to netip.AddrPort, packet []byte)
	sent  map[netip.AddrPort]Traffic
}

// Traffic is what came from an address: bytes without the headers of IP, UDP and
// TCP, and the packets (datagrams, or segments of streams) that they took.
type Traffic struct{ Bytes, Packets uint64 }

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

// Cut loses whatever goes from one host to another, and not back.
func (n *Network) Cut(from, to netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cuts == nil {
		n.cuts = make(map[[2]netip.Addr]bool)
	}
	n.cuts[[2]netip.Addr{from.Addr(), to.Addr()}] = true
}

// PowerOff loses whatever a host sends, and what is sent to it: nobody is told.
func (n *Network) PowerOff(host netip.Addr) { n.power(host, true) }

// PowerOn is the end of that.
func (n *Network) PowerOn(host netip.Addr) { n.power(host, false) }

// Hold has nothing leave a host or reach it for some time; it all comes then. So
// it is for the others while a host's processes are stopped (SIGSTOP). The host's
// own clock and timers go on, which is harder on it: it hears of nobody.
func (n *Network) Hold(host netip.Addr, how time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held == nil {
		n.held = make(map[netip.Addr]time.Time)
	}
	n.held[host] = time.Now().Add(how)
}

// later is called with the lock held: how long what goes from one host to another
// takes.
func (n *Network) later(from, to netip.Addr) time.Duration {
	return n.delay + max(time.Until(n.held[from]), time.Until(n.held[to]), 0)
}

func (n *Network) power(host netip.Addr, off bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.off == nil {
		n.off = make(map[netip.Addr]bool)
	}
	n.off[host] = off
}

// Heal ends all cuts.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts = nil
}

// Lose sets the probability with which a packet is lost. On streams what is lost
// comes later, as TCP sends it again.
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
func (n *Network) Sent(from netip.AddrPort) uint64 { return n.Traffic(from).Bytes }

// Traffic is all that came from an address so far.
func (n *Network) Traffic(from netip.AddrPort) Traffic {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent[from]
}

// segment is what a packet of TCP carries on Ethernet.
const segment = 1448

// count is called with the lock held.
func (n *Network) count(from netip.AddrPort, bytes int) {
	if n.sent == nil {
		n.sent = make(map[netip.AddrPort]Traffic)
	}
	t := n.sent[from]
	n.sent[from] = Traffic{t.Bytes + uint64(bytes), t.Packets + uint64((bytes+segment-1)/segment)}
}

// apart is called with the lock held: nothing gets from one host to another.
func (n *Network) apart(from, to netip.Addr) bool {
	return n.cuts[[2]netip.Addr{from, to}] || n.off[from] || n.off[to]
}

func (n *Network) send(from, to netip.AddrPort, packet []byte) {
	n.mu.Lock()
	n.count(from, len(packet))
	tap, node, delay := n.tap, n.nodes[to], n.later(from.Addr(), to.Addr())
	lost := n.apart(from.Addr(), to.Addr()) || n.loss > 0 && n.roll() < n.loss
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
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return t.net.dial(ctx, t.at, to)
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
