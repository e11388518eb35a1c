package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/shoal-project/shoal/proxy/podcidr"
)

// The values of Network.Backend.
const (
	BackendAuto      = "auto"
	BackendWireGuard = "wireguard"
	BackendVXLAN     = "vxlan"
	BackendHostGW    = "host-gw"
)

// Network is the pod network of this host, and the way to those of others.
type Network struct {
	// ClusterCIDRs are all nodes' pods' addresses, at most one prefix of IPv4 and
	// one of IPv6, in the order of status.podIPs; the same on all hosts. Default
	// ["10.244.0.0/16"], or PodCIDRs if that is elsewhere.
	ClusterCIDRs []netip.Prefix `toml:"cluster_cidrs"`
	// NodeMaskIPv4 and NodeMaskIPv6 are the prefix lengths of each node's range;
	// default 24 and 64, as of kube-controller-manager's --node-cidr-mask-size.
	NodeMaskIPv4 int `toml:"node_mask_ipv4"`
	NodeMaskIPv6 int `toml:"node_mask_ipv6"`
	// PodCIDRs are this node's range; default: one of ClusterCIDRs that is free.
	PodCIDRs []netip.Prefix `toml:"pod_cidrs"`
	// Backend is the way to other hosts: "auto" (default: wireguard where both
	// hosts have it, else vxlan), "wireguard", "vxlan", "host-gw".
	Backend string `toml:"backend"`
	// WireGuardPort is where WireGuard listens, UDP; default 51871.
	WireGuardPort int `toml:"wireguard_port"`
	// Bridge is the bridge's name; default "shoal0".
	Bridge string `toml:"bridge"`
	// MTU in bytes; default: what goes through to other hosts.
	MTU int `toml:"mtu"`
	// NonMasqueradeCIDRs see pods' own addresses; default none but ClusterCIDRs.
	NonMasqueradeCIDRs []netip.Prefix `toml:"non_masquerade_cidrs"`
	// MasqueradeLinkLocal hides pods' addresses from link-local ones too, as
	// ip-masq-agent's masqLinkLocal; default false.
	MasqueradeLinkLocal bool `toml:"masquerade_link_local"`
}

func (n *Network) setDefaults() {
	if len(n.ClusterCIDRs) == 0 {
		n.ClusterCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
		if len(n.PodCIDRs) > 0 && !within(n.ClusterCIDRs, n.PodCIDRs) {
			n.ClusterCIDRs = n.PodCIDRs
		}
	}
	if n.NodeMaskIPv4 == 0 {
		n.NodeMaskIPv4 = 24
	}
	if n.NodeMaskIPv6 == 0 {
		n.NodeMaskIPv6 = 64
	}
	if n.Backend == "" {
		n.Backend = BackendAuto
	}
	if n.WireGuardPort == 0 {
		n.WireGuardPort = 51871
	}
	if n.Bridge == "" {
		n.Bridge = "shoal0"
	}
}

// within says whether each of list lies in one of spaces.
func within(spaces, list []netip.Prefix) bool {
	for _, p := range list {
		in := false
		for _, s := range spaces {
			in = in || s.Bits() <= p.Bits() && s.Contains(p.Addr())
		}
		if !in {
			return false
		}
	}
	return true
}

// Spaces are ClusterCIDRs and how they are cut.
func (n *Network) Spaces() []podcidr.Space {
	var list []podcidr.Space
	for _, p := range n.ClusterCIDRs {
		s := podcidr.Space{Prefix: p.Masked(), Mask: n.NodeMaskIPv6}
		if p.Addr().Is4() {
			s.Mask = n.NodeMaskIPv4
		}
		list = append(list, s)
	}
	return list
}

func (n *Network) validate(bad func(key, value, want string, args ...any)) {
	oneEach := func(key string, list []netip.Prefix) {
		count := make(map[bool]int)
		for _, p := range list {
			if count[p.Addr().Is4()]++; count[p.Addr().Is4()] > 1 || p.Addr().Is4In6() {
				bad(key, fmt.Sprint(list), "want at most one prefix of IPv4 and one of IPv6")
				return
			}
			if p != p.Masked() {
				bad(key, p.String(), "the address has bits behind the prefix: want %v", p.Masked())
			}
		}
	}
	oneEach("network.cluster_cidrs", n.ClusterCIDRs)
	oneEach("network.pod_cidrs", n.PodCIDRs)
	if !within(n.ClusterCIDRs, n.PodCIDRs) {
		bad("network.pod_cidrs", fmt.Sprint(n.PodCIDRs), "want ranges in network.cluster_cidrs (%v): other hosts lead no others here", n.ClusterCIDRs)
	}
	if len(n.PodCIDRs) == 0 {
		for _, s := range n.Spaces() {
			if err := s.Validate(); err != nil {
				bad("network.cluster_cidrs", s.Prefix.String(), "%v", err)
			}
		}
	}
	known := []string{BackendAuto, BackendWireGuard, BackendVXLAN, BackendHostGW}
	ok := false
	for _, k := range known {
		ok = ok || k == n.Backend
	}
	if !ok {
		bad("network.backend", n.Backend, `want "%s"`, strings.Join(known, `", "`))
	}
	if n.WireGuardPort < 1 || n.WireGuardPort > 65535 || n.WireGuardPort == 8472 {
		bad("network.wireguard_port", fmt.Sprint(n.WireGuardPort), "want a port, 1 to 65535, but not VXLAN's 8472")
	}
	if n.MTU != 0 && (n.MTU < 576 || n.MTU > 65535) {
		bad("network.mtu", fmt.Sprint(n.MTU), "want 576 (1280 with IPv6) to 65535, or 0")
	}
}
