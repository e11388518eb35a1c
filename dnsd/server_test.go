package dnsd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

var (
	listen  = netip.MustParseAddrPort("127.0.0.100:53")
	listen6 = netip.MustParseAddrPort("[::1]:53")
	up1     = netip.MustParseAddrPort("127.0.0.1:53")
	up2     = netip.MustParseAddrPort("127.0.0.2:53")
)

// startServer runs a server of the test cluster and waits until it answers.
func startServer(t testing.TB, ups ...netip.AddrPort) *Server {
	t.Helper()
	return startChanged(t, func(*Server) {}, ups...)
}

func startChanged(t testing.TB, change func(*Server), ups ...netip.AddrPort) *Server {
	t.Helper()
	needNamespace(t)
	at := []netip.AddrPort{listen, listen6}
	s := New(Config{Domain: "cluster.local", Listen: at, Clients: testCluster().CIDRs,
		Upstreams: func() []netip.AddrPort { return ups }}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	s.SetZone(Build(testCluster()))
	change(s)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for _, a := range at {
		for _, network := range []string{"udp", "tcp"} {
			waitFor(t, func() bool {
				_, err := askOnce(network, a, question("cluster.local.", dns.TypeSOA))
				return err == nil
			})
		}
	}
	return s
}

// waitFor looks until ok or ten seconds have passed.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(10 * time.Second); !ok(); {
		select {
		case <-deadline:
			t.Fatal("waited for 10 s")
		case <-tick.C:
		}
	}
}

func question(name string, qtype uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, qtype) }

func askOnce(network string, at netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
	c := dns.Client{Net: network, Timeout: 5 * time.Second, UDPSize: 4096}
	m, _, err := c.Exchange(q, at.String())
	return m, err
}

func ask(t testing.TB, network string, q *dns.Msg) *dns.Msg {
	t.Helper()
	m, err := askOnce(network, listen, q)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// upstream answers as do says and counts; nil means silence.
type upstream struct {
	do    func(network string, q *dns.Msg) *dns.Msg
	asked atomic.Int64

	mu      sync.Mutex
	sources map[string]bool
	ids     map[uint16]bool
}

func (u *upstream) start(t testing.TB, at netip.AddrPort) (stop func()) {
	t.Helper()
	u.sources, u.ids = map[string]bool{}, map[uint16]bool{}
	handler := func(network string) dns.Handler {
		return dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			u.asked.Add(1)
			u.mu.Lock()
			u.sources[w.RemoteAddr().String()] = true
			u.ids[q.Id] = true
			u.mu.Unlock()
			if m := u.do(network, q); m != nil {
				w.WriteMsg(m)
			}
		})
	}
	pc, err := net.ListenPacket("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	servers := []*dns.Server{{PacketConn: pc, Handler: handler("udp")}, {Listener: l, Handler: handler("tcp")}}
	var wg sync.WaitGroup
	for _, s := range servers {
		wg.Go(func() { s.ActivateAndServe() })
	}
	stop = sync.OnceFunc(func() {
		pc.Close()
		l.Close()
		for _, s := range servers {
			s.Shutdown()
		}
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// addr answers every question with one A record.
func addr(ttl int, a string) func(string, *dns.Msg) *dns.Msg {
	return func(_ string, q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		rr, err := dns.NewRR(fmt.Sprintf("%s %d A %s", q.Question[0].Name, ttl, a))
		if err != nil {
			panic(err)
		}
		m.Answer = []dns.RR{rr}
		return m
	}
}

func answer(code int) func(string, *dns.Msg) *dns.Msg {
	return func(_ string, q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, code) }
}

func silence(string, *dns.Msg) *dns.Msg { return nil }

func TestDigSeesPodsOverEachTransport(t *testing.T) {
	startServer(t)
	for _, c := range []struct{ args, want string }{
		{"@127.0.0.100 +short web.default.pod.cluster.local A", "10.244.7.2"},
		{"@127.0.0.100 +short +tcp web.default.pod.cluster.local AAAA", "fd00:7::2"},
		{"@::1 +short -x 10.244.7.2", "web.default.pod.cluster.local."},
		{"@::1 +short -x fd00:7::3", "db.primary.default.pod.cluster.local."},
		{"@127.0.0.100 +short dns-version.cluster.local TXT", `"1.1.0"`},
		{"@127.0.0.100 +noall +comments +noedns nothing.cluster.local", "status: NXDOMAIN"},
		{"@127.0.0.100 +noall +comments nothing.cluster.local", "flags: qr aa rd ra"},
		{"@127.0.0.100 +noall +comments +edns=5 +noednsneg cluster.local SOA", "status: BADVERS"},
		{"@127.0.0.100 +noall +comments cluster.local AXFR", "; Transfer failed."},
		{"@127.0.0.100 +noall +comments CH TXT version.bind", "status: REFUSED"},
		{"@127.0.0.100 +noall +comments +opcode=NOTIFY cluster.local SOA", "status: NOTIMP"},
		{"@127.0.0.100 +noall +comments +norecurse example.org", "status: REFUSED"},
		{"@127.0.0.100 +noall +answer example.org ANY", `"RFC8482" ""`},
		{"@127.0.0.100 +noall +comments example.org", "EDE: 14 (Not Ready): (the host has no name server)"},
	} {
		out, err := exec.Command("dig", append([]string{"+tries=1", "+time=3"}, strings.Fields(c.args)...)...).CombinedOutput()
		if !strings.Contains(string(out), c.want) {
			t.Errorf("dig %s: %v, want %q in\n%s", c.args, err, c.want, out)
		}
	}
}

func TestForwardedAnswersAreCachedForTheirLifetime(t *testing.T) {
	u := &upstream{do: addr(300, "198.51.100.1")}
	var clock atomic.Int64
	start := time.Now()
	startChanged(t, func(s *Server) {
		s.forward.now = func() time.Time { return start.Add(time.Duration(clock.Load()) * time.Second) }
	}, up1)
	u.start(t, up1)
	for _, c := range []struct {
		at   int64
		want string
	}{{0, "ttl 300 asked 1"}, {100, "ttl 200 asked 1"}, {269, "ttl 31 asked 1"}, {300, "ttl 300 asked 2"}} {
		clock.Store(c.at)
		m := ask(t, "udp", question("Example.org.", dns.TypeA))
		want(t, fmt.Sprint("after ", c.at, " s"), fmt.Sprintf("ttl %d asked %d", m.Answer[0].Header().Ttl, u.asked.Load()), c.want)
		if m.Authoritative || m.Question[0].Name != "Example.org." {
			t.Error("not a forwarded answer to the question:", m)
		}
	}
}

func TestNegativeAnswersAreCachedAsTheirSOASays(t *testing.T) {
	soa := func(q *dns.Msg, code int, text string) *dns.Msg {
		m := new(dns.Msg).SetRcode(q, code)
		if text != "" {
			rr, err := dns.NewRR(text)
			if err != nil {
				panic(err)
			}
			m.Ns = []dns.RR{rr}
		}
		return m
	}
	q := question("no.example.", dns.TypeA)
	for name, c := range map[string]struct {
		m    *dns.Msg
		want time.Duration
	}{
		"no such name":           {soa(q, dns.RcodeNameError, "example. 60 SOA a. b. 1 1 1 1 120"), time.Minute},
		"no such record":         {soa(q, dns.RcodeSuccess, "example. 600 SOA a. b. 1 1 1 1 120"), 2 * time.Minute},
		"a long one is cut":      {soa(q, dns.RcodeNameError, "example. 86400 SOA a. b. 1 1 1 1 86400"), maxNegativeTTL},
		"no SOA is not kept":     {soa(q, dns.RcodeNameError, ""), 0},
		"a failure is kept":      {soa(q, dns.RcodeServerFailure, ""), failureTTL},
		"a refusal is not":       {soa(q, dns.RcodeRefused, ""), 0},
		"an answer of a week":    {addr(604800, "192.0.2.1")("", q), maxTTL},
		"an answer not to keep":  {addr(0, "192.0.2.1")("", q), 0},
		"a truncated one is not": {func() *dns.Msg { m := addr(60, "192.0.2.1")("", q); m.Truncated = true; return m }(), 0},
	} {
		if got := lifetime(c.m); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestDNSSECWishesAreNotMixedInTheCache(t *testing.T) {
	u := &upstream{do: func(_ string, q *dns.Msg) *dns.Msg {
		last := 1
		if q.IsEdns0().Do() {
			last = 2
		}
		return addr(300, fmt.Sprint("198.51.100.", last))("", q)
	}}
	startServer(t, up1)
	u.start(t, up1)
	plain, secure := question("example.org.", dns.TypeA), question("example.org.", dns.TypeA)
	secure.SetEdns0(1232, true)
	for range 2 {
		a, b := ask(t, "udp", plain), ask(t, "udp", secure)
		want(t, "plain", say(a), "NOERROR; example.org. A 198.51.100.1")
		want(t, "secure", say(b), "NOERROR; example.org. A 198.51.100.2")
		if a.IsEdns0() != nil || b.IsEdns0() == nil || !b.IsEdns0().Do() {
			t.Error("EDNS0 of the replies:", a.IsEdns0(), b.IsEdns0())
		}
	}
}

func TestALongAnswerComesOverTCPFromUpstreamAndIsCutForUDPClients(t *testing.T) {
	u := &upstream{do: func(network string, q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		if network == "udp" {
			m.Truncated = true
			return m
		}
		for i := range 100 {
			m.Answer = append(m.Answer, addr(60, fmt.Sprint("198.51.100.", i))("", q).Answer...)
		}
		return m
	}}
	startServer(t, up1)
	u.start(t, up1)
	over := func(network string, size uint16) *dns.Msg {
		q := question("long.example.", dns.TypeA)
		if size > 0 {
			q.SetEdns0(size, false)
		}
		return ask(t, network, q)
	}
	for _, c := range []struct {
		size  uint16
		limit int
	}{{0, 512}, {800, 800}, {4096, 1232}} {
		m := over("udp", c.size)
		m.Compress = true
		if !m.Truncated || m.Len() > c.limit || m.Len() < c.limit-100 {
			t.Errorf("size %d: truncated %v, %d bytes", c.size, m.Truncated, m.Len())
		}
	}
	if m := over("tcp", 0); m.Truncated || len(m.Answer) != 100 {
		t.Errorf("over TCP: truncated %v, %d records", m.Truncated, len(m.Answer))
	}
}

func TestADeadUpstreamCostsOnceAndIsProbed(t *testing.T) {
	first, second := &upstream{do: silence}, &upstream{do: addr(0, "198.51.100.2")}
	s := startServer(t, up1, up2)
	stop := first.start(t, up1)
	second.start(t, up2)
	start := time.Now()
	want(t, "first question", say(ask(t, "udp", question("a.example.", dns.TypeA))), "NOERROR; a.example. A 198.51.100.2")
	slow := time.Since(start)
	for i := range 20 {
		name := fmt.Sprintf("n%d.example.", i)
		want(t, "next question", say(ask(t, "udp", question(name, dns.TypeA))), "NOERROR; "+name+" A 198.51.100.2")
	}
	if fast := time.Since(start) - slow; slow < upstreamTimeout || fast > upstreamTimeout {
		t.Errorf("the first question took %v, twenty more %v", slow, fast)
	}
	stop()
	again := &upstream{do: addr(0, "198.51.100.1")}
	again.start(t, up1)
	waitFor(t, func() bool { s.forward.mu.Lock(); defer s.forward.mu.Unlock(); return len(s.forward.down) == 0 })
	want(t, "after it came back", say(ask(t, "udp", question("z.example.", dns.TypeA))), "NOERROR; z.example. A 198.51.100.1")
}

func TestAnUpstreamThatCannotIsFollowedByTheNext(t *testing.T) {
	for code, want1 := range map[int]string{
		dns.RcodeServerFailure: "NOERROR; a.example. A 198.51.100.2",
		dns.RcodeRefused:       "NOERROR; a.example. A 198.51.100.2",
		dns.RcodeNameError:     "NXDOMAIN",
	} {
		t.Run(dns.RcodeToString[code], func(t *testing.T) {
			first, second := &upstream{do: answer(code)}, &upstream{do: addr(0, "198.51.100.2")}
			startServer(t, up1, up2)
			first.start(t, up1)
			second.start(t, up2)
			want(t, "answer", say(ask(t, "udp", question("a.example.", dns.TypeA))), want1)
		})
	}
}

func TestAnAnswerToAnotherQuestionIsNotBelieved(t *testing.T) {
	lies := map[string]func(*dns.Msg){
		"name":        func(m *dns.Msg) { m.Question[0].Name = "bank.example." },
		"type":        func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA },
		"no question": func(m *dns.Msg) { m.Question = nil },
		"a query":     func(m *dns.Msg) { m.Response = false },
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			u := &upstream{do: func(_ string, q *dns.Msg) *dns.Msg { m := addr(60, "203.0.113.66")("", q); lie(m); return m }}
			startServer(t, up1)
			u.start(t, up1)
			q := question("a.example.", dns.TypeA)
			q.SetEdns0(1232, false)
			m := ask(t, "udp", q)
			want(t, "answer", say(m), "SERVFAIL")
			if ede, ok := m.IsEdns0().Option[0].(*dns.EDNS0_EDE); !ok || ede.InfoCode != dns.ExtendedErrorCodeNetworkError {
				t.Error("reason:", m.IsEdns0())
			}
		})
	}
}

func TestAnOldUpstreamIsAskedWithoutEDNS(t *testing.T) {
	u := &upstream{do: func(_ string, q *dns.Msg) *dns.Msg {
		if q.IsEdns0() != nil {
			return new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
		}
		return addr(0, "198.51.100.1")("", q)
	}}
	startServer(t, up1)
	u.start(t, up1)
	want(t, "answer", say(ask(t, "udp", question("a.example.", dns.TypeA))), "NOERROR; a.example. A 198.51.100.1")
}

func TestEachForwardedQuestionHasItsOwnPortAndId(t *testing.T) {
	u := &upstream{do: addr(0, "198.51.100.1")}
	startServer(t, up1)
	u.start(t, up1)
	const questions = 50
	for i := range questions {
		q := question(fmt.Sprintf("n%d.example.", i), dns.TypeA)
		q.Id = 7
		ask(t, "udp", q)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.sources) < questions*9/10 || len(u.ids) < questions*9/10 {
		t.Errorf("%d ports and %d ids in %d questions", len(u.sources), len(u.ids), questions)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	u := &upstream{do: addr(60, "198.51.100.1")}
	startServer(t, up1)
	u.start(t, up1)
	ip(t, "addr", "add", "192.0.2.200/32", "dev", "lo")
	ip(t, "addr", "add", "10.244.7.50/32", "dev", "lo")
	t.Cleanup(func() {
		ip(t, "addr", "flush", "dev", "lo")
		ip(t, "addr", "add", "127.0.0.1/8", "dev", "lo")
		ip(t, "addr", "add", "::1/128", "dev", "lo")
	})
	from := func(source, network, name string) string {
		d := &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(source)}, Timeout: time.Second}
		if network == "tcp" {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
		}
		c := dns.Client{Net: network, Dialer: d}
		m, _, err := c.Exchange(question(name, dns.TypeA), listen.String())
		if err != nil {
			return "closed"
		}
		return say(m)
	}
	for _, name := range []string{"example.org.", "web.default.pod.cluster.local."} {
		want(t, "stranger, udp", from("192.0.2.200", "udp", name), "REFUSED")
		want(t, "stranger, tcp", from("192.0.2.200", "tcp", name), "closed")
	}
	want(t, "pod", from("10.244.7.50", "udp", "example.org."), "NOERROR; example.org. A 198.51.100.1")
	want(t, "pod, tcp", from("10.244.7.50", "tcp", "example.org."), "NOERROR; example.org. A 198.51.100.1")
	if u.asked.Load() > 2 {
		t.Errorf("upstream was asked %d times", u.asked.Load())
	}
}

func TestOneClientCannotTakeAllRoom(t *testing.T) {
	l := newLimit(2, 3)
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	got := fmt.Sprint(l.enter(a), l.enter(a), l.enter(a), l.enter(b), l.enter(c))
	want(t, "entering", got, "true true false true false")
	l.leave(a)
	want(t, "after one left", fmt.Sprint(l.enter(c), l.enter(c)), "true false")
	l.leave(a)
	l.leave(b)
	l.leave(c)
	if len(l.busy) != 0 || l.total != 0 {
		t.Errorf("left over: %v %d", l.busy, l.total)
	}
}

func TestAStuckUpstreamDoesNotStopTheClustersNames(t *testing.T) {
	u := &upstream{do: silence}
	startChanged(t, func(s *Server) { s.questions.each = 4 }, up1)
	u.start(t, up1)
	var wg sync.WaitGroup
	var refused atomic.Int64
	for i := range 20 {
		wg.Go(func() {
			if m, err := askOnce("udp", listen, question(fmt.Sprintf("n%d.example.", i), dns.TypeA)); err == nil && m.Rcode == dns.RcodeRefused {
				refused.Add(1)
			}
		})
	}
	waitFor(t, func() bool { return refused.Load() == 16 })
	start := time.Now()
	want(t, "answer", say(ask(t, "udp", question("web.default.pod.cluster.local.", dns.TypeA))), "NOERROR; aa; web.default.pod.cluster.local. A 10.244.7.2")
	if took := time.Since(start); took > time.Second {
		t.Error("took", took)
	}
	wg.Wait()
}

func TestThisServerIsNotItsOwnUpstream(t *testing.T) {
	s := startServer(t, listen, up2)
	u := &upstream{do: addr(0, "198.51.100.2")}
	u.start(t, up2)
	want(t, "order", fmt.Sprint(s.forward.order(".")), "[127.0.0.2:53]")
	want(t, "answer", say(ask(t, "udp", question("a.example.", dns.TypeA))), "NOERROR; a.example. A 198.51.100.2")
}

func TestALoopThroughAnotherResolverEndsByItself(t *testing.T) {
	u := &upstream{do: func(network string, q *dns.Msg) *dns.Msg {
		back := question(q.Question[0].Name, q.Question[0].Qtype)
		m, err := askOnce("udp", listen, back)
		if err != nil {
			return nil
		}
		return m.SetRcode(q, m.Rcode)
	}}
	startServer(t, up1)
	u.start(t, up1)
	want(t, "answer", say(ask(t, "udp", question("a.example.", dns.TypeA))), "SERVFAIL")
	if n := u.asked.Load(); n > 2 {
		t.Errorf("the question went round %d times", n)
	}
}

func TestListensBeforeItsAddressExistsAndWaitsForATakenOne(t *testing.T) {
	needNamespace(t)
	later := netip.MustParseAddrPort("203.0.113.5:53")
	taken := netip.MustParseAddrPort("127.0.0.101:53")
	holder, err := net.ListenPacket("udp", taken.String())
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Listen: []netip.AddrPort{later, taken}, Clients: []netip.Prefix{netip.MustParsePrefix("203.0.113.5/32")}}, slog.New(slog.DiscardHandler))
	s.SetZone(Build(testCluster()))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	ip(t, "addr", "add", "203.0.113.5/32", "dev", "lo")
	t.Cleanup(func() { ip(t, "addr", "del", "203.0.113.5/32", "dev", "lo") })
	answersAt := func(a netip.AddrPort) func() bool {
		return func() bool {
			m, err := askOnce("tcp", a, question("cluster.local.", dns.TypeSOA))
			return err == nil && m.Rcode == dns.RcodeSuccess
		}
	}
	waitFor(t, answersAt(later))
	holder.Close()
	waitFor(t, answersAt(taken))
}

// FuzzQuery gives the server any message, as pod and as stranger.
func FuzzQuery(f *testing.F) {
	for _, q := range []*dns.Msg{
		question("web.default.pod.cluster.local.", dns.TypeA), question("example.org.", dns.TypeANY),
		question("dual.other.default.svc.cluster.local.", dns.TypeA), question("_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV),
		question("\\000\\255.cluster.local.", dns.TypeTXT), new(dns.Msg).SetEdns0(65535, true),
		new(dns.Msg).SetNotify("cluster.local."), new(dns.Msg).SetAxfr("cluster.local."),
	} {
		b, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(b, false)
	}
	c := testCluster()
	c.Pods[0].Search = corpSearch
	c.Services = searchCluster().Services
	s := New(Config{Clients: c.CIDRs}, slog.New(slog.DiscardHandler))
	s.SetZone(Build(c))
	pod, stranger := netip.MustParseAddr("10.244.7.2"), netip.MustParseAddr("192.0.2.99")
	f.Fuzz(func(t *testing.T, b []byte, known bool) {
		req := new(dns.Msg)
		if req.Unpack(b) != nil {
			return
		}
		client := stranger
		if known {
			client = pod
		}
		m, _ := s.reply(t.Context(), client, req)
		finish(m, req, true)
		wire, err := m.Pack()
		if err != nil {
			t.Fatalf("%v: %v", err, m)
		}
		back := new(dns.Msg)
		if err := back.Unpack(wire); err != nil || !back.Response || back.Id != req.Id {
			t.Fatalf("%v: %v", err, m)
		}
		if len(wire) > udpSize && len(wire) > len(b) {
			t.Errorf("%d bytes for a query of %d", len(wire), len(b))
		}
		if !known && back.Rcode != dns.RcodeRefused {
			t.Errorf("a stranger got %v", back)
		}
	})
}

// FuzzReply gives the forwarder any message as an upstream's.
func FuzzReply(f *testing.F) {
	q := question("a.example.", dns.TypeA)
	for _, m := range []*dns.Msg{addr(60, "192.0.2.1")("", q), answer(dns.RcodeNameError)("", q)} {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		q := question("a.example.", dns.TypeA)
		q.Id = m.Id
		if !answers(m, q) {
			return
		}
		c, now := newCache(), time.Unix(0, 0)
		k := key{name: "a.example.", qtype: dns.TypeA}
		c.put(k, m, now)
		kept, _ := c.get(k, now.Add(time.Second))
		old, _ := c.get(k, now.Add(maxTTL+time.Second))
		for _, m := range []*dns.Msg{m, kept, old} {
			if m == nil {
				continue
			}
			finish(m, q, true)
			if wire, err := m.Pack(); err == nil && len(wire) > dns.MinMsgSize {
				t.Errorf("%d bytes for a client that takes %d", len(wire), dns.MinMsgSize)
			}
		}
	})
}

// BenchmarkServer is what one query costs over a real socket, with eight
// clients at once.
func BenchmarkServer(b *testing.B) {
	for name, target := range map[string]string{"pod": "web.default.pod.cluster.local.", "cached": "example.org."} {
		b.Run(name, func(b *testing.B) {
			u := &upstream{do: addr(3600, "198.51.100.1")}
			startServer(b, up1)
			u.start(b, up1)
			wire, err := question(target, dns.TypeA).Pack()
			if err != nil {
				b.Fatal(err)
			}
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				c, err := net.Dial("udp", listen.String())
				if err != nil {
					b.Error(err)
					return
				}
				defer c.Close()
				buf := make([]byte, 1500)
				for pb.Next() {
					c.Write(wire)
					c.SetReadDeadline(time.Now().Add(5 * time.Second))
					if n, err := c.Read(buf); err != nil || buf[3]&0xf != 0 || n < len(wire)+10 {
						b.Error("no answer:", n, err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "queries/s")
		})
	}
}

// BenchmarkReply is the server's own part of that: unpack, decide, pack.
func BenchmarkReply(b *testing.B) {
	s := New(Config{Clients: testCluster().CIDRs}, slog.New(slog.DiscardHandler))
	s.SetZone(Build(testCluster()))
	q := question("example.org.", dns.TypeA)
	s.forward.cache.put(key{name: "example.org.", qtype: dns.TypeA}, addr(3600, "198.51.100.1")("", q), time.Now())
	for name, target := range map[string]string{"pod": "web.default.pod.cluster.local.", "cached": "example.org."} {
		b.Run(name, func(b *testing.B) {
			wire, err := question(target, dns.TypeA).Pack()
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				req := new(dns.Msg)
				if err := req.Unpack(wire); err != nil {
					b.Fatal(err)
				}
				m, _ := s.reply(b.Context(), netip.MustParseAddr("10.244.7.2"), req)
				finish(m, req, true)
				if out, err := m.Pack(); err != nil || len(m.Answer) != 1 {
					b.Fatal(out, err)
				}
			}
		})
	}
}
