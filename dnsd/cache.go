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
	// Of RFC 8767, section 5: how long an answer outlives its lifetime where no
	// upstream has another, with which lifetime it is given then, how long a
	// client waits for a better one, and how long upstreams that had none are
	// left in peace.
	maxStale   = 24 * time.Hour
	staleTTL   = 30
	staleWait  = 1800 * time.Millisecond
	staleAgain = 30 * time.Second
)

// age is what may be done with an answer from the cache.
type age int

const (
	missing age = iota // there is none
	fresh              // it may be given
	due                // likewise, but will not much longer
	stale              // it may be given if there is no better one
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
	again           time.Time // before that, upstreams are not asked for a newer one
}

func (e cached) age(now time.Time) age {
	left := e.expires.Sub(now)
	switch {
	case left <= -maxStale:
		return missing
	case now.Before(e.again), left > e.expires.Sub(e.stored)/10:
		return fresh
	case left > 0:
		return due
	}
	return stale
}

func newCache() cache {
	l, err := lru.New(cacheEntries)
	if err != nil {
		panic(err) // only for a size below one
	}
	return cache{l}
}

// get gives the answer with the lifetimes that remain, and what it is worth.
func (c cache) get(k key, now time.Time) (*dns.Msg, age) {
	v, ok := c.lru.Get(k)
	if !ok {
		return nil, missing
	}
	e := v.(cached)
	m, how := new(dns.Msg), e.age(now)
	if how == missing || m.Unpack(e.wire) != nil || !now.Before(e.expires) && !isAnswer(m) {
		c.lru.Remove(k)
		return nil, missing
	}
	passed := uint32(now.Sub(e.stored) / time.Second)
	for _, rr := range records(m) {
		if now.Before(e.expires) {
			rr.Header().Ttl -= min(passed, rr.Header().Ttl)
		} else {
			rr.Header().Ttl = staleTTL
		}
	}
	if !now.Before(e.expires) {
		explain(m, dns.ExtendedErrorCodeStaleAnswer, "no name server of the host has a newer one")
	}
	return m, how
}

// isAnswer says whether m tells what there is of a name, if anything.
func isAnswer(m *dns.Msg) bool { return m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError }

// spare notes that upstreams have no newer answer, and reports whether there is
// one that may be given in its place.
func (c cache) spare(k key, now time.Time) bool {
	if m, _ := c.get(k, now); m == nil || !isAnswer(m) {
		return false
	}
	v, ok := c.lru.Get(k)
	if !ok {
		return false
	}
	e := v.(cached)
	e.again = now.Add(staleAgain)
	c.lru.Add(k, e)
	return true
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
