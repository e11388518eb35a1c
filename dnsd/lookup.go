package dnsd

import (
	"context"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// maxNdots is where resolvers cut the option (resolv.conf(5)).
const maxNdots = 15

// Step is one name of a walk along a search list, asked for its addresses.
type Step struct {
	Name    string
	Code    string   // "NOERROR", "NXDOMAIN", ...
	Source  string   // who answered: "zone" or "forward"
	Records []string // "A 192.0.2.1", "CNAME example.org."
	Found   bool     // it has addresses
	Why     string   // the walk ends here, or goes on
}

// Lookup walks along r's search list for name as a client's resolver does, until
// a name has an address, and tells each step.
func (s *Server) Lookup(ctx context.Context, client netip.Addr, r Resolv, name string) (steps []Step) {
	for _, name := range walk(r, name) {
		step := s.step(ctx, client, name)
		steps = append(steps, step)
		if step.Found {
			break
		}
	}
	return steps
}

// walk is the names that a resolver asks for, in order: with as many dots as the
// option ndots says the name itself comes first, else last, with one at the end
// it is the only one.
func walk(r Resolv, name string) (names []string) {
	if dns.IsFqdn(name) {
		return []string{dns.CanonicalName(name)}
	}
	for _, domain := range r.Searches {
		names = append(names, dns.CanonicalName(name+"."+domain))
	}
	given := dns.CanonicalName(name)
	if strings.Count(name, ".") >= ndots(r) {
		return append([]string{given}, names...)
	}
	return append(names, given)
}

func ndots(r Resolv) int {
	for _, o := range r.Options {
		if text, ok := strings.CutPrefix(o, "ndots:"); ok {
			if n, err := strconv.Atoi(text); err == nil {
				return min(max(n, 0), maxNdots)
			}
		}
	}
	return 1
}

// step asks for both types of addresses of one name.
func (s *Server) step(ctx context.Context, client netip.Addr, name string) Step {
	if _, ok := dns.IsDomainName(name); !ok {
		return Step{Name: name, Why: "not a name that DNS can carry: no resolver asks for it"}
	}
	step := Step{Name: name}
	var failed string
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		q := dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
		req := new(dns.Msg).SetQuestion(name, qtype)
		m, source := s.look(ctx, client, req, q)
		if step.Code == "" || m.Rcode == dns.RcodeSuccess {
			step.Code = dns.RcodeToString[m.Rcode]
		}
		step.Source = source
		for _, rr := range m.Answer {
			text := dns.Type(rr.Header().Rrtype).String() + " " + strings.TrimPrefix(rr.String(), rr.Header().String())
			if rr.Header().Rrtype != dns.TypeCNAME || qtype == dns.TypeA || len(step.Records) == 0 {
				step.Records = append(step.Records, text)
			}
			step.Found = step.Found || rr.Header().Rrtype == qtype
		}
		if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
			failed = reason(m)
		}
	}
	step.Why = verdict(step, failed)
	return step
}

func verdict(step Step, failed string) string {
	switch {
	case step.Found:
		return "found"
	case failed != "":
		return "it can't be had: " + failed + "; musl ends here, glibc and Go go on"
	case step.Code == dns.RcodeToString[dns.RcodeNameError]:
		return "no such name: on to the next"
	}
	return "the name is there, without addresses: musl ends here, glibc and Go go on"
}

// reason is what the extended error says, or the code.
func reason(m *dns.Msg) string {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok && e.ExtraText != "" {
				return e.ExtraText
			}
		}
	}
	return dns.RcodeToString[m.Rcode]
}
