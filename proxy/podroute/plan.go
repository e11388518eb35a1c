// Package podroute leads packets for pods of other hosts there: by plain routes
// where hosts share a network (host-gw), in UDP (vxlan), or encrypted
// (wireguard).
//
// Decide is pure: from what this node and the others say of themselves it makes
// a Plan, the whole wish. Router.Apply makes the kernel hold it, and may be
// called again with the same: what is there already is left alone, so open
// connections don't notice. All that it makes can be told from others' things:
// devices by their names, routes by their protocol (83).
//
// Each two nodes use the best way that both offer, by themselves, so kernels
// with and without WireGuard can be mixed.
package podroute

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// Backend is a way to another host.
type Backend string

// The backends, as the configuration calls them.
const (
	WireGuard Backend = "wireguard"
	VXLAN     Backend = "vxlan"
	HostGW    Backend = "host-gw"
)

// preferred is the order in which two nodes choose of what both offer.
var preferred = []Backend{WireGuard, VXLAN, HostGW}

// The devices. Their names begin as podnet.TunnelDevices.
const (
	WireGuardDevice = "shoal-wg"
	VXLANDevice     = "shoal-vx"
)

// VXLAN as Linux' default has it, and flannel; the number is Shoal's.
const (
	VXLANPort = 8472
	vxlanID   = 0x73686f // "sho"
)

// Site is what a node says of itself.
type Site struct {
	Node          string         `json:"-"`
	CIDRs         []netip.Prefix `json:"-"`
	Addresses     []netip.Addr   `json:"addresses,omitempty"` // where others reach it, at most one of each family, the preferred first
	Backends      []Backend      `json:"backends,omitempty"`
	WireGuardKey  string         `json:"wireguardKey,omitempty"` // its public key, base64
	WireGuardPort uint16         `json:"wireguardPort,omitempty"`
}

// Host is what this host's own networks are like.
type Host struct {
	Cluster  []netip.Prefix // pods' addresses, of all nodes
	Networks []netip.Prefix // that it has routes to, the default route and our own apart
	OnLink   []netip.Prefix // those without a gateway
	MTU      int            // of pods' devices, and so of the tunnels'; bytes
}

// Link is the way to one other node.
type Link struct {
	Node    string
	Backend Backend
	Address netip.Addr // of the node, outside
	CIDRs   []netip.Prefix
	Key     wgtypes.Key
	Port    uint16
}

// Plan is the whole wish. The zero Plan wants nothing.
type Plan struct {
	Node     string
	Addrs    []netip.Addr   // this node's, outside
	CIDRs    []netip.Prefix // this node's
	MTU      int
	Links    []Link   // by node
	Problems []string // why some node can't be reached, in words
}

// Decide is the way from own to each of the others. It gives no way for ranges
// that it does not trust: those outside of the cluster's, over this host's own
// networks, or over the addresses of nodes.
func Decide(own Site, others []Site, h Host) Plan {
	p := Plan{Node: own.Node, Addrs: own.Addresses, CIDRs: own.CIDRs, MTU: h.MTU}
	others = slices.Clone(others)
	slices.SortFunc(others, func(a, b Site) int { return strings.Compare(a.Node, b.Node) })
	for _, o := range others {
		if o.Node == own.Node || len(o.CIDRs) == 0 || len(o.Addresses) == 0 && len(o.Backends) == 0 {
			continue // in its first moment a node has not said how it is reached
		}
		l, problem := linkTo(own, o, h)
		if problem == "" {
			l.CIDRs, problem = trusted(own, o, others, h)
		}
		if problem != "" {
			p.Problems = append(p.Problems, "no way to the pods of node "+o.Node+": "+problem)
		}
		if len(l.CIDRs) > 0 {
			p.Links = append(p.Links, l)
		}
	}
	return p
}

// linkTo is how to reach o, or why it can't be reached.
func linkTo(own, o Site, h Host) (Link, string) {
	l := Link{Node: o.Node, Port: o.WireGuardPort}
	for _, b := range preferred {
		if slices.Contains(own.Backends, b) && slices.Contains(o.Backends, b) {
			l.Backend = b
			break
		}
	}
	if l.Backend == "" {
		return l, fmt.Sprintf("it offers %s, this host %s: set network.backend alike", words(o.Backends), words(own.Backends))
	}
	for _, mine := range own.Addresses {
		for _, theirs := range o.Addresses {
			if !l.Address.IsValid() && mine.Is4() == theirs.Is4() {
				l.Address = theirs
			}
		}
		if l.Backend == VXLAN { // the device has one address, of one family
			break
		}
	}
	if !l.Address.IsValid() {
		return l, fmt.Sprintf("its addresses are %v, this host's %v", o.Addresses, own.Addresses)
	}
	if l.Backend == HostGW && !slices.ContainsFunc(h.OnLink, func(n netip.Prefix) bool { return n.Contains(l.Address) }) {
		return l, fmt.Sprintf("host-gw needs both hosts in one network, and %v is in none of this host's (%v): use vxlan or wireguard", l.Address, h.OnLink)
	}
	if l.Backend == WireGuard {
		var err error
		if l.Key, err = wgtypes.ParseKey(o.WireGuardKey); err != nil || o.WireGuardPort == 0 {
			return l, "it says no WireGuard key and port that can be read"
		}
	}
	return l, ""
}

func words(list []Backend) string {
	if len(list) == 0 {
		return "none"
	}
	var s []string
	for _, b := range list {
		s = append(s, string(b))
	}
	return strings.Join(s, " and ")
}

// trusted are the ranges of o that may be led there, and what is wrong with the
// others.
func trusted(own, o Site, others []Site, h Host) (list []netip.Prefix, problem string) {
	var problems []string
	for _, c := range o.CIDRs {
		if text := distrust(c, own, o, others, h); text != "" {
			problems = append(problems, text)
			continue
		}
		list = append(list, c)
	}
	return list, strings.Join(problems, "; ")
}

func distrust(c netip.Prefix, own, o Site, others []Site, h Host) string {
	overlaps := func(n netip.Prefix) bool { return n.Overlaps(c) }
	if !slices.ContainsFunc(h.Cluster, func(s netip.Prefix) bool { return s.Bits() <= c.Bits() && s.Contains(c.Addr()) }) {
		return fmt.Sprintf("its pod CIDR %v is not in network.cluster_cidrs of this host (%v): set that alike on all hosts", c, h.Cluster)
	}
	if slices.ContainsFunc(own.CIDRs, overlaps) {
		return fmt.Sprintf("its pod CIDR %v overlaps this node's (%v)", c, own.CIDRs)
	}
	if i := slices.IndexFunc(h.Networks, overlaps); i >= 0 {
		return fmt.Sprintf("its pod CIDR %v overlaps this host's own network %v: choose other cluster_cidrs", c, h.Networks[i])
	}
	for _, s := range append([]Site{own}, others...) {
		if i := slices.IndexFunc(s.Addresses, c.Contains); i >= 0 {
			return fmt.Sprintf("its pod CIDR %v holds the address %v of node %s", c, s.Addresses[i], s.Node)
		}
	}
	if o.CIDRs == nil {
		return "it has no pod CIDR"
	}
	return ""
}

// Overhead is what a backend adds to each packet between two hosts, in bytes:
// the outer IP header, UDP, and VXLAN's with the inner Ethernet header (RFC 7348)
// or WireGuard's with its tag.
func Overhead(b Backend, outer6 bool) int {
	ip := 20
	if outer6 {
		ip = 40
	}
	switch b {
	case VXLAN:
		return ip + 8 + 8 + 14
	case WireGuard:
		return ip + 8 + 32
	}
	return 0
}

// MTU is that of pods which may use any of these backends over devices of this
// MTU. too says in words what is wrong with it, "" for nothing.
func MTU(underlay int, backends []Backend, outer6, pods6 bool, configured int) (mtu int, too string) {
	mtu = underlay
	for _, b := range backends {
		mtu = min(mtu, underlay-Overhead(b, outer6))
	}
	least := 576
	if pods6 {
		least = 1280 // RFC 8200
	}
	switch {
	case configured > mtu:
		return configured, fmt.Sprintf("network.mtu = %d is more than the %d bytes that go through between hosts (%s over %d): larger packets are lost or cut in pieces", configured, mtu, words(backends), underlay)
	case configured != 0:
		return configured, ""
	case mtu < least:
		return least, fmt.Sprintf("between hosts only packets of %d bytes go through (%s over %d), and pods need %d: larger ones are lost or cut in pieces", mtu, words(backends), underlay, least)
	}
	return mtu, ""
}

// uses says whether a link of that backend is wanted.
func (p Plan) uses(b Backend) bool {
	return slices.ContainsFunc(p.Links, func(l Link) bool { return l.Backend == b })
}

// Sealed are the ranges that are reached through WireGuard.
func (p Plan) Sealed() []netip.Prefix {
	var list []netip.Prefix
	for _, l := range p.Links {
		if l.Backend == WireGuard {
			list = append(list, l.CIDRs...)
		}
	}
	return list
}

// String is the plan a line for each route, as ip(8) has it; tests hold it.
func (p Plan) String() string {
	var b strings.Builder
	for _, r := range p.routes() {
		fmt.Fprintln(&b, r)
	}
	for _, l := range p.Links {
		switch l.Backend {
		case WireGuard:
			fmt.Fprintf(&b, "peer %s endpoint %s allowed-ips %v\n", l.Key, netip.AddrPortFrom(l.Address, l.Port), l.CIDRs)
		case VXLAN:
			fmt.Fprintf(&b, "fdb %s dst %s\n", hardwareAddr(l.Node), l.Address)
		}
	}
	for _, text := range p.Problems {
		fmt.Fprintln(&b, text)
	}
	return b.String()
}

// Summary is the plan in a line: how many nodes are reached, and how.
func (p Plan) Summary() string {
	if len(p.Links) == 0 {
		return "no other host's pods are known"
	}
	count := make(map[Backend]int)
	for _, l := range p.Links {
		count[l.Backend]++
	}
	var parts []string
	for _, b := range preferred {
		if count[b] > 0 {
			parts = append(parts, fmt.Sprintf("%d by %s", count[b], b))
		}
	}
	return "pods of other hosts: " + strings.Join(parts, ", ")
}

// route is one that the plan wants.
type route struct {
	Dst netip.Prefix
	Via netip.Addr // invalid: none
	Dev string     // "": the one that Via is on
	Src netip.Addr // invalid: none
}

func (r route) String() string {
	s := r.Dst.String()
	if r.Via.IsValid() {
		s += " via " + r.Via.String()
	}
	if r.Dev != "" {
		s += " dev " + r.Dev
	}
	if r.Src.IsValid() {
		s += " src " + r.Src.String()
	}
	return s
}

// routes are those of all links, by destination.
func (p Plan) routes() []route {
	var list []route
	for _, l := range p.Links {
		for _, c := range l.CIDRs {
			r := route{Dst: c}
			switch l.Backend {
			case WireGuard:
				r.Dev, r.Src = WireGuardDevice, p.source(c)
			case VXLAN:
				r.Dev, r.Via, r.Src = VXLANDevice, gateway(c), p.source(c)
			case HostGW:
				if r.Via = l.Address; c.Addr().Is4() != l.Address.Is4() {
					continue
				}
			}
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b route) int { return cmp.Or(a.Dst.Compare(b.Dst), a.Via.Compare(b.Via)) })
	return list
}

// source is what this host's own packets to c are sent from: its gateway's
// address, which others lead back through the same tunnel.
func (p Plan) source(c netip.Prefix) netip.Addr {
	for _, own := range p.CIDRs {
		if own.Addr().Is4() == c.Addr().Is4() {
			return gateway(own)
		}
	}
	return netip.Addr{}
}

// gateway is the first address of a node's range, which its bridge has.
func gateway(c netip.Prefix) netip.Addr { return c.Masked().Addr().Next() }

// hardwareAddr is a node's VXLAN device's: of its name, so that nobody has to
// be told. Locally administered, unicast.
func hardwareAddr(node string) net.HardwareAddr {
	sum := sha256.Sum256([]byte("shoal vxlan " + node))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac
}
