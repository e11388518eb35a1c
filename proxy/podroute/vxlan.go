package podroute

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// vxlan makes the device, and tells it where each node is: nothing is learnt,
// nothing is asked by multicast.
func (r *Router) vxlan(p Plan) error {
	link, err := r.vxlanDevice(p)
	if err != nil {
		return err
	}
	if err := r.up(link, p.MTU); err != nil {
		return err
	}
	index := link.Attrs().Index
	var fdb, neighbours []netlink.Neigh
	for _, l := range p.Links {
		if l.Backend != VXLAN {
			continue
		}
		mac := hardwareAddr(l.Node)
		fdb = append(fdb, netlink.Neigh{
			LinkIndex: index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT,
			IP: l.Address.AsSlice(), HardwareAddr: mac,
		})
		for _, c := range l.CIDRs {
			neighbours = append(neighbours, netlink.Neigh{
				LinkIndex: index, Family: familyOf(c.Addr()), State: netlink.NUD_PERMANENT,
				IP: gateway(c).AsSlice(), HardwareAddr: mac,
			})
		}
	}
	return errors.Join(
		r.entries(index, unix.AF_BRIDGE, fdb),
		r.entries(index, netlink.FAMILY_V4, ofFamily(neighbours, netlink.FAMILY_V4)),
		r.entries(index, netlink.FAMILY_V6, ofFamily(neighbours, netlink.FAMILY_V6)),
	)
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

func ofFamily(list []netlink.Neigh, family int) (out []netlink.Neigh) {
	for _, n := range list {
		if n.Family == family {
			out = append(out, n)
		}
	}
	return out
}

// vxlanDevice is the device, made anew if what can't be changed differs.
func (r *Router) vxlanDevice(p Plan) (netlink.Link, error) {
	want := &netlink.Vxlan{
		LinkAttrs: named(VXLANDevice), VxlanId: vxlanID, Port: VXLANPort, Learning: false,
		SrcAddr: p.Addrs[0].AsSlice(),
	}
	want.HardwareAddr, want.MTU = hardwareAddr(p.Node), p.MTU
	if link, err := r.host.LinkByName(VXLANDevice); err == nil {
		have, is := link.(*netlink.Vxlan)
		if !is {
			return nil, fmt.Errorf("device %s: there is one of that name, of type %s", VXLANDevice, link.Type())
		}
		if have.VxlanId == want.VxlanId && have.Port == want.Port && !have.Learning && have.SrcAddr.Equal(want.SrcAddr) &&
			bytes.Equal(have.HardwareAddr, want.HardwareAddr) {
			return have, nil
		}
		if err := r.host.LinkDel(link); err != nil {
			return nil, fmt.Errorf("device %s: remove: %w", VXLANDevice, err)
		}
	}
	if err := r.host.LinkAdd(want); err != nil {
		return nil, fmt.Errorf("device %s: add: %w", VXLANDevice, err)
	}
	return r.host.LinkByName(VXLANDevice)
}

// entries makes the device's forwarding or neighbour entries those that are wanted.
func (r *Router) entries(index, family int, want []netlink.Neigh) error {
	have, err := r.host.NeighList(index, family)
	if err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	var errs []error
	wanted := make(map[string]bool)
	key := func(n netlink.Neigh) string { return n.IP.String() + " " + n.HardwareAddr.String() }
	there := make(map[string]bool)
	for _, n := range have {
		there[key(n)] = n.State&netlink.NUD_PERMANENT != 0
	}
	for _, n := range want {
		wanted[key(n)] = true
	}
	// First what is too much: a node's address may have changed, and a bridge
	// entry of one hardware address may have several destinations.
	for _, n := range have {
		if wanted[key(n)] || n.State&netlink.NUD_PERMANENT == 0 {
			continue
		}
		n.Family, n.LinkIndex = family, index
		if family == unix.AF_BRIDGE {
			n.Flags = netlink.NTF_SELF
		}
		if err := r.host.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove neighbour %s: %w", key(n), err))
		}
	}
	for _, n := range want {
		if there[key(n)] {
			continue
		}
		add := r.host.NeighSet
		if family == unix.AF_BRIDGE {
			add = r.host.NeighAppend
		}
		if err := add(&n); err != nil {
			errs = append(errs, fmt.Errorf("add neighbour %s: %w", key(n), err))
		}
	}
	return errors.Join(errs...)
}
