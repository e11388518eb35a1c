package gossip

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// dialPatience is how long a host may take to answer a connection: two tries
	// of TCP. memberlist waits 10 s, which with a join list of hosts that are off
	// would be minutes.
	dialPatience = 2 * time.Second
	// streamMost is the largest full exchange that is read, before its sender is
	// known to have a key. A thousand members with full tags and Serf's buffer of
	// events take 1.4 MB.
	streamMost = 4 << 20
	// streamsMost and streamsEach bound the connections that are read at once, in
	// all and of one address.
	streamsMost, streamsEach = 32, 4
)

// transport is what lies between memberlist and the network. It puts our
// delegates where Serf leaves no room for them, and bounds what strangers cost.
type transport struct {
	memberlist.NodeAwareTransport
	hook    sync.Once
	config  *memberlist.Config
	meet    *encounters
	streams chan net.Conn
	closed  chan struct{}
	once    sync.Once
	ended   sync.WaitGroup

	mu   sync.Mutex
	open map[netip.Addr]int
	all  int
}

func newTransport(inner memberlist.NodeAwareTransport, config *memberlist.Config, meet *encounters) *transport {
	t := &transport{
		NodeAwareTransport: inner, config: config, meet: meet,
		streams: make(chan net.Conn), closed: make(chan struct{}), open: make(map[netip.Addr]int),
	}
	t.ended.Go(t.accept)
	return t
}

// FinalAdvertiseAddr is called by memberlist's constructor, after Serf has put
// its own delegates into the configuration and before anything runs: the one
// moment to wrap them. TestSerfLeavesRoomForOurDelegates holds that.
func (t *transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	t.hook.Do(func() {
		t.config.Conflict = t.meet
		t.config.Merge = merging{t.config.Merge, t.meet}
		t.config.Delegate = noQueries{t.config.Delegate}
	})
	return t.NodeAwareTransport.FinalAdvertiseAddr(ip, port)
}

// merging asks us, then Serf, before a full exchange at joining. Members that
// are gone are not asked about: they would bar the others.
type merging struct {
	serf memberlist.MergeDelegate
	meet *encounters
}

func (m merging) NotifyMerge(nodes []*memberlist.Node) error {
	if err := m.meet.joining(nodes); err != nil {
		return err
	}
	return m.serf.NotifyMerge(slices.DeleteFunc(slices.Clone(nodes), func(n *memberlist.Node) bool {
		return n.State == memberlist.StateDead || n.State == memberlist.StateLeft
	}))
}

// Serf's message types that are let through (serf/messages.go). Full exchanges
// come by another way.
const (
	serfLeave     = 0
	serfJoin      = 1
	serfUserEvent = 3
)

// noQueries drops Serf's queries, their answers and relayed messages. Shoal asks
// none, and Serf would answer some to every holder of a key: with "list-keys"
// someone with a stolen key would read the one that is to replace it.
type noQueries struct{ memberlist.Delegate }

func (d noQueries) NotifyMsg(msg []byte) {
	if len(msg) > 0 && (msg[0] == serfLeave || msg[0] == serfJoin || msg[0] == serfUserEvent) {
		d.Delegate.NotifyMsg(msg)
	}
}

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.NodeAwareTransport.DialTimeout(addr, min(timeout, dialPatience))
}

func (t *transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.NodeAwareTransport.DialAddressTimeout(addr, min(timeout, dialPatience))
}

func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// accept hands on connections while there are not too many.
func (t *transport) accept() {
	for {
		select {
		case conn := <-t.NodeAwareTransport.StreamCh():
			stream, ok := t.admit(conn)
			if !ok {
				conn.Close()
				continue
			}
			select {
			case t.streams <- stream:
			case <-t.closed:
				stream.Close()
				return
			}
		case <-t.closed:
			return
		}
	}
}

func (t *transport) admit(conn net.Conn) (*stream, bool) {
	var from netip.Addr
	if at, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		from = at.Addr().Unmap()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all >= streamsMost || t.open[from] >= streamsEach {
		return nil, false
	}
	t.all++
	t.open[from]++
	return &stream{Conn: conn, left: streamMost, end: func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.all--
		if t.open[from]--; t.open[from] == 0 {
			delete(t.open, from)
		}
	}}, true
}

// Shutdown closes the sockets first: they may be waiting to hand on a connection.
func (t *transport) Shutdown() error {
	err := t.NodeAwareTransport.Shutdown()
	t.once.Do(func() { close(t.closed) })
	t.ended.Wait()
	return err
}

// stream is a connection that somebody opened to us.
type stream struct {
	net.Conn
	left int64
	once sync.Once
	end  func()
}

var errTooLarge = errors.New("more than a full exchange may have")

func (s *stream) Read(b []byte) (int, error) {
	if s.left <= 0 {
		return 0, errTooLarge
	}
	n, err := s.Conn.Read(b[:min(int64(len(b)), s.left)])
	s.left -= int64(n)
	return n, err
}

func (s *stream) Close() error {
	s.once.Do(s.end)
	return s.Conn.Close()
}
