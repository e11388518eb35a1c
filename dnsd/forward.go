package dnsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

const (
	// upstreamTimeout is what one upstream gets for one question. The C library
	// waits 5 s before it asks again, which leaves room for a second one.
	upstreamTimeout = 2 * time.Second
	probeEvery      = 5 * time.Second
	// udpSize is what passes without fragments (RFC 9715).
	udpSize = 1232
)

// forwarder asks the upstreams.
type forwarder struct {
	upstreams func() []netip.AddrPort
	stubs     func() []Stub
	own       []netip.AddrPort // where this server listens
	log       *slog.Logger
	now       func() time.Time
	cache     cache
	flights   singleflight.Group

	mu   sync.Mutex
	down map[netip.AddrPort]bool
}

// resolve answers from the cache or from an upstream. It never fails: what
// cannot be had is an answer that has outlived its lifetime (RFC 8767), or else
// SERVFAIL with the reason as extended error (RFC 8914). An answer that is asked
// for in the last tenth of its lifetime is fetched again meanwhile. ctx is the
// server's, for one asker must not end a question of others.
func (f *forwarder) resolve(ctx context.Context, k key) *dns.Msg {
	m, how := f.cache.get(k, f.now())
	if how == fresh {
		return m
	}
	better := f.fetch(ctx, k)
	if how == due {
		return m
	}
	if how == missing {
		return (<-better).Val.(*dns.Msg).Copy()
	}
	patience := time.NewTimer(staleWait)
	defer patience.Stop()
	select {
	case r := <-better:
		if isAnswer(r.Val.(*dns.Msg)) {
			return r.Val.(*dns.Msg).Copy()
		}
	case <-patience.C:
	}
	return m
}

// fetch asks upstreams, once for all who want to know at that time.
func (f *forwarder) fetch(ctx context.Context, k key) <-chan singleflight.Result {
	return f.flights.DoChan(k.String(), func() (any, error) {
		m := f.ask(ctx, k)
		if isAnswer(m) || !f.cache.spare(k, f.now()) {
			f.cache.put(k, m, f.now())
		}
		return m, nil
	})
}

// ask tries one upstream after the other. An upstream that answers that it
// cannot (SERVFAIL, REFUSED, ...) is alive, but another may know more.
func (f *forwarder) ask(ctx context.Context, k key) *dns.Msg {
	var last *dns.Msg
	var errs []error
	for _, up := range f.order(k.name) {
		m, err := exchange(ctx, k, up)
		f.mark(up, err)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError {
			return m
		}
		last = m
	}
	switch {
	case last != nil:
		return last
	case len(errs) == 0:
		return failure(dns.ExtendedErrorCodeNotReady, "the host has no name server")
	}
	return failure(dns.ExtendedErrorCodeNetworkError, "no name server of the host answers")
}

// failure is SERVFAIL with a reason.
func failure(code uint16, text string) *dns.Msg {
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeServerFailure}}
	explain(m, code, text)
	return m
}

// explain adds an extended error. The final reply keeps it only for clients
// that speak EDNS0.
func explain(m *dns.Msg, code uint16, text string) {
	opt := m.IsEdns0()
	if opt == nil {
		m.SetEdns0(udpSize, false)
		opt = m.IsEdns0()
	}
	opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: code, ExtraText: text})
}

// servers are the upstreams for a name: those of the longest stub domain that it
// lies in, or those for all others.
func (f *forwarder) servers(name string) []netip.AddrPort {
	var found Stub
	for _, s := range f.stubs() {
		if domain := dns.CanonicalName(s.Domain); dns.IsSubDomain(domain, name) && len(domain) > len(found.Domain) {
			found = Stub{domain, s.Servers}
		}
	}
	if found.Domain != "" {
		return found.Servers
	}
	return f.upstreams()
}

// order gives the upstreams for a name, without this server itself, those that
// failed last.
func (f *forwarder) order(name string) []netip.AddrPort {
	var healthy, down []netip.AddrPort
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, up := range f.servers(name) {
		switch {
		case slices.Contains(f.own, up):
		case f.down[up]:
			down = append(down, up)
		default:
			healthy = append(healthy, up)
		}
	}
	return append(healthy, down...)
}

// mark notes whether up answered.
func (f *forwarder) mark(up netip.AddrPort, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil && !f.down[up]:
		f.down[up] = true
		f.log.Warn("name server does not answer", "upstream", up, "err", err)
	case err == nil && f.down[up]:
		delete(f.down, up)
		f.log.Info("name server answers again", "upstream", up)
	}
}

// probe asks each upstream that is down for the root's servers, until ctx ends.
// Upstreams that are no longer configured are forgotten.
func (f *forwarder) probe(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, up := range f.downNow() {
			_, err := exchange(ctx, key{name: ".", qtype: dns.TypeNS}, up)
			f.mark(up, err)
		}
	}
}

func (f *forwarder) downNow() []netip.AddrPort {
	configured := slices.Clone(f.upstreams())
	for _, s := range f.stubs() {
		configured = append(configured, s.Servers...)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []netip.AddrPort
	for up := range f.down {
		if slices.Contains(configured, up) {
			out = append(out, up)
		} else {
			delete(f.down, up)
		}
	}
	return out
}

// exchange asks one upstream, again over TCP when the answer was cut short and
// again without EDNS0 when it is too old for that.
func exchange(ctx context.Context, k key, up netip.AddrPort) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	m, err := exchangeOnce(ctx, "udp", k.query(true), up)
	if err == nil && m.Rcode == dns.RcodeFormatError && m.IsEdns0() == nil {
		m, err = exchangeOnce(ctx, "udp", k.query(false), up)
	}
	if err == nil && m.Truncated {
		m, err = exchangeOnce(ctx, "tcp", k.query(true), up)
	}
	if err != nil {
		return nil, fmt.Errorf("ask name server %v: %w", up, err)
	}
	return m, nil
}

func (k key) query(edns bool) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(k.name, k.qtype) // with a random id, and RD
	m.CheckingDisabled = k.cd
	if edns {
		m.SetEdns0(udpSize, k.do)
	}
	return m
}

// exchangeOnce opens a socket for one question and waits for a message that
// answers it; others, which somebody else must have sent, are an error.
func exchangeOnce(ctx context.Context, network string, q *dns.Msg, up netip.AddrPort) (*dns.Msg, error) {
	c := dns.Client{Net: network, Timeout: upstreamTimeout, UDPSize: udpSize}
	m, _, err := c.ExchangeContext(ctx, q, up.String())
	if err != nil {
		return nil, err
	}
	if !answers(m, q) {
		return nil, errors.New("the answer is to another question")
	}
	return m, nil
}

// answers tells whether m is a reply to q. FORMERR may come without a question.
func answers(m, q *dns.Msg) bool {
	if !m.Response || m.Id != q.Id || m.Opcode != dns.OpcodeQuery {
		return false
	}
	if len(m.Question) == 0 {
		return m.Rcode == dns.RcodeFormatError
	}
	got, want := m.Question[0], q.Question[0]
	return len(m.Question) == 1 && got.Qtype == want.Qtype && got.Qclass == want.Qclass && strings.EqualFold(got.Name, want.Name)
}
