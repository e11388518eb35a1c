package dnsd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"
)

const (
	// ttl of cluster records, in seconds: short, as pods come and go. CoreDNS'
	// kubernetes plugin has the same default.
	ttl = 5
	// dnsVersion is the specification's "dns-version" record.
	dnsVersion = "1.1.0"
	// maxChain is how many CNAME records are followed, as CoreDNS does.
	maxChain = 8
)

// Cluster is all that a Zone is made of.
type Cluster struct {
	Domain      string         // as cluster.local
	CIDRs       []netip.Prefix // of pods and services; their reverse names are answered here, never forwarded
	Nameservers []netip.Addr   // where pods reach the server
	Pods        []Pod          // in any order
	Services    []Service      // in any order
}

// Zone holds all names of a cluster, forward and reverse. It changes by one pod
// or one service at a time, in the time that this one's names take, and answers
// without waiting for a change; one name's records are all old or all new. Make
// one with Build.
type Zone struct {
	nameserver string          // ns.dns.DOMAIN.
	podSuffix  string          // .pod.DOMAIN.
	svcSuffix  string          // .svc.DOMAIN.
	mailbox    string          // hostmaster.DOMAIN.
	origins    map[string]bool // tops of zones; never changes
	names      sync.Map        // string (lower case, closing dot) to *node
	serial     atomic.Uint32

	mu      sync.Mutex // held to change
	sources map[sourceKey]source
	sum     uint64 // of all records' hashes
	walkers map[netip.Addr]map[sourceKey][]string

	searches sync.Map // netip.Addr to []string, for clients whose resolver's search list is known
}

// Build makes the zone of a cluster.
func Build(c Cluster) *Zone {
	domain := dns.CanonicalName(c.Domain)
	z := &Zone{
		nameserver: "ns.dns." + domain, podSuffix: ".pod." + domain, svcSuffix: ".svc." + domain, mailbox: "hostmaster." + domain,
		origins: map[string]bool{domain: true}, sources: make(map[sourceKey]source), walkers: make(map[netip.Addr]map[sourceKey][]string),
	}
	for _, origin := range reverseZones(c.CIDRs) {
		z.origins[origin] = true
	}
	always := make(map[fact]int)
	for origin := range z.origins {
		always[fact{origin, record{rrtype: dns.TypeSOA}}] = 1
		always[fact{origin, record{rrtype: dns.TypeNS, text: z.nameserver}}] = 1
	}
	always[fact{"dns-version." + domain, record{rrtype: dns.TypeTXT, text: dnsVersion}}] = 1
	z.change(always)
	for _, name := range []string{"pod." + domain, "svc." + domain} {
		z.put(name, &node{}, &node{below: 1}) // they are there whatever is below them
	}
	z.SetNameservers(c.Nameservers)
	for _, p := range c.Pods {
		z.SetPod(p)
	}
	for _, s := range c.Services {
		z.SetService(s)
	}
	return z
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

// originOf gives the top of the zone that a name lies in, or "". The name is in
// lower case.
func (z *Zone) originOf(name string) string {
	for name != "" {
		if z.origins[name] {
			return name
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return ""
}

// has says whether a name is the cluster's to answer: one in its zones, or the
// reverse name of an address elsewhere that a service leads to.
func (z *Zone) has(name string) bool {
	if z.originOf(name) != "" {
		return true
	}
	_, ok := z.names.Load(name)
	return ok
}

// Answer replies to a question about the cluster's names, with AA set, and with
// the SOA record where there is no such name or no such record (RFC 2308). It
// reports false for other names. A CNAME record is followed as long as it leads
// to names of the cluster.
func (z *Zone) Answer(q dns.Question) (*dns.Msg, bool) {
	name := dns.CanonicalName(q.Name)
	if !z.has(name) {
		return nil, false
	}
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Authoritative: true}}
	if q.Qtype == dns.TypeANY {
		z.answerANY(m, q.Name, name)
		return m, true
	}
	for owner, steps := q.Name, 0; ; steps++ {
		target := z.answerName(m, owner, name, q.Qtype)
		if target == "" || !z.has(target) {
			return m, true
		}
		if steps == maxChain {
			return failure(dns.ExtendedErrorCodeOther, "too many CNAME records in a row"), true
		}
		owner, name = target, target
	}
}

// answerName adds what one name has: its records, written as belonging to owner,
// or its CNAME record, whose target it returns, or that it has none.
func (z *Zone) answerName(m *dns.Msg, owner, name string, qtype uint16) (target string) {
	n, exists := z.names.Load(z.canonical(name))
	if !exists {
		m.Rcode = dns.RcodeNameError
		z.addSOA(m, name)
		return ""
	}
	found := ofType(n.(*node).records, qtype)
	if len(found) == 0 && qtype != dns.TypeCNAME {
		for _, r := range ofType(n.(*node).records, dns.TypeCNAME) {
			m.Answer = append(m.Answer, z.rr(owner, r.record))
			return r.text
		}
	}
	for _, r := range found {
		m.Answer = append(m.Answer, z.rr(owner, r.record))
		if r.rrtype == dns.TypeSRV {
			z.addTarget(m, r.text)
		}
	}
	if len(found) == 0 {
		z.addSOA(m, name)
	}
	return ""
}

// addSOA says how long it may be believed that name has nothing. Names outside
// the zones, of addresses elsewhere, have no such record.
func (z *Zone) addSOA(m *dns.Msg, name string) {
	if origin := z.originOf(name); origin != "" {
		m.Ns = []dns.RR{z.soa(origin)}
	}
}

// ofType are the records of a type. They are sorted by it, weak ones last.
func ofType(records []counted, rrtype uint16) []counted {
	from := slices.IndexFunc(records, func(r counted) bool { return r.rrtype == rrtype })
	if from < 0 {
		return nil
	}
	to := from
	for to < len(records) && records[to].rrtype == rrtype && records[to].weak == records[from].weak {
		to++
	}
	return records[from:to]
}

// addTarget adds the addresses of an SRV record's target, once.
func (z *Zone) addTarget(m *dns.Msg, name string) {
	if slices.ContainsFunc(m.Extra, func(rr dns.RR) bool { return rr.Header().Name == name }) {
		return
	}
	for _, r := range z.at(name).records {
		if r.rrtype == dns.TypeA || r.rrtype == dns.TypeAAAA {
			m.Extra = append(m.Extra, z.rr(name, r.record))
		}
	}
}

// answerANY says whether there is such a name, and not what it has.
func (z *Zone) answerANY(m *dns.Msg, owner, name string) {
	if _, exists := z.names.Load(z.canonical(name)); !exists {
		m.Rcode = dns.RcodeNameError
		z.addSOA(m, name)
		return
	}
	m.Answer = []dns.RR{minimalANY(owner)}
}

// canonical is the one way to write a pod's address of the many that IPv6 has.
func (z *Zone) canonical(name string) string {
	first, rest, _ := strings.Cut(name, ".")
	if !strings.HasSuffix(name, z.podSuffix) {
		return name
	}
	if a, ok := parseLabel(first); ok {
		return label(a) + "." + rest
	}
	return name
}

// minimalANY is RFC 8482's answer to ANY.
func minimalANY(name string) dns.RR {
	return &dns.HINFO{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeHINFO, Class: dns.ClassINET, Ttl: 3600}, Cpu: "RFC8482"}
}

func (z *Zone) soa(origin string) *dns.SOA {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: origin, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl}, Ns: z.nameserver, Mbox: z.mailbox,
		Serial: z.serial.Load(), Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl,
	}
}

// rr writes a record as belonging to owner.
func (z *Zone) rr(owner string, r record) dns.RR {
	h := dns.RR_Header{Name: owner, Rrtype: r.rrtype, Class: dns.ClassINET, Ttl: ttl}
	switch r.rrtype {
	case dns.TypeA:
		return &dns.A{Hdr: h, A: r.addr.AsSlice()}
	case dns.TypeAAAA:
		return &dns.AAAA{Hdr: h, AAAA: r.addr.AsSlice()}
	case dns.TypeCNAME:
		return &dns.CNAME{Hdr: h, Target: r.text}
	case dns.TypePTR:
		return &dns.PTR{Hdr: h, Ptr: r.text}
	case dns.TypeSRV:
		// All alike: clients choose at random (RFC 2782).
		return &dns.SRV{Hdr: h, Priority: 0, Weight: 100, Port: r.port, Target: r.text}
	case dns.TypeNS:
		return &dns.NS{Hdr: h, Ns: r.text}
	case dns.TypeTXT:
		return &dns.TXT{Hdr: h, Txt: []string{r.text}}
	}
	soa := z.soa(owner)
	soa.Hdr = h
	return soa
}

// String lists the zone one record a line, sorted; golden files hold this text.
func (z *Zone) String() string {
	var names []string
	z.names.Range(func(name, _ any) bool {
		names = append(names, name.(string))
		return true
	})
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		var lines []string
		for _, r := range z.at(name).records {
			line := strings.ReplaceAll(z.rr(name, r.record).String(), "\t", " ")
			if r.weak {
				line += " ; unless there is another"
			}
			lines = append(lines, line)
		}
		if len(lines) == 0 {
			lines = []string{"; " + name + " has no records"}
		}
		slices.Sort(lines)
		fmt.Fprintln(&b, strings.Join(lines, "\n"))
	}
	return b.String()
}
