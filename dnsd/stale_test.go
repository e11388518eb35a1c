package dnsd

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// clocked has the server's cache live by a clock that the test sets, in seconds.
func clocked(s *Server) *atomic.Int64 {
	clock, start := new(atomic.Int64), time.Now()
	s.forward.now = func() time.Time { return start.Add(time.Duration(clock.Load()) * time.Second) }
	return clock
}

// reasons are the extended errors that an answer came with.
func reasons(m *dns.Msg) (codes []uint16) {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				codes = append(codes, e.InfoCode)
			}
		}
	}
	return codes
}

func TestAnOldAnswerIsBetterThanNone(t *testing.T) {
	var mode atomic.Int32 // 0: answers, 1: can't, 2: silent
	u := &upstream{do: func(network string, q *dns.Msg) *dns.Msg {
		switch mode.Load() {
		case 1:
			return answer(dns.RcodeServerFailure)(network, q)
		case 2:
			return nil
		}
		return addr(60, "198.51.100.1")(network, q)
	}}
	var clock *atomic.Int64
	startChanged(t, func(s *Server) { clock = clocked(s) }, up1)
	u.start(t, up1)
	asks := func(what, wantAddr string, ttl uint32, asked int64, old bool) {
		t.Helper()
		m := ask(t, "udp", question("example.org.", dns.TypeA).SetEdns0(1232, false))
		if len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != wantAddr || m.Answer[0].Header().Ttl != ttl {
			t.Errorf("%s: got %v", what, m)
		}
		if got := len(reasons(m)) == 1 && reasons(m)[0] == dns.ExtendedErrorCodeStaleAnswer; got != old {
			t.Errorf("%s: said to be old: %v, want %v", what, got, old)
		}
		if got := u.asked.Load(); got != asked {
			t.Errorf("%s: the upstream was asked %d times, want %d", what, got, asked)
		}
	}
	asks("the first", "198.51.100.1", 60, 1, false)
	mode.Store(1)
	clock.Store(61)
	asks("the upstream can't", "198.51.100.1", staleTTL, 2, true)
	clock.Store(90)
	asks("and is left in peace", "198.51.100.1", staleTTL, 2, true)
	clock.Store(92)
	asks("for a while", "198.51.100.1", staleTTL, 3, true)
	mode.Store(0)
	clock.Store(123)
	asks("until it can again", "198.51.100.1", 60, 4, false)
	mode.Store(2)
	clock.Store(200)
	m := ask(t, "udp", question("example.org.", dns.TypeA))
	if len(m.Answer) != 1 || m.Answer[0].Header().Ttl != staleTTL {
		t.Error("a silent upstream:", m)
	}
	mode.Store(1)
	clock.Store(200 + 25*3600)
	if m := ask(t, "udp", question("example.org.", dns.TypeA)); m.Rcode != dns.RcodeServerFailure {
		t.Error("after a day:", m)
	}
}

func TestWhatIsAskedForOftenIsFetchedBeforeItIsOld(t *testing.T) {
	u := &upstream{do: addr(100, "198.51.100.1")}
	var clock *atomic.Int64
	startChanged(t, func(s *Server) { clock = clocked(s) }, up1)
	u.start(t, up1)
	ttl := func() uint32 {
		return ask(t, "udp", question("example.org.", dns.TypeA)).Answer[0].Header().Ttl
	}
	ttl()
	clock.Store(89)
	if got := ttl(); got != 11 || u.asked.Load() != 1 {
		t.Errorf("before the last tenth: %d s, asked %d times", got, u.asked.Load())
	}
	clock.Store(91)
	if got := ttl(); got != 9 {
		t.Errorf("in the last tenth: %d s, want what is there", got)
	}
	waitFor(t, func() bool { return u.asked.Load() == 2 && ttl() == 100 })
}

func TestStubDomainsHaveServersOfTheirOwn(t *testing.T) {
	stub := netip.MustParseAddrPort("127.0.0.3:5353")
	deep := netip.MustParseAddrPort("127.0.0.4:53")
	for at, a := range map[netip.AddrPort]string{up1: "198.51.100.1", stub: "198.51.100.3", deep: "198.51.100.4"} {
		u := &upstream{do: addr(60, a)}
		needNamespace(t)
		u.start(t, at)
	}
	startChanged(t, func(s *Server) {
		s.forward.stubs = func() []Stub {
			return []Stub{{"Corp.example", []netip.AddrPort{stub}}, {"deep.corp.example.", []netip.AddrPort{deep}}}
		}
	}, up1)
	for name, a := range map[string]string{
		"example.org.": "198.51.100.1", "notcorp.example.": "198.51.100.1", "corp.example.": "198.51.100.3",
		"a.CORP.example.": "198.51.100.3", "a.deep.corp.example.": "198.51.100.4", "example.": "198.51.100.1",
	} {
		m := ask(t, "udp", question(name, dns.TypeA))
		if len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != a {
			t.Errorf("%s: got %v, want %s", name, m.Answer, a)
		}
	}
}
