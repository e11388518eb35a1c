package podnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// podDevice is the pod's end of the veth, the name that pods expect.
const podDevice = "eth0"

// plumb connects the network namespace at path. It repairs a veth that is
// there, and replaces one that leads elsewhere.
func (n *Network) plumb(l lease, path string) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer ns.Close()
	if ns.Equal(n.ns) {
		return fmt.Errorf("network namespace %s is the host's own", path)
	}
	pod, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	defer pod.Close()
	link, err := n.veth(l, pod, ns)
	if err != nil {
		return err
	}
	if err := n.hostSide(l, link); err != nil {
		return err
	}
	return n.podSide(l, pod)
}

// veth gives the host's end of a pair whose other end is eth0 in pod.
func (n *Network) veth(l lease, pod *netlink.Handle, ns netns.NsHandle) (netlink.Link, error) {
	name := vethName(l.UID)
	link, err := n.host.LinkByName(name)
	if err == nil {
		if n.connects(l, link, pod) {
			return link, nil
		}
		if err := n.host.LinkDel(link); err != nil {
			return nil, fmt.Errorf("remove stale veth %s: %w", name, err)
		}
	} else if !notFound(err) {
		return nil, fmt.Errorf("veth %s: %w", name, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, n.config().MTU
	pair := &netlink.Veth{
		LinkAttrs: attrs, PeerName: podDevice, PeerMTU: uint32(n.config().MTU),
		PeerHardwareAddr: hardwareAddr(l.Addrs[0]), PeerNamespace: netlink.NsFd(int(ns)),
	}
	if err := n.host.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("add veth %s: %w", name, err)
	}
	return pair, nil
}

// connects tells whether link's other end is eth0 of pod, made for this lease.
func (n *Network) connects(l lease, link netlink.Link, pod *netlink.Handle) bool {
	peer, err := pod.LinkByName(podDevice)
	return err == nil && link.Attrs().ParentIndex == peer.Attrs().Index &&
		peer.Attrs().ParentIndex == link.Attrs().Index &&
		slices.Equal(peer.Attrs().HardwareAddr, hardwareAddr(l.Addrs[0]))
}

// hostSide makes the host's end an isolated port of the bridge and enters where
// the pod's addresses are.
func (n *Network) hostSide(l lease, link netlink.Link) error {
	bridge := int(n.bridge.Load())
	step := func(what string, err error) error {
		if err != nil {
			return fmt.Errorf("veth %s: %s: %w", link.Attrs().Name, what, err)
		}
		return nil
	}
	if link.Attrs().Alias != l.alias() {
		if err := n.host.LinkSetAlias(link, l.alias()); err != nil {
			return step("set alias", err)
		}
	}
	if haveIPv6() { // a bridge port needs no address of its own, nor what comes with one
		if err := n.host.LinkSetIP6AddrGenMode(link, nl.IN6_ADDR_GEN_MODE_NONE); err != nil {
			return step("disable autoconfiguration", err)
		}
	}
	if link.Attrs().MasterIndex != bridge {
		if err := n.host.LinkSetMasterByIndex(link, bridge); err != nil {
			return step("join bridge", err)
		}
	}
	if mtu := n.config().MTU; link.Attrs().MTU != mtu {
		if err := n.host.LinkSetMTU(link, mtu); err != nil {
			return step("set MTU", err)
		}
	}
	mac := hardwareAddr(l.Addrs[0])
	if err := errors.Join(
		step("isolate", n.host.LinkSetIsolated(link, true)),
		step("stop learning", n.host.LinkSetLearning(link, false)),
		step("bring up", n.host.LinkSetUp(link)),
		step("add forwarding entry", n.host.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER,
			State: netlink.NUD_PERMANENT, HardwareAddr: mac,
		})),
	); err != nil {
		return err
	}
	for _, a := range l.Addrs {
		if err := n.host.NeighSet(neighbour(bridge, a, l)); err != nil {
			return step("add neighbour "+a.String(), err)
		}
	}
	return step("route", n.routeFormer(l))
}

func neighbour(device int, addr netip.Addr, l lease) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: device, Family: familyOf(addr), State: netlink.NUD_PERMANENT,
		IP: addr.AsSlice(), HardwareAddr: hardwareAddr(l.Addrs[0]),
	}
}

// podSide gives eth0 its addresses and the way out through the bridge.
func (n *Network) podSide(l lease, pod *netlink.Handle) error {
	lo, err := pod.LinkByName("lo")
	if err == nil {
		err = pod.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("pod's lo: %w", err)
	}
	eth, err := pod.LinkByName(podDevice)
	if err != nil {
		return fmt.Errorf("pod's %s: %w", podDevice, err)
	}
	for _, a := range l.Addrs {
		if err := pod.AddrReplace(eth, deviceAddr(single(a))); err != nil {
			return fmt.Errorf("pod's %s: add address %v: %w", podDevice, a, err)
		}
	}
	if err := pod.LinkSetUp(eth); err != nil {
		return fmt.Errorf("pod's %s: bring up: %w", podDevice, err)
	}
	if mtu := n.config().MTU; eth.Attrs().MTU != mtu {
		if err := pod.LinkSetMTU(eth, mtu); err != nil {
			return fmt.Errorf("pod's %s: set MTU %d: %w", podDevice, mtu, err)
		}
	}
	for _, a := range l.Addrs {
		gw, ok := n.gatewayOf(a)
		if !ok {
			continue // of a range that nobody remembers: its sandbox is to be replaced
		}
		if err := n.wayOut(pod, eth.Attrs().Index, gw); err != nil {
			return fmt.Errorf("pod's %s: route through %v: %w", podDevice, gw, err)
		}
	}
	return nil
}

// wayOut routes one family through gw, which is on the link but in no prefix of
// the pod's.
func (n *Network) wayOut(pod *netlink.Handle, device int, gw netip.Addr) error {
	err := pod.NeighSet(&netlink.Neigh{
		LinkIndex: device, Family: familyOf(gw), State: netlink.NUD_PERMANENT,
		IP: gw.AsSlice(), HardwareAddr: n.gatewayMAC(),
	})
	if err != nil {
		return err
	}
	err = pod.RouteReplace(&netlink.Route{LinkIndex: device, Dst: ipNet(single(gw)), Scope: netlink.SCOPE_LINK})
	if err != nil {
		return err
	}
	return pod.RouteReplace(&netlink.Route{
		LinkIndex: device, Gw: gw.AsSlice(), Dst: ipNet(netip.PrefixFrom(unspecified(gw), 0)),
	})
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// unplumb removes a pod's veth, and with it eth0, routes and forwarding entry.
func (n *Network) unplumb(l lease) error {
	link, err := n.host.LinkByName(vethName(l.UID))
	if err == nil {
		err = n.host.LinkDel(link)
	}
	if err != nil && !notFound(err) {
		return fmt.Errorf("remove veth %s: %w", vethName(l.UID), err)
	}
	for _, a := range l.Addrs {
		err := n.host.NeighDel(neighbour(int(n.bridge.Load()), a, l))
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove neighbour %v: %w", a, err)
		}
	}
	return n.unrouteFormer(l)
}
