package dnsd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Limits of a pod's resolv.conf; k8s.io/kubernetes/pkg/apis/core/validation has
// the same numbers.
const (
	maxNameservers = 3
	maxSearches    = 32
	maxSearchChars = 2048
)

// PodDNS is what a pod says about name resolution.
type PodDNS struct {
	Namespace   string
	Policy      corev1.DNSPolicy // empty: ClusterFirst
	Config      *corev1.PodDNSConfig
	HostNetwork bool
}

// fromHost tells whether the host's resolv.conf is the base: policy Default,
// and ClusterFirst in the host's network (kubelet's getPodDNSType).
func (p PodDNS) fromHost() bool {
	return p.Policy == corev1.DNSDefault ||
		p.HostNetwork && (p.Policy == corev1.DNSClusterFirst || p.Policy == "")
}

// ResolvConf is the text of a pod's /etc/resolv.conf, and warnings for its
// events (reason DNSConfigForming; MissingClusterDNS for the one about ClusterDNS). It
// follows the kubelet's Configurer.GetPodDNS (pkg/kubelet/network/dns/dns.go),
// except that
//
//   - options keep an order, the kubelet's come from a Go map;
//   - a pod with a network of its own gets the cluster's name servers, which
//     forward, in place of loopback ones of the host, which it could not reach;
//   - a "domain" line of the host counts as its search list, as in resolv.conf(5).
//
// nameservers are the addresses at which pods reach this host's Server.
func ResolvConf(pod PodDNS, host Resolv, nameservers []netip.Addr, domain string) (text string, warnings []string) {
	var r podResolv
	switch {
	case pod.Policy == corev1.DNSNone:
	case !pod.fromHost() && len(nameservers) > 0:
		r = clusterResolv(pod.Namespace, host, nameservers, domain)
	default:
		if !pod.fromHost() {
			warnings = append(warnings, fmt.Sprintf("kubelet does not have ClusterDNS IP configured and cannot create Pod using %q policy. Falling back to %q policy.", corev1.DNSClusterFirst, corev1.DNSDefault))
		}
		r = hostResolv(pod, host, nameservers)
	}
	if pod.Config != nil {
		r.add(*pod.Config)
	}
	warnings = append(warnings, r.limit()...)
	return r.String(), warnings
}

// podResolv is a resolv.conf whose name servers come from a pod's author.
type podResolv struct {
	servers, searches, options []string
}

func clusterResolv(namespace string, host Resolv, nameservers []netip.Addr, domain string) podResolv {
	svc := "svc." + domain
	r := podResolv{options: []string{"ndots:5"}}
	for _, a := range nameservers {
		r.servers = append(r.servers, a.String())
	}
	r.searches = union([]string{namespace + "." + svc, svc, domain}, host.Searches)
	return r
}

func hostResolv(pod PodDNS, host Resolv, nameservers []netip.Addr) podResolv {
	r := podResolv{searches: slices.Clone(host.Searches), options: slices.Clone(host.Options)}
	for _, a := range host.Nameservers {
		if !a.IsLoopback() || pod.HostNetwork {
			r.servers = union(r.servers, []string{a.String()})
			continue
		}
		for _, own := range nameservers {
			r.servers = union(r.servers, []string{own.String()})
		}
	}
	return r
}

// union is a followed by what of b is not in it, each once.
func union(a, b []string) []string {
	var out []string
	for _, s := range slices.Concat(a, b) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// add merges a pod's dnsConfig (kubelet's appendDNSConfig).
func (r *podResolv) add(c corev1.PodDNSConfig) {
	r.servers = union(r.servers, c.Nameservers)
	r.searches = union(r.searches, c.Searches)
	for _, o := range c.Options {
		text := o.Name
		if o.Value != nil && *o.Value != "" {
			text += ":" + *o.Value
		}
		r.options = setOption(r.options, text)
	}
}

// limit cuts what resolvers would ignore or choke on (kubelet's
// formDNSConfigFitsLimits), with the kubelet's words for it.
func (r *podResolv) limit() (warnings []string) {
	if len(r.servers) > maxNameservers {
		r.servers = r.servers[:maxNameservers]
		warnings = append(warnings, "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "+strings.Join(r.servers, " "))
	}
	whole := len(r.searches)
	r.searches = r.searches[:min(whole, maxSearches)]
	r.searches = slices.DeleteFunc(r.searches, func(s string) bool { return len(s) > validation.DNS1123SubdomainMaxLength })
	for len(strings.Join(r.searches, " ")) > maxSearchChars {
		r.searches = r.searches[:len(r.searches)-1]
	}
	if len(r.searches) < whole {
		warnings = append(warnings, "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "+strings.Join(r.searches, " "))
	}
	return warnings
}

func (r podResolv) String() string {
	var b strings.Builder
	if len(r.searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.searches, " "))
	}
	for _, s := range r.servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.options, " "))
	}
	return b.String()
}
