package dnsd

import (
	"cmp"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// Pod is a pod that has addresses.
type Pod struct {
	Namespace   string
	Name        string
	HostNetwork bool // its addresses are the host's: no PTR
	Addrs       []netip.Addr
	// Search is the search list of its resolver, in order; empty: its questions
	// are answered as they stand.
	Search []string
}

// Service is a service and, if it is headless, its endpoints. It is one of
// three: a name elsewhere, headless, or one with cluster IPs; without any of
// these it has no names.
type Service struct {
	Namespace    string
	Name         string
	ExternalName string       // what it is another name of
	Headless     bool         // its name leads to its endpoints
	ClusterIPs   []netip.Addr // else to these
	Ports        []Port       // of cluster IPs; endpoints have their own
	Groups       []Group      // of endpoints, in any order
	// PublishNotReady has endpoints count that are not ready
	// (spec.publishNotReadyAddresses).
	PublishNotReady bool
}

// Port is a port; one without a name has no record.
type Port struct {
	Name     string
	Protocol string // "TCP", "UDP", "SCTP"
	Number   uint16
}

// Group is endpoints that have the same ports, as an EndpointSlice is.
type Group struct {
	Ports     []Port
	Endpoints []Endpoint
}

// Endpoint is one address of a headless service.
type Endpoint struct {
	Addr     netip.Addr
	Hostname string // empty: the address, written with hyphens, is the label
	NotReady bool
}

// record is a resource record without its owner.
type record struct {
	rrtype uint16
	port   uint16     // of SRV
	addr   netip.Addr // of A and AAAA
	text   string     // TXT: the text; CNAME, NS, PTR, SRV: a name with closing dot
	weak   bool       // counts only where there is no other of this type
}

func (r record) compare(o record) int {
	weak := func(r record) int {
		if r.weak {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(r.rrtype, o.rrtype), cmp.Compare(weak(r), weak(o)),
		r.addr.Compare(o.addr), cmp.Compare(r.text, o.text), cmp.Compare(r.port, o.port))
}

// fact is that a name has a record.
type fact struct {
	name string // lower case, with closing dot
	record
}

// source is a thing whose names are in a zone.
type source interface{ facts(z *Zone) []fact }

func address(name string, a netip.Addr) fact {
	if a.Is4() {
		return fact{name, record{rrtype: dns.TypeA, addr: a}}
	}
	return fact{name, record{rrtype: dns.TypeAAAA, addr: a}}
}

// plain is an address as it stands in a record.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// facts are a pod's addresses in the specification's former form, for pods that
// exist only ("pods verified"), and Shoal's own form with the pod's name. The
// latter yields where it reads as an address: that of another pod could
// otherwise be claimed by choosing a name. Services' PTR records come before a
// pod's.
func (p Pod) facts(z *Zone) (list []fact) {
	suffix := "." + strings.ToLower(p.Namespace) + z.podSuffix
	byName := strings.ToLower(p.Name) + suffix
	_, isAddr := parseLabel(p.Name)
	_, fits := dns.IsDomainName(byName)
	for _, a := range p.Addrs {
		a = plain(a)
		list = append(list, address(label(a)+suffix, a))
		if isAddr || !fits {
			continue
		}
		list = append(list, address(byName, a))
		if ptr := reverseName(a); !p.HostNetwork && z.originOf(ptr) != "" {
			list = append(list, fact{ptr, record{rrtype: dns.TypePTR, text: byName, weak: true}})
		}
	}
	return list
}

// facts are sections 2.3 to 2.5 of the specification.
func (s Service) facts(z *Zone) []fact {
	name := strings.ToLower(s.Name + "." + s.Namespace + z.svcSuffix)
	switch _, fits := dns.IsDomainName(name); {
	case !fits:
		return nil
	case s.ExternalName != "":
		return externalFacts(name, s.ExternalName)
	case s.Headless:
		return s.headlessFacts(name)
	}
	var list []fact
	for _, a := range s.ClusterIPs {
		a = plain(a)
		list = append(list, address(name, a), fact{reverseName(a), record{rrtype: dns.TypePTR, text: name}})
	}
	if len(list) == 0 {
		return nil // it has none yet
	}
	return append(list, serviceRecords(name, name, s.Ports)...)
}

func externalFacts(name, target string) []fact {
	target = dns.CanonicalName(target)
	if _, ok := dns.IsDomainName(target); !ok || target == "." {
		return nil
	}
	return []fact{{name, record{rrtype: dns.TypeCNAME, text: target}}}
}

// headlessFacts has nothing to say without an endpoint that counts, so that
// there is no such name then.
func (s Service) headlessFacts(name string) (list []fact) {
	for _, g := range s.Groups {
		for _, e := range g.Endpoints {
			if e.NotReady && !s.PublishNotReady || !e.Addr.IsValid() {
				continue
			}
			a := plain(e.Addr)
			host := strings.ToLower(cmp.Or(e.Hostname, label(a))) + "." + name
			list = append(list, address(name, a), address(host, a), fact{reverseName(a), record{rrtype: dns.TypePTR, text: host}})
			list = append(list, serviceRecords(name, host, g.Ports)...)
		}
	}
	return list
}

// serviceRecords are the SRV records of named ports.
func serviceRecords(service, target string, ports []Port) (list []fact) {
	for _, p := range ports {
		if p.Name != "" {
			owner := strings.ToLower("_"+p.Name+"._"+p.Protocol) + "." + service
			list = append(list, fact{owner, record{rrtype: dns.TypeSRV, port: p.Number, text: target}})
		}
	}
	return list
}

// nameservers are the addresses of the server itself.
type nameservers struct {
	name  string
	addrs []netip.Addr
}

func (n nameservers) facts(*Zone) (list []fact) {
	for _, a := range n.addrs {
		list = append(list, address(n.name, plain(a)))
	}
	return list
}

var hyphens = strings.NewReplacer(".", "-", ":", "-")

// label is an address as the first label of a name.
func label(a netip.Addr) string { return hyphens.Replace(a.String()) }

// parseLabel is the inverse of label, for any way to write the address.
func parseLabel(s string) (netip.Addr, bool) {
	for _, sep := range []string{".", ":"} {
		if a, err := netip.ParseAddr(strings.ReplaceAll(s, "-", sep)); err == nil && strings.Contains(s, "-") {
			return a.Unmap(), true
		}
	}
	return netip.Addr{}, false
}

func reverseName(a netip.Addr) string {
	name, err := dns.ReverseAddr(a.String())
	if err != nil {
		return "." // not an address
	}
	return name
}
