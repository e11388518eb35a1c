package config

import (
	"fmt"
	"net/netip"
	"strconv"
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
	// ServiceCIDRs are services' cluster IPs, at most one prefix of IPv4 and one of
	// IPv6, the first one's family being the default; the same on all hosts. Default
	// 10.96.0.0/16 and fd00:10:96::/112, those of them whose family pods have.
	ServiceCIDRs []netip.Prefix `toml:"service_cidrs"`
	// NodePortRange is what node ports are taken from, the same on all hosts;
	// default "30000-32767", as of kube-apiserver's --service-node-port-range.
	NodePortRange PortRange `toml:"node_port_range"`
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

// PortRange are ports, First to Last, as "30000-32767".
type PortRange struct{ First, Last int32 }

// UnmarshalText reads "30000-32767".
func (r *PortRange) UnmarshalText(text []byte) error {
	first, last, ok := strings.Cut(string(text), "-")
	a, err := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if !ok || err != nil || err2 != nil || a == 0 || a > b {
		return fmt.Errorf(`%q is no range of ports: want "30000-32767"`, text)
	}
	r.First, r.Last = int32(a), int32(b)
	return nil
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
	if len(n.ServiceCIDRs) == 0 {
		for _, p := range n.ClusterCIDRs {
			service := netip.MustParsePrefix("fd00:10:96::/112")
			if p.Addr().Is4() {
				service = netip.MustParsePrefix("10.96.0.0/16")
			}
			n.ServiceCIDRs = append(n.ServiceCIDRs, service)
		}
	}
	if n.NodePortRange == (PortRange{}) {
		n.NodePortRange = PortRange{30000, 32767}
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
	oneEach("network.service_cidrs", n.ServiceCIDRs)
	for _, p := range n.ServiceCIDRs {
		if size := p.Addr().BitLen() - p.Bits(); size < 3 || size > 20 {
			bad("network.service_cidrs", p.String(), "want a range of 8 to 1048576 addresses")
		}
		for _, pods := range n.ClusterCIDRs {
			if p.Overlaps(pods) {
				bad("network.service_cidrs", p.String(), "it overlaps pods' addresses, network.cluster_cidrs %v: want another range", pods)
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
