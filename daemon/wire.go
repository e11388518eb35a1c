package daemon

import (
	"context"
	"net"
	"net/netip"
	"strconv"

	"github.com/hashicorp/memberlist"
)

// Wire is how a daemon reaches others where that is not by the kernel's sockets:
// many of them in one process (daemon/sim).
type Wire struct {
	Gossip memberlist.NodeAwareTransport // Config.Cluster.AdvertiseAddr is its address
	Peers  net.Listener
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

// dial is how peers are reached, nil for the kernel's TCP.
func (d *Daemon) dial() func(ctx context.Context, network, address string) (net.Conn, error) {
	if d.Wire == nil {
		return nil
	}
	return d.Wire.Dial
}

func (d *Daemon) listenForPeers() (net.Listener, error) {
	c := d.Config.Cluster
	switch {
	case d.Wire != nil:
		return d.Wire.Peers, nil
	case c.BindAddr.IsValid():
		return net.Listen("tcp", netip.AddrPortFrom(c.BindAddr, uint16(c.PeerPort)).String())
	}
	return net.Listen("tcp", ":"+strconv.Itoa(c.PeerPort))
}
