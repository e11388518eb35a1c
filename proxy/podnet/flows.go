package podnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// staleFlows matches tracked UDP flows to these host ports.
type staleFlows struct {
	ports []HostPort
	cidrs []netip.Prefix
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s staleFlows) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	dst, ok := netip.AddrFromSlice(f.Forward.DstIP)
	if !ok || f.Forward.Protocol != uint8(UDP) || s.outbound(f) {
		return false
	}
	dst = dst.Unmap()
	return slices.ContainsFunc(s.ports, func(p HostPort) bool {
		return p.Protocol == UDP && p.HostPort == f.Forward.DstPort && (p.everywhere(dst) || p.HostIP == dst)
	})
}

// outbound flows go from a pod to the world. Their mapping must stay, even
// where the world's port has the same number.
func (s staleFlows) outbound(f *netlink.ConntrackFlow) bool {
	return s.inPods(f.Forward.SrcIP) && !s.inPods(f.Reverse.SrcIP)
}

func (s staleFlows) inPods(ip []byte) bool {
	a, ok := netip.AddrFromSlice(ip)
	return ok && slices.ContainsFunc(s.cidrs, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
}

// forgetFlows makes connection tracking forget UDP flows to these host ports.
// A client that keeps sending would otherwise go on reaching a pod that is gone
// or, when it began before the pod, nobody. Connections of TCP and SCTP end by
// themselves.
func (n *Network) forgetFlows(ports []HostPort) error {
	stale := staleFlows{ports: ports, cidrs: n.ranges()}
	if !slices.ContainsFunc(ports, func(p HostPort) bool { return p.Protocol == UDP }) {
		return nil // spare the dump of the whole table
	}
	for _, c := range n.config().PodCIDRs {
		_, err := n.host.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.InetFamily(familyOf(c.Addr())), stale)
		// An interrupted dump has matched what it saw; new flows meet the new rules.
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("forget UDP flows to host ports: %w", err)
		}
	}
	return nil
}
