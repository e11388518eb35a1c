package gossip

import (
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
	packets chan *memberlist.Packet
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
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), closed: make(chan struct{}), open: make(map[netip.Addr]int),
	}
	t.ended.Go(t.accept)
	t.ended.Go(t.receive)
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
	return sealedOnly(t.NodeAwareTransport.DialTimeout(addr, min(timeout, dialPatience)))
}

func (t *transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return sealedOnly(t.NodeAwareTransport.DialAddressTimeout(addr, min(timeout, dialPatience)))
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// receive hands on packets that may be opened.
func (t *transport) receive() {
	for {
		select {
		case p := <-t.NodeAwareTransport.PacketCh():
			if !sealedPacket(p.Buf) {
				t.unsealed(p.From)
				continue
			}
			select {
			case t.packets <- p:
			case <-t.closed:
				return
			}
		case <-t.closed:
			return
		}
	}
}

// unsealed says, to the library's log, what memberlist would say of a packet.
func (t *transport) unsealed(from net.Addr) {
	t.config.Logger.Printf("[ERR] memberlist: Decrypt packet failed: it is not encrypted as packets of a cluster are: from=%s", from)
}

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
	return &stream{Conn: conn, left: streamMost, closed: func() {
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
