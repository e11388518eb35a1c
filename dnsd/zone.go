package dnsd

import (
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

const (
	// ttl of cluster records, in seconds: short, as pods come and go. CoreDNS'
	// kubernetes plugin has the same default.
	ttl = 5
	// dnsVersion is the specification's "dns-version" record.
	dnsVersion = "1.1.0"
)

// Pod is a pod that has addresses.
type Pod struct {
	Namespace   string
	Name        string
	Hostname    string // spec.hostname and subdomain name a pod below a headless
	Subdomain   string // service only, so they have no effect without services
	HostNetwork bool   // its addresses are the host's: no PTR
	Addrs       []netip.Addr
}

// Cluster is all that a Zone is made of.
type Cluster struct {
	Domain      string         // as cluster.local
	Pods        []Pod          // in any order
	PodCIDRs    []netip.Prefix // their reverse names are answered here, never forwarded
	Nameservers []netip.Addr   // where pods reach the server
}

// Zone holds all names of a cluster, forward and reverse. The zero Zone holds
// none. It never changes.
type Zone struct {
	podSuffix string // ".pod.DOMAIN."
	origins   map[string]*dns.SOA
	names     map[string][]dns.RR // lower case, with closing dot; no records: an empty non-terminal
}

// Build makes the zone of a cluster.
func Build(c Cluster) Zone {
	domain := dns.CanonicalName(c.Domain)
	b := builder{Zone{
		podSuffix: ".pod." + domain,
		origins:   map[string]*dns.SOA{},
		names:     map[string][]dns.RR{},
	}}
	for _, origin := range append(reverseZones(c.PodCIDRs), domain) {
		b.origin(origin, "ns.dns."+domain, domain)
	}
	for _, a := range c.Nameservers {
		b.address("ns.dns."+domain, a)
	}
	b.add(&dns.TXT{Hdr: header("dns-version."+domain, dns.TypeTXT), Txt: []string{dnsVersion}})
	b.add(nil, "pod."+domain, "svc."+domain)
	for _, p := range c.Pods {
		b.pod(p)
	}
	b.number()
	return b.Zone
}

func header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// builder is a Zone that still changes.
type builder struct{ Zone }

// origin adds the top of a zone.
func (b *builder) origin(name, nameserver, domain string) {
	soa := &dns.SOA{
		Hdr: header(name, dns.TypeSOA), Ns: nameserver, Mbox: "hostmaster." + domain,
		Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl,
	}
	b.origins[name] = soa
	b.names[name] = append(b.names[name], soa, &dns.NS{Hdr: header(name, dns.TypeNS), Ns: nameserver})
}

// add enters rr, unless it is there, or empty names, with the names between
// them and the top of their zone. Names that DNS cannot carry are left out.
func (b *builder) add(rr dns.RR, empty ...string) {
	if rr != nil {
		name := rr.Header().Name
		if _, ok := dns.IsDomainName(name); !ok || slices.ContainsFunc(b.names[name], func(o dns.RR) bool { return dns.IsDuplicate(o, rr) }) {
			return
		}
		b.names[name] = append(b.names[name], rr)
		empty = []string{name}
	}
	for _, name := range empty {
		for b.origins[name] == nil && name != "." {
			if _, known := b.names[name]; !known {
				b.names[name] = nil
			}
			_, after, _ := strings.Cut(name, ".")
			name = after
			if name == "" {
				break
			}
		}
	}
}

func (b *builder) address(name string, a netip.Addr) {
	if a.Is4() {
		b.add(&dns.A{Hdr: header(name, dns.TypeA), A: a.AsSlice()})
	} else {
		b.add(&dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: a.AsSlice()})
	}
}

// pod adds the names of one pod: its addresses in the specification's form, for
// pods that exist only ("pods verified"), and Shoal's own form with the pod's
// name. The latter yields where it reads as an address: that of another pod
// could otherwise be claimed by choosing a name.
func (b *builder) pod(p Pod) {
	suffix := "." + strings.ToLower(p.Namespace) + b.podSuffix
	byName := strings.ToLower(p.Name) + suffix
	_, isAddr := parseLabel(p.Name)
	_, fits := dns.IsDomainName(byName)
	for _, a := range p.Addrs {
		a = a.Unmap().WithZone("")
		b.address(label(a)+suffix, a)
		if isAddr || !fits {
			continue
		}
		b.address(byName, a)
		if ptr := reverseName(a); !p.HostNetwork && b.originOf(ptr) != nil {
			b.add(&dns.PTR{Hdr: header(ptr, dns.TypePTR), Ptr: byName})
		}
	}
}

// number gives the SOA records a serial made of the content, so that equal
// zones are equal.
func (b *builder) number() {
	h := fnv.New32a()
	h.Write([]byte(b.String()))
	for _, soa := range b.origins {
		soa.Serial = h.Sum32()
	}
}

// label is an address as the first label of a pod's name.
func label(a netip.Addr) string {
	return strings.NewReplacer(".", "-", ":", "-").Replace(a.String())
}

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

// reverseZones cuts prefixes at the labels of in-addr.arpa and ip6.arpa.
func reverseZones(prefixes []netip.Prefix) []string {
	var out []string
	for _, p := range prefixes {
		step := 4
		if p.Addr().Is4() {
			step = 8
		}
		bits := (p.Bits() + step - 1) / step * step
		host := (p.Addr().BitLen() - bits) / step // labels below the zone
		base := p.Masked().Addr().AsSlice()
		for i := range 1 << (bits - p.Bits()) {
			b := slices.Clone(base)
			if bits > 0 {
				b[(bits-1)/8] |= byte(i) << ((8 - bits%8) % 8)
			}
			a, _ := netip.AddrFromSlice(b)
			name := reverseName(a)
			for range host {
				_, name, _ = strings.Cut(name, ".")
			}
			out = append(out, name)
		}
	}
	return out
}

// originOf gives the top of the zone that a name lies in, or nil. The name is in
// lower case.
func (z Zone) originOf(name string) *dns.SOA {
	for name != "" {
		if soa := z.origins[name]; soa != nil {
			return soa
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return nil
}

// Answer replies to a question about the cluster's names, with AA set, and with
// the SOA record where there is no such name or no such record (RFC 2308). It
// reports false for other names.
func (z Zone) Answer(q dns.Question) (*dns.Msg, bool) {
	name := dns.CanonicalName(q.Name)
	soa := z.originOf(name)
	if soa == nil {
		return nil, false
	}
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Authoritative: true}}
	records, exists := z.names[z.canonical(name)]
	for _, rr := range records {
		if rr.Header().Rrtype == q.Qtype {
			m.Answer = append(m.Answer, named(rr, q.Name))
		}
	}
	switch {
	case exists && q.Qtype == dns.TypeANY:
		m.Answer = []dns.RR{minimalANY(q.Name)}
	case !exists:
		m.Rcode = dns.RcodeNameError
		m.Ns = []dns.RR{soa}
	case len(m.Answer) == 0:
		m.Ns = []dns.RR{soa}
	}
	return m, true
}

// canonical is the one way to write a pod's address of the many that IPv6 has.
func (z Zone) canonical(name string) string {
	first, rest, _ := strings.Cut(name, ".")
	if z.podSuffix == "" || !strings.HasSuffix(name, z.podSuffix) {
		return name
	}
	if a, ok := parseLabel(first); ok {
		return label(a) + "." + rest
	}
	return name
}

// named is rr with the name spelt as the client did.
func named(rr dns.RR, name string) dns.RR {
	c := dns.Copy(rr)
	c.Header().Name = name
	return c
}

// minimalANY is RFC 8482's answer to ANY.
func minimalANY(name string) dns.RR {
	return &dns.HINFO{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeHINFO, Class: dns.ClassINET, Ttl: 3600}, Cpu: "RFC8482"}
}

// String lists the zone one record a line, sorted; golden files hold this text.
func (z Zone) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(z.names)) {
		var lines []string
		for _, rr := range z.names[name] {
			lines = append(lines, strings.ReplaceAll(rr.String(), "\t", " "))
		}
		if len(lines) == 0 {
			lines = []string{"; " + name + " has no records"}
		}
		slices.Sort(lines)
		fmt.Fprintln(&b, strings.Join(lines, "\n"))
	}
	return b.String()
}
