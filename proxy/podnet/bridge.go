package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// deviceAddr is an address for a device. Duplicate detection is off, because
// nobody else gives out addresses of a pod CIDR and it would take a second.
func deviceAddr(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

func notFound(err error) bool {
	var e netlink.LinkNotFoundError
	// ENODEV: it went between being found and being removed, with its namespace.
	return errors.As(err, &e) || errors.Is(err, unix.ENODEV)
}

// ensureBridge makes the bridge be up with the gateways' addresses.
func (n *Network) ensureBridge() error {
	link, err := n.host.LinkByName(n.config().Bridge)
	if notFound(err) {
		link, err = n.addBridge()
	}
	if err != nil {
		return fmt.Errorf("bridge %s: %w", n.config().Bridge, err)
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("bridge %s: there is a device of that name, of type %s", n.config().Bridge, link.Type())
	}
	n.bridge.Store(int64(link.Attrs().Index))
	mac := n.gatewayMAC()
	if !slices.Equal(link.Attrs().HardwareAddr, mac) {
		if err := n.host.LinkSetHardwareAddr(link, mac); err != nil {
			return fmt.Errorf("bridge %s: set address %v: %w", n.config().Bridge, mac, err)
		}
	}
	if link.Attrs().MTU != n.config().MTU {
		if err := n.host.LinkSetMTU(link, n.config().MTU); err != nil {
			return fmt.Errorf("bridge %s: set MTU %d: %w", n.config().Bridge, n.config().MTU, err)
		}
	}
	if err := n.host.LinkSetUp(link); err != nil {
		return fmt.Errorf("bridge %s: bring up: %w", n.config().Bridge, err)
	}
	if err := n.bridgeAddrs(link); err != nil {
		return err
	}
	return n.serviceRoutes(link)
}

// serviceRoutes lead services' addresses to the bridge. Packets to them get other
// destinations on their way, but first the host's own need a route, which one
// without a default route has not; and so they have the gateway's address, which
// pods on all hosts can answer.
func (n *Network) serviceRoutes(link netlink.Link) error {
	for _, p := range n.config().Services {
		if !slices.ContainsFunc(n.config().PodCIDRs, func(c netip.Prefix) bool { return c.Addr().Is4() == p.Addr().Is4() }) {
			continue
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(p.Masked()), Scope: netlink.SCOPE_LINK}
		if err := n.host.RouteReplace(route); err != nil {
			return fmt.Errorf("bridge %s: add route to services at %v: %w", n.config().Bridge, p, err)
		}
	}
	return nil
}

func (n *Network) addBridge() (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = n.config().Bridge, n.config().MTU, n.gatewayMAC()
	snooping := false // ports are isolated: there is no multicast to steer
	if err := n.host.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return nil, err
	}
	return n.host.LinkByName(n.config().Bridge)
}

// bridgeAddrs gives the bridge the gateways' addresses and takes away others,
// which are those of an earlier configuration.
func (n *Network) bridgeAddrs(link netlink.Link) error {
	have, err := n.host.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("bridge %s: list addresses: %w", n.config().Bridge, err)
	}
	want := map[string]bool{}
	for _, p := range n.gateways() {
		addr := deviceAddr(p)
		want[addr.IPNet.String()] = true
		if slices.ContainsFunc(have, func(a netlink.Addr) bool { return a.IPNet.String() == addr.IPNet.String() }) {
			continue
		}
		for _, a := range have { // IPv6 has an address once, with whatever prefix
			if p.Addr().Is6() && a.IP.Equal(addr.IP) {
				if err := n.host.AddrDel(link, &a); err != nil {
					return fmt.Errorf("bridge %s: remove address %v: %w", n.config().Bridge, a.IPNet, err)
				}
			}
		}
		if err := n.host.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("bridge %s: add address %v: %w", n.config().Bridge, addr, err)
		}
	}
	for _, a := range have {
		if want[a.IPNet.String()] || a.IP.IsLinkLocalUnicast() {
			continue
		}
		if err := n.host.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("bridge %s: remove address %v: %w", n.config().Bridge, a.IPNet, err)
		}
	}
	return nil
}

// gatewayMAC is the bridge's address, the same whatever the pod CIDR is, so that
// pods' static neighbour entries stay right when that changes or the bridge has
// to be made again. It is seen on this host alone, and no pod has it: the last
// four bytes would be 0.0.0.1.
func (n *Network) gatewayMAC() net.HardwareAddr {
	return net.HardwareAddr{0x0a, 0x58, 0, 0, 0, 1}
}

// routing makes the host forward.
func (n *Network) routing() error {
	for _, c := range n.config().PodCIDRs {
		var err error
		if c.Addr().Is4() {
			err = setSysctl("ipv4/ip_forward", "1")
		} else {
			err = errors.Join(forwardIPv6(), setSysctl("ipv6/conf/"+n.config().Bridge+"/disable_ipv6", "0"))
		}
		if err != nil {
			return fmt.Errorf("let the host route pods' packets: %w", err)
		}
	}
	return nil
}

// localnet lets 127.0.0.0/8 lead to pods, or not.
func (n *Network) localnet(on bool) error {
	want := "0"
	if on {
		want = "1"
	}
	err := setSysctl("ipv4/conf/"+n.config().Bridge+"/route_localnet", want)
	if errors.Is(err, os.ErrNotExist) && !on {
		return nil
	}
	if err != nil {
		return fmt.Errorf("host ports on 127.0.0.1: %w", err)
	}
	return nil
}

// defaultMTU is that of the device that the default route uses.
func defaultMTU(h *netlink.Handle) int {
	const ethernet = 1500
	for _, fam := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := h.RouteList(nil, fam)
		if err != nil {
			continue
		}
		for _, r := range routes {
			if r.Dst != nil && !r.Dst.IP.IsUnspecified() || r.LinkIndex == 0 {
				continue
			}
			if link, err := h.LinkByIndex(r.LinkIndex); err == nil {
				return link.Attrs().MTU
			}
		}
	}
	return ethernet
}
