package podroute

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Networks are those that this host has routes to, without the default route and
// Shoal's own; onLink those that it is part of. bridge is the pods' bridge.
func (r *Router) Networks(bridge string) (networks, onLink []netip.Prefix, err error) {
	links, err := r.host.LinkList()
	if err != nil {
		return nil, nil, err
	}
	ours := make(map[int]bool)
	for _, l := range links {
		name := l.Attrs().Name
		ours[l.Attrs().Index] = name == bridge || name == "lo" || strings.HasPrefix(name, "shoal-")
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := r.host.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			if errors.Is(err, unix.EAFNOSUPPORT) {
				continue
			}
			return nil, nil, err
		}
		for _, route := range routes {
			p, ok := prefixOf(route.Dst)
			if !ok || p.Bits() == 0 || p.Addr().IsMulticast() || p.Addr().IsLinkLocalUnicast() || ours[route.LinkIndex] || route.Protocol == protocol {
				continue
			}
			networks = append(networks, p)
			if route.Gw == nil && len(route.MultiPath) == 0 {
				onLink = append(onLink, p)
			}
		}
	}
	return sorted(networks), sorted(onLink), nil
}

func sorted(list []netip.Prefix) []netip.Prefix {
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list)
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	if a = a.Unmap(); !ok {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, ones), true
}

// DeviceMTU is that of the device with an address, 0 where there is none.
func (r *Router) DeviceMTU(at netip.Addr) int {
	family := netlink.FAMILY_V6
	if at.Is4() {
		family = netlink.FAMILY_V4
	}
	addrs, err := r.host.AddrList(nil, family)
	if err != nil {
		return 0
	}
	for _, a := range addrs {
		if !a.IP.Equal(at.AsSlice()) {
			continue
		}
		if link, err := r.host.LinkByIndex(a.LinkIndex); err == nil {
			return link.Attrs().MTU
		}
	}
	return 0
}
