package podroute

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// wireguard makes the device and its peers those of p. A peer lets in packets
// from its own ranges alone.
func (r *Router) wireguard(p Plan, key wgtypes.Key, port uint16) error {
	if r.wg == nil {
		return errors.New("WireGuard's control socket can't be opened")
	}
	link, err := r.host.LinkByName(WireGuardDevice)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		if err := r.host.LinkAdd(&netlink.Wireguard{LinkAttrs: named(WireGuardDevice)}); err != nil {
			return fmt.Errorf("device %s: add: %w", WireGuardDevice, err)
		}
		clear(r.told)
		link, err = r.host.LinkByName(WireGuardDevice)
	}
	if err != nil {
		return fmt.Errorf("device %s: %w", WireGuardDevice, err)
	}
	// A program in user space (wireguard-go) may serve a device of that name.
	if link.Type() != "wireguard" && link.Type() != "tuntap" {
		return fmt.Errorf("device %s: there is one of that name, of type %s", WireGuardDevice, link.Type())
	}
	if err := r.peers(p, key, port); err != nil {
		return err
	}
	return r.up(link, p.MTU)
}

// peers changes only what differs: to write a peer anew would end its session.
func (r *Router) peers(p Plan, key wgtypes.Key, port uint16) error {
	have, err := r.wg.Device(WireGuardDevice)
	if err != nil {
		return fmt.Errorf("device %s: read: %w", WireGuardDevice, err)
	}
	var change wgtypes.Config
	if have.PrivateKey != key {
		change.PrivateKey = &key
	}
	if wanted := int(port); have.ListenPort != wanted {
		change.ListenPort = &wanted
	}
	known := make(map[wgtypes.Key]wgtypes.Peer)
	for _, peer := range have.Peers {
		known[peer.PublicKey] = peer
	}
	endpoints := make(map[wgtypes.Key]netip.AddrPort)
	var added []wgtypes.PeerConfig
	for _, l := range p.Links {
		if l.Backend != WireGuard || l.Key == key.PublicKey() {
			continue
		}
		endpoint := netip.AddrPortFrom(l.Address, l.Port)
		endpoints[l.Key] = endpoint
		peer, is := known[l.Key]
		delete(known, l.Key)
		c := wgtypes.PeerConfig{PublicKey: l.Key}
		if !is || r.told[l.Key] != endpoint {
			c.Endpoint = net.UDPAddrFromAddrPort(endpoint)
		}
		if !is || ranges(peer.AllowedIPs) != ranges(ipNets(l.CIDRs)) {
			c.ReplaceAllowedIPs, c.AllowedIPs = true, ipNets(l.CIDRs)
		}
		if c.Endpoint != nil || c.ReplaceAllowedIPs {
			added = append(added, c)
		}
	}
	for gone := range known { // first: a range belongs to one peer
		change.Peers = append(change.Peers, wgtypes.PeerConfig{PublicKey: gone, Remove: true})
	}
	change.Peers = append(change.Peers, added...)
	if change.PrivateKey == nil && change.ListenPort == nil && len(change.Peers) == 0 {
		return nil
	}
	if err := r.wg.ConfigureDevice(WireGuardDevice, change); err != nil {
		return fmt.Errorf("device %s: configure: %w", WireGuardDevice, err)
	}
	r.told = endpoints
	return nil
}

func ipNets(list []netip.Prefix) (out []net.IPNet) {
	for _, p := range list {
		out = append(out, *ipNet(p))
	}
	return out
}

// ranges is a text of a list that does not depend on its order.
func ranges(list []net.IPNet) string {
	var out []string
	for _, n := range list {
		out = append(out, n.String())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}
