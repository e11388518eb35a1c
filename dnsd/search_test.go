package dnsd

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// corpSearch is the list of a pod in namespace default, of a host that has a
// domain of its own.
var corpSearch = []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"}

// searchCluster has a pod at 127.0.0.1, which is where clients on loopback are.
func searchCluster() Cluster {
	c := servicePlan()
	c.Pods = []Pod{{Namespace: "default", Name: "client", Addrs: addrs("127.0.0.1", "10.244.7.2"), Search: corpSearch}}
	c.Services = []Service{
		{Namespace: "default", Name: "web", ClusterIPs: addrs("10.96.0.10"), Ports: []Port{{Name: "http", Protocol: "TCP", Number: 80}}},
		{Namespace: "other", Name: "dual", ClusterIPs: addrs("10.96.0.11", "fd00:96::b")},
		{Namespace: "default", Name: "ext", ExternalName: "example.org"},
		{Namespace: "default", Name: "lost", ExternalName: "nowhere.example.org"},
	}
	return c
}

// world is what the upstream knows: NAME TYPE VALUE, where no value means that
// the name exists without records, and SERVFAIL that nobody can tell.
var world = []string{
	"example.org. A 198.51.100.1", "example.org. AAAA 2001:db8::1", "example.org. TXT said",
	"v4.example.org. A 198.51.100.4",
	"v6.example.org. AAAA 2001:db8::6",
	"alias.example.org. CNAME example.org.",
	"empty.example.org.", "leads.example.org. CNAME empty.example.org.",
	"broken.example.org. SERVFAIL",
	"host.corp.example. A 198.51.100.7",
	"both.corp.example. A 198.51.100.8", "both. A 198.51.100.9",
	"half.corp.example. A 198.51.100.10", "half. AAAA 2001:db8::a",
	"none.corp.example.", "none. A 198.51.100.11",
	"a.b.c.d.e.f. A 198.51.100.12",
}

// worldly answers as an upstream that knows the world.
func worldly(_ string, q *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	name := q.Question[0].Name
	exists := name == "."
	for range 2 { // a CNAME record and what it leads to
		for _, line := range world {
			words := strings.Fields(line)
			exists = exists || words[0] == name || strings.HasSuffix(words[0], "."+name)
			switch {
			case words[0] != name || len(words) == 1:
			case words[1] == "SERVFAIL":
				m.Rcode = dns.RcodeServerFailure
				return m
			case words[1] == dns.Type(q.Question[0].Qtype).String() || words[1] == "CNAME":
				rr, err := dns.NewRR(words[0] + " 60 IN " + words[1] + " " + words[2])
				if err != nil {
					panic(err)
				}
				m.Answer = append(m.Answer, rr)
			}
		}
		if len(m.Answer) != 1 || m.Answer[0].Header().Rrtype != dns.TypeCNAME {
			break
		}
		name = m.Answer[0].(*dns.CNAME).Target
	}
	if len(m.Answer) == 0 {
		soa, _ := dns.NewRR(". 60 IN SOA a. b. 1 2 3 4 60")
		m.Ns = []dns.RR{soa}
		if !exists {
			m.Rcode = dns.RcodeNameError
		}
	}
	return m
}

func TestTheFirstQuestionOfAWalkIsAnsweredWithWhatItComesTo(t *testing.T) {
	u := &upstream{do: worldly}
	startChanged(t, func(s *Server) { s.SetZone(Build(searchCluster())) }, up1)
	u.start(t, up1)
	const first = ".default.svc.cluster.local."
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		// Names that exist are answered as they stand.
		{"web" + first, dns.TypeA, "NOERROR; aa; web" + first + " A 10.96.0.10"},
		{"web" + first, dns.TypeAAAA, "NOERROR; aa; soa cluster.local."},
		{"ext" + first, dns.TypeA, "NOERROR; ext" + first + " CNAME example.org.; example.org. A 198.51.100.1"},
		{"ext" + first, dns.TypeAAAA, "NOERROR; ext" + first + " CNAME example.org.; example.org. AAAA 2001:db8::1"},
		// Names further on in the list.
		{"dual.other" + first, dns.TypeA, "NOERROR; aa; dual.other" + first + " CNAME dual.other.svc.cluster.local.; dual.other.svc.cluster.local. A 10.96.0.11"},
		{"Dual.Other" + first, dns.TypeA, "NOERROR; aa; Dual.Other" + first + " CNAME dual.other.svc.cluster.local.; dual.other.svc.cluster.local. A 10.96.0.11"},
		{"dual.other.svc" + first, dns.TypeAAAA, "NOERROR; aa; dual.other.svc" + first + " CNAME dual.other.svc.cluster.local.; dual.other.svc.cluster.local. AAAA fd00:96::b"},
		{"_http._tcp.web.default" + first, dns.TypeSRV, "NOERROR; aa; _http._tcp.web.default" + first + " CNAME _http._tcp.web.default.svc.cluster.local.; _http._tcp.web.default.svc.cluster.local. SRV 0 100 80 web.default.svc.cluster.local."},
		{"host" + first, dns.TypeA, "NOERROR; host" + first + " CNAME host.corp.example.; host.corp.example. A 198.51.100.7"},
		// And names elsewhere.
		{"example.org" + first, dns.TypeA, "NOERROR; example.org" + first + " CNAME example.org.; example.org. A 198.51.100.1"},
		{"example.org" + first, dns.TypeTXT, "NOERROR; example.org" + first + " CNAME example.org.; example.org. TXT \"said\""},
		{"alias.example.org" + first, dns.TypeAAAA, "NOERROR; alias.example.org" + first + " CNAME alias.example.org.; alias.example.org. CNAME example.org.; example.org. AAAA 2001:db8::1"},
		{"web.default.svc.cluster.local" + first, dns.TypeA, "NOERROR; aa; web.default.svc.cluster.local" + first + " CNAME web.default.svc.cluster.local.; web.default.svc.cluster.local. A 10.96.0.10"},
		// A walk for either type ends at the same name.
		{"v4.example.org" + first, dns.TypeAAAA, "NOERROR; soa ."},
		{"half" + first, dns.TypeA, "NOERROR; half" + first + " CNAME half.corp.example.; half.corp.example. A 198.51.100.10"},
		{"half" + first, dns.TypeAAAA, "NOERROR; soa ."},
		// Without a name there is none; a failure is one.
		{"nothing.example.org" + first, dns.TypeA, "NXDOMAIN; aa; soa cluster.local."},
		{"broken.example.org" + first, dns.TypeA, "SERVFAIL"},
		// These are no walks.
		{"example.org.svc.cluster.local.", dns.TypeA, "NXDOMAIN; aa; soa cluster.local."},
		{"example.org.corp.example.", dns.TypeA, "NXDOMAIN; soa ."},
		{"example.org" + first, dns.TypeCNAME, "NXDOMAIN; aa; soa cluster.local."},
		{"example.org" + first, dns.TypeSOA, "NXDOMAIN; aa; soa cluster.local."},
	} {
		want(t, c.name+" "+dns.Type(c.qtype).String(), say(ask(t, "udp", question(c.name, c.qtype))), c.want)
	}
	alone := question("example.org"+first, dns.TypeA)
	alone.RecursionDesired = false
	want(t, "without recursion", say(ask(t, "udp", alone)), "NXDOMAIN; aa; soa cluster.local.")
	m, err := askOnce("udp", listen6, question("example.org"+first, dns.TypeA)) // from ::1, which is no pod's
	if err != nil {
		t.Fatal(err)
	}
	want(t, "a client that is no pod", say(m), "NXDOMAIN; aa; soa cluster.local.")
}

func TestAWalkOfAnotherPodIsNotTaken(t *testing.T) {
	z := Build(searchCluster())
	steps := func(client string) string {
		return strings.Join(z.steps(netip.MustParseAddr(client), "a.default.svc.cluster.local."), " ")
	}
	const all = "a.svc.cluster.local. a.cluster.local. a.corp.example. a."
	want(t, "a pod", steps("10.244.7.2"), all)
	want(t, "nobody", steps("10.244.7.3"), "")
	z.SetPod(Pod{Namespace: "default", Name: "next", Addrs: addrs("10.244.7.2"), Search: corpSearch[:2]})
	want(t, "two pods of one address", steps("10.244.7.2"), "")
	z.RemovePod("default", "client")
	want(t, "the other one", steps("10.244.7.2"), "a.svc.cluster.local. a.")
	z.SetPod(Pod{Namespace: "default", Name: "next", Addrs: addrs("10.244.7.2")})
	want(t, "that wants none", steps("10.244.7.2"), "")
	z.SetPod(Pod{Namespace: "default", Name: "next", Addrs: addrs("10.244.7.2"), Search: corpSearch, HostNetwork: true})
	want(t, "in the host's network", steps("10.244.7.2"), "")
	z.SetPod(Pod{Namespace: "default", Name: "next", Addrs: addrs("10.244.7.2"), Search: append(corpSearch[:2:2], ".")})
	want(t, "the root among the domains", steps("10.244.7.2"), "")
	long := corpSearch
	for range 100 {
		long = append(long, "x.example")
	}
	z.SetPod(Pod{Namespace: "default", Name: "next", Addrs: addrs("10.244.7.2"), Search: long})
	if n := len(z.steps(netip.MustParseAddr("10.244.7.2"), "a.default.svc.cluster.local.")); n != maxSearches {
		t.Errorf("a list of 104 domains makes %d steps, want %d", n, maxSearches)
	}
	far := strings.Repeat("a.", 100) + "default.svc.cluster.local."
	if got := z.steps(netip.MustParseAddr("10.244.7.2"), far); len(got) != maxSearches {
		t.Errorf("%d names of %d fit", len(got), maxSearches)
	}
}

func TestAddressesTakeTurns(t *testing.T) {
	c := servicePlan()
	c.Services = []Service{{Namespace: "a", Name: "db", Headless: true, Groups: []Group{{Endpoints: []Endpoint{
		{Addr: netip.MustParseAddr("10.244.7.2")}, {Addr: netip.MustParseAddr("10.244.7.3")}, {Addr: netip.MustParseAddr("10.244.7.4")},
	}}}}, {Namespace: "a", Name: "alias", ExternalName: "db.a.svc.cluster.local"}}
	s := New(Config{}, slog.New(slog.DiscardHandler))
	s.SetZone(Build(c))
	firsts := make(map[string]int)
	for range 30 {
		m, _ := s.reply(t.Context(), netip.MustParseAddr("127.0.0.1"), question("alias.a.svc.cluster.local.", dns.TypeA))
		if len(m.Answer) != 4 || m.Answer[0].Header().Rrtype != dns.TypeCNAME {
			t.Fatal(m)
		}
		firsts[m.Answer[1].(*dns.A).A.String()]++
	}
	if len(firsts) != 3 || firsts["10.244.7.3"] != 10 {
		t.Error("addresses that came first:", firsts)
	}
}

// FuzzSearch has a pod write what it likes into its resolv.conf.
func FuzzSearch(f *testing.F) {
	f.Add("search "+strings.Join(corpSearch, " "), "web.default")
	f.Add("search default.svc.cluster.local a..b \\ c\\.d \\300 .", "a\\.b")
	s := New(Config{}, slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, conf, name string) {
		c := searchCluster()
		r := ParseResolv([]byte(conf))
		c.Pods[0].Search = r.Searches
		s.SetZone(Build(c))
		if len(r.Searches) == 0 {
			return
		}
		req := question(name+"."+r.Searches[0]+".", dns.TypeA)
		wire, err := req.Pack()
		if err != nil || req.Unpack(wire) != nil {
			return
		}
		m, _ := s.reply(t.Context(), netip.MustParseAddr("10.244.7.2"), req)
		_, source := s.reply(t.Context(), netip.MustParseAddr("127.0.0.1"), req)
		finish(m, req, true)
		if _, err := m.Pack(); err != nil {
			t.Fatalf("%q, search %q: %v: %v (%s)", name, r.Searches, err, m, source)
		}
		for _, step := range s.Lookup(t.Context(), netip.MustParseAddr("10.244.7.2"), r, name) {
			if step.Why == "" {
				t.Errorf("%q: no verdict", step.Name)
			}
		}
	})
}
