package dnsd

import (
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru"
	"github.com/miekg/dns"
)

const (
	cacheEntries   = 4096
	maxCachedBytes = 4096 // of one answer in wire form; so at most 16 MB in all, 1 to 2 as a rule
	maxTTL         = time.Hour
	maxNegativeTTL = 5 * time.Minute
	// failureTTL keeps a client that repeats itself from repeating a walk over
	// dead upstreams; RFC 9520 asks for 1 s at least.
	failureTTL = time.Second
)

// key is what makes two forwarded questions the same.
type key struct {
	name  string // lower case
	qtype uint16
	do    bool // DNSSEC records wanted
	cd    bool // checking disabled
}

func (k key) String() string {
	return fmt.Sprint(k.name, " ", dns.Type(k.qtype), " ", k.do, " ", k.cd)
}

// cache keeps answers of upstreams in wire form. It may be used from several
// goroutines.
type cache struct{ lru *lru.Cache }

type cached struct {
	wire            []byte
	stored, expires time.Time
}

func newCache() cache {
	l, err := lru.New(cacheEntries)
	if err != nil {
		panic(err) // only for a size below one
	}
	return cache{l}
}

// get gives the answer with the lifetimes that remain.
func (c cache) get(k key, now time.Time) *dns.Msg {
	v, ok := c.lru.Get(k)
	if !ok {
		return nil
	}
	e := v.(cached)
	m := new(dns.Msg)
	if !now.Before(e.expires) || m.Unpack(e.wire) != nil {
		c.lru.Remove(k)
		return nil
	}
	age := uint32(now.Sub(e.stored) / time.Second)
	for _, rr := range records(m) {
		rr.Header().Ttl -= min(age, rr.Header().Ttl)
	}
	return m
}

// put keeps m for as long as its records say, if they do.
func (c cache) put(k key, m *dns.Msg, now time.Time) {
	life := lifetime(m)
	if life <= 0 {
		return
	}
	wire, err := m.Pack()
	if err != nil || len(wire) > maxCachedBytes {
		return
	}
	c.lru.Add(k, cached{wire: wire, stored: now, expires: now.Add(life)})
}

// records are all of m but the OPT pseudo-record, whose TTL is none.
func records(m *dns.Msg) []dns.RR {
	var out []dns.RR
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if rr.Header().Rrtype != dns.TypeOPT {
				out = append(out, rr)
			}
		}
	}
	return out
}

// lifetime is how long an answer may be kept: as its shortest record; without
// an answer as the SOA record says (RFC 2308, section 5), and not at all where
// that is missing.
func lifetime(m *dns.Msg) time.Duration {
	if m.Truncated {
		return 0
	}
	switch m.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
	case dns.RcodeServerFailure:
		return failureTTL
	default:
		return 0
	}
	limit, negative := maxTTL, m.Rcode == dns.RcodeNameError || len(m.Answer) == 0
	if negative {
		limit = 0
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok && negative {
			limit = min(maxNegativeTTL, time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second)
		}
	}
	for _, rr := range m.Answer {
		limit = min(limit, time.Duration(rr.Header().Ttl)*time.Second)
	}
	return limit
}
