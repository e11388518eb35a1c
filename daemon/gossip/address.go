package gossip

import (
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"

	"github.com/hashicorp/memberlist"
)

// advertised is where the others reach this host.
func (c Config) advertised() (netip.AddrPort, error) {
	addr, port := c.Advertise.Addr(), c.Advertise.Port()
	if port == 0 {
		port = c.Bind.Port()
	}
	if port == 0 {
		port = DefaultPort
	}
	if !addr.IsValid() && c.Bind.Addr().IsValid() && !c.Bind.Addr().IsUnspecified() {
		addr = c.Bind.Addr()
	}
	if !addr.IsValid() {
		var err error
		if addr, err = routed(); err != nil {
			return netip.AddrPort{}, err
		}
	}
	addr = addr.Unmap()
	if addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("gossip: %s is no address that other hosts can reach: set the one that they can", addr)
	}
	return netip.AddrPortFrom(addr, port), nil
}

// Routed is this host's address on its default route, at which others reach it
// unless they are told another.
func Routed() (netip.Addr, error) { return routed() }

// routed is this host's address on its default route. Connecting a UDP socket
// sends nothing; the addresses are those of documentation (RFC 5737, RFC 3849).
func routed() (netip.Addr, error) {
	for _, far := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		conn, err := net.Dial("udp", far)
		if err != nil {
			continue
		}
		at := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
		conn.Close()
		if !at.IsLoopback() && !at.IsUnspecified() {
			return at, nil
		}
	}
	return netip.Addr{}, errors.New("gossip: this host has no default route, so the address at which others reach it is unknown: set it")
}

// listen opens the sockets, UDP and TCP on one port.
func listen(bind, advertise netip.AddrPort, library *log.Logger) (memberlist.NodeAwareTransport, error) {
	addr, port := bind.Addr(), bind.Port()
	if port == 0 {
		port = advertise.Port()
	}
	if !addr.IsValid() {
		addr = netip.IPv4Unspecified()
		if advertise.Addr().Is6() {
			addr = netip.IPv6Unspecified()
		}
	}
	t, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{addr.String()}, BindPort: int(port), Logger: library,
	})
	if err != nil {
		return nil, fmt.Errorf("gossip: listen on %s: %w", netip.AddrPortFrom(addr, port), err)
	}
	return t, nil
}
