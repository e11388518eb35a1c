package dnsd

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// setSearch notes with which search list a pod's questions come. Where two pods
// have one address, as one goes and another comes, it counts only if they agree.
func (z *Zone) setSearch(key sourceKey, s source) {
	old, _ := z.sources[key].(Pod)
	now, _ := s.(Pod)
	for _, a := range walking(old) {
		if delete(z.walkers[a], key); len(z.walkers[a]) == 0 {
			delete(z.walkers, a)
		}
	}
	search := make([]string, 0, len(now.Search))
	for _, domain := range now.Search[:min(len(now.Search), maxSearches)] {
		search = append(search, dns.CanonicalName(domain))
	}
	if slices.Contains(search, ".") {
		search = nil // resolvers differ in what the root among the domains means
	}
	for _, a := range walking(now) {
		if z.walkers[a] == nil {
			z.walkers[a] = make(map[sourceKey][]string)
		}
		z.walkers[a][key] = search
	}
	for _, a := range slices.Concat(walking(old), walking(now)) {
		if agreed := agreed(z.walkers[a]); len(agreed) > 0 {
			z.searches.Store(a, agreed)
		} else {
			z.searches.Delete(a)
		}
	}
}

// walking are the addresses by which a pod is known.
func walking(p Pod) (list []netip.Addr) {
	if p.HostNetwork {
		return nil
	}
	for _, a := range p.Addrs {
		list = append(list, plain(a))
	}
	return list
}

func agreed(lists map[sourceKey][]string) (all []string) {
	first := true
	for _, list := range lists {
		if !first && !slices.Equal(list, all) {
			return nil
		}
		all, first = list, false
	}
	return all
}

// completed are the types that resolvers walk their search list for.
var completed = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeMX, dns.TypeTXT}

// complete answers the first question of a walk along a pod's search list with
// what the walk comes to, as a CNAME record to the name that was found: one
// question in place of five for a name outside the cluster. What the pod meant
// by NAME.FIRST-DOMAIN, if there is no such name, can only be guessed: a client
// that asked for just that gets more than it asked for.
//
// The walk ends at the first name that exists, whether or not it has records of
// the type: there musl ends too, and glibc and Go go on by themselves, since
// the answer to their first question had no records, not even a CNAME record
// (with one glibc takes it for an answer). As a name has either
// answer to all types, walks for A and AAAA end at the same name. It also ends
// where an answer can't be had, as each of the three then does what it would
// have done without this. Where no name exists, the answer is the first one's,
// and the client takes the other steps itself, none of which leaves the host
// again.
func (s *Server) complete(ctx context.Context, client netip.Addr, req *dns.Msg) (m *dns.Msg, source string) {
	q := req.Question[0]
	first, source := s.look(ctx, client, req, q)
	if first.Rcode != dns.RcodeNameError || !req.RecursionDesired || !slices.Contains(completed, q.Qtype) {
		return first, source
	}
	for _, name := range s.zone.Load().steps(client, dns.CanonicalName(q.Name)) {
		step := q
		step.Name = name
		m, _ := s.look(ctx, client, req, step)
		switch m.Rcode {
		case dns.RcodeNameError:
			continue
		case dns.RcodeSuccess:
			m.Answer = aliased(q, name, m.Answer)
			m.AuthenticatedData = false
		}
		return m, fromSearch
	}
	return first, source
}

// aliased is the answer to q that name has. Without a record of the type it is
// none, whatever CNAME records lead there.
func aliased(q dns.Question, name string, answer []dns.RR) []dns.RR {
	if !slices.ContainsFunc(answer, func(rr dns.RR) bool { return rr.Header().Rrtype == q.Qtype }) {
		return nil
	}
	alias := &dns.CNAME{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: ttl}, Target: name}
	return append([]dns.RR{alias}, answer...)
}

// Completes says whether walks of the client at that address are completed.
func (s *Server) Completes(client netip.Addr) bool {
	_, ok := s.zone.Load().searches.Load(client)
	return ok
}

// steps are the names that a client's resolver asks for after the first, if
// name is the first of a walk. The last is the one that the program gave, also
// where it has as many dots as options ndots says and so was asked for already.
func (z *Zone) steps(client netip.Addr, name string) (names []string) {
	v, ok := z.searches.Load(client)
	if !ok {
		return nil
	}
	domains := v.([]string)
	given, ok := strings.CutSuffix(name, "."+domains[0])
	if !ok {
		return nil
	}
	for _, domain := range append(slices.Clone(domains[1:]), "") {
		name := given + "." + domain
		if _, fits := dns.IsDomainName(name); fits {
			names = append(names, name)
		}
	}
	return names
}
