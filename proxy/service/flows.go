package service

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// flow is connections of UDP to a frontend that the kernel is to forget: those
// that it leads to an endpoint, or, where that is zero, to none at all.
type flow struct {
	f  Frontend
	to netip.AddrPort
}

func (f flow) String() string {
	if !f.to.IsValid() {
		return f.f.String() + " untranslated"
	}
	return f.f.String() + " -> " + f.to.String()
}

// stale notes which flows go on to where they should not, when a rule changes.
func (c *Change) stale(f Frontend, old, now inForce) {
	if c == nil || f.Protocol != v1.ProtocolUDP {
		return
	}
	add := func(to netip.AddrPort) {
		if c.flows == nil {
			c.flows = make(map[flow]bool)
		}
		c.flows[flow{f, to}] = true
	}
	for _, to := range slices.Concat(old.slots, old.inside) {
		if !slices.Contains(now.slots, to) && !slices.Contains(now.inside, to) {
			add(to)
		}
	}
	if len(old.slots)+len(old.inside) == 0 && len(now.slots)+len(now.inside) > 0 {
		add(netip.AddrPort{})
	}
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (c *Change) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	dst, _ := netip.AddrFromSlice(f.Forward.DstIP)
	from, _ := netip.AddrFromSlice(f.Reverse.SrcIP)
	front := Frontend{dst.Unmap(), v1.ProtocolUDP, f.Forward.DstPort}
	to := netip.AddrPortFrom(from.Unmap(), f.Reverse.SrcPort)
	if to == netip.AddrPortFrom(front.Addr, front.Port) {
		to = netip.AddrPort{}
	}
	return c.flows[flow{front, to}]
}

// forget carries out what stale noted.
func (c *Change) forget(host *netlink.Handle) error {
	if len(c.flows) == 0 {
		return nil // spare the dump of the whole table
	}
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		_, err := host.ConntrackDeleteFilters(netlink.ConntrackTable, family, c)
		// An interrupted dump has matched what it saw; new flows meet the new rules.
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("forget UDP flows of services: %w", err)
		}
	}
	return nil
}
