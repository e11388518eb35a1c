package podnet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TunnelDevices is how the names of devices to other hosts begin. What goes out
// there has a pod's address, or this host's gateway's: others would not be
// answered through the tunnel, or not let in by WireGuard.
const TunnelDevices = "shoal-"

// SealedDevice is the device whose peers prove who they are.
const SealedDevice = "shoal-wg"

// Reach is what the pod network knows of the other hosts.
type Reach struct {
	Cluster []netip.Prefix // of all nodes' pods: no source is hidden on the way there
	Sealed  []netip.Prefix // ranges that are reached through SealedDevice: from elsewhere they are forged
}

// SetReach makes the packet filter, the bridge and new pods fit the way to other
// hosts. Running pods have the MTU after their next Attach.
func (n *Network) SetReach(r Reach, mtu int) error {
	cfg := *n.config()
	cfg.Reach = r
	if mtu > 0 {
		cfg.MTU = mtu
	}
	if err := cfg.validate(); err != nil {
		return err
	}
	n.cfg.Store(&cfg)
	if err := n.ensureBridge(); err != nil {
		return err
	}
	return n.syncRules()
}

// MTU is what pods' devices have, in bytes.
func (n *Network) MTU() int { return n.config().MTU }

// PodCIDRs are the ranges that new pods get addresses of.
func (n *Network) PodCIDRs() []netip.Prefix { return slices.Clone(n.config().PodCIDRs) }

// Ranges are PodCIDRs and those of which pods still have addresses.
func (n *Network) Ranges() []netip.Prefix { return n.ranges() }

func (n *Network) ranges() []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Concat(n.config().PodCIDRs, n.ledger.Former)
}

// Move gives new pods addresses of other ranges. Pods that have some keep them,
// and go on: they reach this host, each other and, with their source hidden, all
// else; other hosts no longer reach them. Misplaced lists them.
func (n *Network) Move(ctx context.Context, cidrs []netip.Prefix) error {
	cfg := *n.config()
	cfg.PodCIDRs = cidrs
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return fmt.Errorf("move the pod network to %v: %w", cidrs, err)
	}
	n.mu.Lock()
	n.cfg.Store(&cfg)
	n.ledger.setPools(cfg.PodCIDRs)
	err := n.ledger.write(cfg.Dir)
	pods := maps.Clone(n.ledger.Pods)
	n.mu.Unlock()
	if err != nil {
		return err
	}
	for _, l := range pods { // before the bridge's network goes, which leads to them
		if err := n.routeFormer(l); err != nil {
			return fmt.Errorf("keep pod %v reachable: %w", l.PodRef, err)
		}
	}
	_, err = n.Check(ctx)
	return err
}

// Misplaced are the UIDs of pods with addresses that are not of PodCIDRs, sorted.
func (n *Network) Misplaced() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []string
	for _, uid := range slices.Sorted(maps.Keys(n.ledger.Pods)) {
		if !n.ledger.fits(n.ledger.Pods[uid].Addrs) {
			list = append(list, uid)
		}
	}
	return list
}

// Leased are the ranges that pods of this host have addresses of, by the file
// in dir. It is for who has not opened the network yet; an unreadable file holds
// none.
func Leased(dir string) []netip.Prefix {
	l, err := readLedger(dir)
	if err != nil || l == nil || len(l.Pods) == 0 {
		return nil
	}
	var list []netip.Prefix
	for _, p := range l.Pools {
		list = append(list, p.Prefix)
	}
	return list
}

// gateways are the bridge's addresses. Those of former ranges have no network:
// the rest of the range is another node's.
func (n *Network) gateways() []netip.Prefix {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []netip.Prefix
	for _, c := range n.config().PodCIDRs {
		list = append(list, netip.PrefixFrom(gateway(c), c.Bits()))
	}
	for _, c := range n.ledger.Former {
		list = append(list, single(gateway(c)))
	}
	return list
}

// gatewayOf is the gateway of the range that a is of.
func (n *Network) gatewayOf(a netip.Addr) (gw netip.Addr, ok bool) {
	for _, c := range n.ranges() {
		if c.Contains(a) {
			return gateway(c), true
		}
	}
	return gw, false
}

// routeFormer leads to a pod whose addresses are of a former range.
func (n *Network) routeFormer(l lease) error {
	cidrs := n.config().PodCIDRs
	for _, a := range l.Addrs {
		if slices.ContainsFunc(cidrs, func(c netip.Prefix) bool { return c.Contains(a) }) {
			continue
		}
		route := &netlink.Route{LinkIndex: int(n.bridge.Load()), Dst: ipNet(single(a)), Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_STATIC}
		if err := n.host.RouteReplace(route); err != nil {
			return err
		}
	}
	return nil
}

// unrouteFormer takes away what routeFormer made. Whether it did is not known
// any more: the range may have been forgotten with its last pod.
func (n *Network) unrouteFormer(l lease) error {
	for _, a := range l.Addrs {
		route := &netlink.Route{LinkIndex: int(n.bridge.Load()), Dst: ipNet(single(a)), Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_STATIC}
		if err := n.host.RouteDel(route); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove the route to %v: %w", a, err)
		}
	}
	return nil
}
