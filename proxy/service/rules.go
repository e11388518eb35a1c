package service

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
)

// Node is what a node's rules depend on beside the services.
type Node struct {
	Name      string
	Zone      string       // topology.kubernetes.io/zone
	NodePorts []netip.Addr // at which node ports answer
}

// Frontend is what clients connect to.
type Frontend struct {
	Addr     netip.Addr
	Protocol v1.Protocol
	Port     uint16
}

func (f Frontend) String() string {
	return netip.AddrPortFrom(f.Addr, f.Port).String() + "/" + string(f.Protocol)
}

// Source says whose source address endpoints see.
type Source uint8

// Who is outside is told by Config.Inside.
const (
	Keep        Source = iota // everybody's own
	HideOutside               // this node's for clients outside
	Hide                      // this node's
)

// Rule is where one frontend leads.
type Rule struct {
	Frontend
	Cluster  bool             // the address is a cluster IP: it answers at its services' ports alone
	Backends []netip.AddrPort // sorted
	Inside   []netip.AddrPort // for clients inside, where that is not the same; sorted
	Source   Source
	Affinity time.Duration  // how long a client stays with its endpoint after its last new connection; 0: not at all
	Allow    []netip.Prefix // clients outside of these are dropped; none: all may
	Drop     bool           // connections that lead nowhere are dropped rather than refused
}

// Proxied says whether a service has an address of its own here. Another proxy's
// (service.kubernetes.io/service-proxy-name) has none.
func Proxied(s *v1.Service) bool {
	return s.Spec.ClusterIP != "" && s.Spec.ClusterIP != v1.ClusterIPNone && s.Spec.Type != v1.ServiceTypeExternalName &&
		s.Labels["service.kubernetes.io/service-proxy-name"] == ""
}

// Rules is what a service comes to on a node. slices are its own, in any order.
func Rules(s *v1.Service, slices []*discovery.EndpointSlice, n Node) []Rule {
	if !Proxied(s) {
		return nil
	}
	var rules []Rule
	for _, ip := range clusterIPs(s) {
		for i := range s.Spec.Ports {
			rules = append(rules, portRules(s, &s.Spec.Ports[i], ip, slices, n)...)
		}
	}
	return rules
}

func clusterIPs(s *v1.Service) []netip.Addr {
	if len(s.Spec.ClusterIPs) == 0 {
		return addrs([]string{s.Spec.ClusterIP})
	}
	return addrs(s.Spec.ClusterIPs)
}

// addrs are those that can be read; validation stands before them.
func addrs(texts []string) (list []netip.Addr) {
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			list = append(list, a.Unmap())
		}
	}
	return list
}

// portRules are those of one port, of the family that its cluster IP has.
func portRules(s *v1.Service, port *v1.ServicePort, clusterIP netip.Addr, list []*discovery.EndpointSlice, n Node) []Rule {
	all := endpointsOf(list, port, clusterIP.Is4())
	cluster, local := choose(all, n)
	anywhere := len(cluster)+len(local) > 0 || slices.ContainsFunc(all, endpoint.usable)
	is4 := clusterIP.Is4()

	internal := Rule{Cluster: true, Backends: cluster, Source: HideOutside}
	if s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == v1.ServiceInternalTrafficPolicyLocal {
		internal.Backends = local
	}
	external := Rule{Backends: cluster, Source: Hide}
	if s.Spec.ExternalTrafficPolicy == v1.ServiceExternalTrafficPolicyLocal {
		external = Rule{Backends: local, Inside: cluster, Source: Keep}
		if slices.Equal(local, cluster) {
			external.Inside = nil
		}
	}
	at := func(base Rule, addr netip.Addr, number int32) Rule {
		base.Frontend = Frontend{addr, port.Protocol, uint16(number)}
		base.Affinity = affinity(s)
		base.Drop = len(base.Backends) == 0 && anywhere
		return base
	}
	rules := []Rule{at(internal, clusterIP, port.Port)}
	for _, a := range addrs(s.Spec.ExternalIPs) {
		if a.Is4() == is4 {
			rules = append(rules, at(external, a, port.Port))
		}
	}
	for _, a := range balanced(s) {
		if a.Is4() == is4 {
			r := at(external, a, port.Port)
			r.Allow = ranges(s, is4)
			rules = append(rules, r)
		}
	}
	for _, a := range n.NodePorts {
		if port.NodePort != 0 && a.Is4() == is4 {
			rules = append(rules, at(external, a, port.NodePort))
		}
	}
	return rules
}

func affinity(s *v1.Service) time.Duration {
	if s.Spec.SessionAffinity != v1.ServiceAffinityClientIP {
		return 0
	}
	seconds := v1.DefaultClientIPServiceAffinitySeconds
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		seconds = *c.ClientIP.TimeoutSeconds
	}
	return time.Duration(seconds) * time.Second
}

// balanced are the addresses of a load balancer that hands packets over as they
// are.
func balanced(s *v1.Service) []netip.Addr {
	var texts []string
	for _, in := range s.Status.LoadBalancer.Ingress {
		if in.IPMode == nil || *in.IPMode == v1.LoadBalancerIPModeVIP {
			texts = append(texts, in.IP)
		}
	}
	return addrs(texts)
}

// ranges are loadBalancerSourceRanges of one family, without those that others
// contain: the kernel's sets hold no range twice.
func ranges(s *v1.Service, is4 bool) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range s.Spec.LoadBalancerSourceRanges {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		switch {
		case err != nil || p.Addr().Is4() != is4:
			continue
		case p.Bits() == 0:
			return nil
		}
		list = append(list, p.Masked())
	}
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		return cmp.Or(cmp.Compare(a.Bits(), b.Bits()), a.Addr().Compare(b.Addr()))
	})
	var apart []netip.Prefix
	for _, p := range list {
		if !slices.ContainsFunc(apart, func(wide netip.Prefix) bool { return wide.Contains(p.Addr()) }) {
			apart = append(apart, p)
		}
	}
	if len(s.Spec.LoadBalancerSourceRanges) > 0 && len(apart) == 0 { // all are of the other family: nobody of this one may
		return []netip.Prefix{netip.PrefixFrom(unspecified(is4), unspecified(is4).BitLen())}
	}
	return apart
}

func unspecified(is4 bool) netip.Addr {
	if is4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// String is a rule in one line.
func (r Rule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v ->", r.Frontend)
	list := func(all []netip.AddrPort) {
		for _, to := range all {
			fmt.Fprintf(&b, " %v", to)
		}
	}
	list(r.Backends)
	if len(r.Backends) == 0 {
		b.WriteString(map[bool]string{true: " drop", false: " refuse"}[r.Drop])
	}
	if len(r.Inside) > 0 {
		b.WriteString(" inside")
		list(r.Inside)
	}
	switch r.Source {
	case Hide:
		b.WriteString(" hide")
	case HideOutside:
		b.WriteString(" hide-outside")
	}
	if r.Affinity > 0 {
		fmt.Fprintf(&b, " affinity %v", r.Affinity)
	}
	for _, p := range r.Allow {
		fmt.Fprintf(&b, " allow %v", p)
	}
	return b.String()
}
