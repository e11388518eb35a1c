package podnet

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// tableName is the nftables table that this package owns, in family inet.
const tableName = "shoal"

var (
	loopback4  = netip.MustParsePrefix("127.0.0.0/8")
	linkLocal4 = netip.MustParsePrefix("169.254.0.0/16")
	linkLocal6 = netip.MustParsePrefix("fe80::/10")
)

// portRule is one element of a host port map.
type portRule struct {
	HostIP   netip.Addr // invalid: all of the host's
	Protocol Protocol
	HostPort uint16
	To       netip.AddrPort
}

// ruleset is what the table holds, ready to be written.
type ruleset struct {
	Bridge string
	CIDRs  []netip.Prefix
	Former []netip.Prefix // ranges of pods whose sandboxes are to be replaced, sorted
	Keep   []netip.Prefix // destinations that are not masqueraded, sorted
	Ports  []portRule     // sorted
	Sealed []netip.Prefix // ranges that packets come from through SealedDevice alone, sorted
}

// rulesFor is the ruleset of these pods.
func rulesFor(cfg Config, pods map[string]lease, former []netip.Prefix) ruleset {
	r := ruleset{Bridge: cfg.Bridge, CIDRs: cfg.PodCIDRs, Former: former, Sealed: slices.Clone(cfg.Reach.Sealed)}
	slices.SortFunc(r.Sealed, netip.Prefix.Compare)
	r.Keep = slices.Concat(cfg.PodCIDRs, cfg.NonMasquerade, cfg.Reach.Cluster)
	if !cfg.LinkLocal {
		r.Keep = append(r.Keep, linkLocal4, linkLocal6)
	}
	r.Keep = slices.DeleteFunc(r.Keep, func(p netip.Prefix) bool { return !r.has(p.Addr().Is4()) })
	slices.SortFunc(r.Keep, netip.Prefix.Compare)
	r.Keep = slices.Compact(r.Keep)
	for _, pod := range pods {
		for _, port := range pod.Ports {
			r.Ports = append(r.Ports, portRules(port, pod.Addrs)...)
		}
	}
	slices.SortFunc(r.Ports, func(a, b portRule) int {
		return cmp.Or(a.HostIP.Compare(b.HostIP), cmp.Compare(a.Protocol, b.Protocol),
			cmp.Compare(a.HostPort, b.HostPort), a.To.Compare(b.To))
	})
	return r
}

func portRules(port HostPort, addrs []netip.Addr) []portRule {
	var out []portRule
	for _, a := range addrs {
		if !port.applies(a) {
			continue
		}
		pr := portRule{HostIP: port.HostIP, Protocol: port.Protocol, HostPort: port.HostPort,
			To: netip.AddrPortFrom(a, port.ContainerPort)}
		if port.everywhere(a) {
			pr.HostIP = netip.Addr{}
		}
		out = append(out, pr)
	}
	return out
}

// ports gives the elements of one map: one family, bound to an address or not.
func (r ruleset) ports(is4 bool, bound bool) []portRule {
	return slices.DeleteFunc(slices.Clone(r.Ports), func(p portRule) bool {
		return p.To.Addr().Is4() != is4 || p.HostIP.IsValid() != bound
	})
}

// hairpins are the pods that may meet themselves through their host port. Only
// then must the source be hidden: a pod drops packets from its own address.
func (r ruleset) hairpins(is4 bool) []netip.Addr {
	var out []netip.Addr
	for _, p := range r.Ports {
		if p.To.Addr().Is4() == is4 {
			out = append(out, p.To.Addr())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// has tells whether pods have addresses of a family.
func (r ruleset) has(is4 bool) bool {
	return slices.ContainsFunc(r.CIDRs, func(p netip.Prefix) bool { return p.Addr().Is4() == is4 })
}

// of is those of a family.
func of(is4 bool, list []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(list), func(p netip.Prefix) bool { return p.Addr().Is4() != is4 })
}

// needsLocalnet tells whether 127.0.0.0/8 must lead to a pod.
func (r ruleset) needsLocalnet() bool {
	return slices.ContainsFunc(r.Ports, func(p portRule) bool {
		return p.To.Addr().Is4() && (!p.HostIP.IsValid() || p.HostIP.IsLoopback())
	})
}

var families = []bool{true, false} // is4

// suffix tells families apart in the names of sets.
func suffix(is4 bool) string {
	if is4 {
		return "4"
	}
	return "6"
}

// nftWords are how nft(8) writes a family.
func nftWords(is4 bool) (ip, addrType string) {
	if is4 {
		return "ip", "ipv4_addr"
	}
	return "ip6", "ipv6_addr"
}

// String is the table as a script for nft(8). What apply writes over netlink
// must list the same.
func (r ruleset) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("table inet %s {", tableName)
	for _, c := range r.CIDRs {
		r.writeSets(line, c.Addr().Is4())
	}
	line("chain guard { type filter hook prerouting priority raw; policy accept;")
	line("iifname %q ip daddr %s drop", r.Bridge, loopback4)
	for _, is4 := range families {
		if ip, _ := nftWords(is4); len(of(is4, r.Sealed)) > 0 {
			line("iifname != %q %s saddr @sealed%s drop", SealedDevice, ip, suffix(is4))
		}
	}
	for _, p := range r.Former {
		ip, _ := nftWords(p.Addr().Is4())
		line("iifname %q %s saddr %s accept", r.Bridge, ip, p)
	}
	for _, c := range r.CIDRs {
		if c.Addr().Is4() {
			line("iifname %q ip saddr != %s drop", r.Bridge, c)
			continue
		}
		line("iifname %q ip6 saddr %s accept", r.Bridge, c)
		line("iifname %q ip6 saddr %s accept", r.Bridge, linkLocal6)
		line("iifname %q ip6 saddr :: accept", r.Bridge)
		line("iifname %q meta nfproto ipv6 drop", r.Bridge)
	}
	line("}\nchain quiet { type filter hook output priority filter; policy accept;")
	line("oifname %q icmp type redirect drop", r.Bridge)
	line("oifname %q icmpv6 type nd-redirect drop", r.Bridge)
	line("}\nchain hostports {")
	for _, p := range r.Former {
		ip, _ := nftWords(p.Addr().Is4())
		line("%s daddr %s return", ip, gateway(p))
	}
	for _, c := range r.CIDRs {
		ip, _ := nftWords(c.Addr().Is4())
		s := suffix(c.Addr().Is4())
		line("dnat %s to %s daddr . meta l4proto . th dport map @bound%s", ip, ip, s)
		line("%s daddr != %s fib daddr type local dnat %s to meta l4proto . th dport map @any%s", ip, gateway(c), ip, s)
	}
	line("}\nchain prerouting { type nat hook prerouting priority dstnat; policy accept; jump hostports; }")
	line("chain output { type nat hook output priority -100; policy accept; jump hostports; }")
	r.writeSource(line)
	line("}")
	return b.String()
}

func (r ruleset) writeSets(line func(string, ...any), is4 bool) {
	_, t := nftWords(is4)
	s := suffix(is4)
	for _, m := range []struct {
		name, key string
		bound     bool
	}{{"bound", t + " . inet_proto . inet_service", true}, {"any", "inet_proto . inet_service", false}} {
		line("map %s%s { type %s : %s . inet_service;", m.name, s, m.key, t)
		var elements []string
		for _, p := range r.ports(is4, m.bound) {
			key := fmt.Sprintf("%d . %d", p.Protocol, p.HostPort)
			if m.bound {
				key = p.HostIP.String() + " . " + key
			}
			elements = append(elements, fmt.Sprintf("%s : %s . %d", key, p.To.Addr(), p.To.Port()))
		}
		writeElements(line, elements)
	}
	line("set hairpin%s { type %s . %s;", s, t, t)
	var pairs []string
	for _, a := range r.hairpins(is4) {
		pairs = append(pairs, fmt.Sprintf("%s . %s", a, a))
	}
	writeElements(line, pairs)
	if sealed := of(is4, r.Sealed); len(sealed) > 0 {
		line("set sealed%s { type %s; flags interval;", s, t)
		var elements []string
		for _, p := range sealed {
			elements = append(elements, p.String())
		}
		writeElements(line, elements)
	}
}

// writeElements closes a set. nft keeps only the last "elements" of a set.
func writeElements(line func(string, ...any), elements []string) {
	if len(elements) > 0 {
		line("elements = { %s }", strings.Join(elements, ",\n"))
	}
	line("}")
}

func (r ruleset) writeSource(line func(string, ...any)) {
	line("chain outbound {")
	for _, p := range r.Keep {
		ip, _ := nftWords(p.Addr().Is4())
		line("%s daddr %s return", ip, p)
	}
	line("masquerade fully-random\n}")
	line("chain postrouting { type nat hook postrouting priority srcnat; policy accept;")
	for _, c := range r.CIDRs {
		ip, _ := nftWords(c.Addr().Is4())
		line("oifname %q %s saddr != %s snat %s to %s", TunnelDevices+"*", ip, c, ip, gateway(c))
	}
	for _, p := range r.Former {
		ip, _ := nftWords(p.Addr().Is4())
		line("oifname != %q %s saddr %s masquerade", r.Bridge, ip, p)
	}
	for _, c := range r.CIDRs {
		ip, _ := nftWords(c.Addr().Is4())
		if c.Addr().Is4() {
			line("oifname %q ct status dnat ip saddr %s masquerade", r.Bridge, loopback4)
		}
		line("oifname %q ct status dnat %s saddr . %s daddr @hairpin%s masquerade", r.Bridge, ip, ip, suffix(c.Addr().Is4()))
		line("oifname != %q %s saddr %s jump outbound", r.Bridge, ip, c)
	}
	line("}")
}
