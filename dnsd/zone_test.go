package dnsd

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/txtar"
)

// The address plan of all tests: pods in 10.244.7.0/24 and fd00:7::/64, the
// host is 192.0.2.1, its servers for pods are 10.244.7.1 and fd00:7::1.
func testCluster() Cluster {
	return Cluster{
		Domain:      "cluster.local",
		CIDRs:       []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24"), netip.MustParsePrefix("fd00:7::/64")},
		Nameservers: []netip.Addr{netip.MustParseAddr("10.244.7.1"), netip.MustParseAddr("fd00:7::1")},
		Pods: []Pod{
			{Namespace: "default", Name: "web", Addrs: addrs("10.244.7.2", "fd00:7::2")},
			{Namespace: "default", Name: "db.primary", Addrs: addrs("10.244.7.3", "fd00:7::3")},
			{Namespace: "kube-system", Name: "agent", HostNetwork: true, Addrs: addrs("192.0.2.1")},
			{Namespace: "kube-system", Name: "proxy", HostNetwork: true, Addrs: addrs("192.0.2.1")},
			{Namespace: "default", Name: "10-244-7-2", Addrs: addrs("10.244.7.66", "fd00:7::66")},
			{Namespace: "default", Name: strings.Repeat("n", 64), Addrs: addrs("10.244.7.5", "fd00:7::5")},
			{Namespace: "default", Name: "starting"},
		},
	}
}

func addrs(text ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range text {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestZoneOfAHostsPods(t *testing.T) {
	const path = "testdata/zone/pods-of-a-host.txtar"
	ar, err := txtar.ParseFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	if err != nil {
		ar = &txtar.Archive{Comment: []byte("Dual stack, host network, a name with a dot, one that poses as an address, one too\nlong for DNS, a pod without address.\n"),
			Files: []txtar.File{{Name: "zone"}}}
		os.MkdirAll("testdata/zone", 0o755)
	}
	golden(t, path, ar, "zone", Build(testCluster()).String())
}

func TestAZoneDependsOnWhatIsInItOnly(t *testing.T) {
	c := testCluster()
	before := Build(c).String()
	slices.Reverse(c.Pods)
	want(t, "order of pods", Build(c).String(), before)
	c.Pods = c.Pods[:len(c.Pods)-1]
	if soa := func(z *Zone) uint32 { return z.soa("cluster.local.").Serial }; soa(Build(c)) == soa(Build(testCluster())) {
		t.Error("the serial stays the same for another zone")
	}
}

// say shows an answer in one line.
func say(m *dns.Msg) string {
	if m == nil {
		return "not ours"
	}
	words := []string{dns.RcodeToString[m.Rcode]}
	if m.Authoritative {
		words = append(words, "aa")
	}
	for _, rr := range m.Answer {
		h := rr.Header()
		words = append(words, fmt.Sprintf("%s %s %s", h.Name, dns.Type(h.Rrtype), strings.TrimPrefix(rr.String(), h.String())))
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			words = append(words, "soa "+soa.Hdr.Name)
		}
	}
	return strings.Join(words, "; ")
}

func TestAnswersFromTheZone(t *testing.T) {
	z := Build(testCluster())
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"10-244-7-2.default.pod.cluster.local.", dns.TypeA, "NOERROR; aa; 10-244-7-2.default.pod.cluster.local. A 10.244.7.2"},
		{"fd00-7--2.default.pod.cluster.local.", dns.TypeAAAA, "NOERROR; aa; fd00-7--2.default.pod.cluster.local. AAAA fd00:7::2"},
		{"fd00-7-0-0-0-0-0-2.default.pod.cluster.local.", dns.TypeAAAA, "NOERROR; aa; fd00-7-0-0-0-0-0-2.default.pod.cluster.local. AAAA fd00:7::2"},
		{"WEB.Default.Pod.Cluster.Local.", dns.TypeA, "NOERROR; aa; WEB.Default.Pod.Cluster.Local. A 10.244.7.2"},
		{"db.primary.default.pod.cluster.local.", dns.TypeA, "NOERROR; aa; db.primary.default.pod.cluster.local. A 10.244.7.3"},
		{"10-244-7-2.default.pod.cluster.local.", dns.TypeAAAA, "NOERROR; aa; soa cluster.local."},
		{"10-244-7-2.other.pod.cluster.local.", dns.TypeA, "NXDOMAIN; aa; soa cluster.local."},
		{"10-244-7-9.default.pod.cluster.local.", dns.TypeA, "NXDOMAIN; aa; soa cluster.local."},
		{"default.pod.cluster.local.", dns.TypeA, "NOERROR; aa; soa cluster.local."},
		{"svc.cluster.local.", dns.TypeA, "NOERROR; aa; soa cluster.local."},
		{"db.dbs.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN; aa; soa cluster.local."},
		{"example.org.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN; aa; soa cluster.local."},
		{"dns-version.cluster.local.", dns.TypeTXT, `NOERROR; aa; dns-version.cluster.local. TXT "1.1.0"`},
		{"cluster.local.", dns.TypeNS, "NOERROR; aa; cluster.local. NS ns.dns.cluster.local."},
		{"2.7.244.10.in-addr.arpa.", dns.TypePTR, "NOERROR; aa; 2.7.244.10.in-addr.arpa. PTR web.default.pod.cluster.local."},
		{"9.7.244.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN; aa; soa 7.244.10.in-addr.arpa."},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.0.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR,
			"NOERROR; aa; 2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.0.0.0.0.0.d.f.ip6.arpa. PTR web.default.pod.cluster.local."},
		{"1.2.0.192.in-addr.arpa.", dns.TypePTR, "not ours"},
		{"web.default.pod.cluster.local.", dns.TypeANY, `NOERROR; aa; web.default.pod.cluster.local. HINFO "RFC8482" ""`},
		{"5.7.244.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN; aa; soa 7.244.10.in-addr.arpa."},
		{"no.default.pod.cluster.local.", dns.TypeANY, "NXDOMAIN; aa; soa cluster.local."},
		{"example.org.", dns.TypeA, "not ours"},
		{"notcluster.local.", dns.TypeA, "not ours"},
		{".", dns.TypeNS, "not ours"},
	} {
		m, _ := z.Answer(dns.Question{Name: c.name, Qtype: c.qtype, Qclass: dns.ClassINET})
		want(t, c.name+" "+dns.Type(c.qtype).String(), say(m), c.want)
	}
	if m, ok := (&Zone{}).Answer(dns.Question{Name: "cluster.local.", Qtype: dns.TypeA}); ok {
		t.Errorf("the empty zone answers %v", m)
	}
}

func TestAllThatAZoneHoldsFitsIntoAMessage(t *testing.T) {
	z := Build(testCluster())
	z.names.Range(func(name, n any) bool {
		m := question(name.(string), dns.TypeANY)
		for _, r := range n.(*node).records {
			m.Answer = append(m.Answer, z.rr(name.(string), r.record))
		}
		if _, err := m.Pack(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return true
	})
}

func TestReverseZonesOfAnyPrefix(t *testing.T) {
	for cidr, want := range map[string]string{
		"10.0.0.0/8":     "[10.in-addr.arpa.]",
		"10.244.6.0/23":  "[6.244.10.in-addr.arpa. 7.244.10.in-addr.arpa.]",
		"10.4.0.0/14":    "[4.10.in-addr.arpa. 5.10.in-addr.arpa. 6.10.in-addr.arpa. 7.10.in-addr.arpa.]",
		"10.0.0.4/30":    "[4.0.0.10.in-addr.arpa. 5.0.0.10.in-addr.arpa. 6.0.0.10.in-addr.arpa. 7.0.0.10.in-addr.arpa.]",
		"fd00:7::/64":    "[0.0.0.0.0.0.0.0.7.0.0.0.0.0.d.f.ip6.arpa.]",
		"2001:db8::/30":  "[8.b.d.0.1.0.0.2.ip6.arpa. 9.b.d.0.1.0.0.2.ip6.arpa. a.b.d.0.1.0.0.2.ip6.arpa. b.b.d.0.1.0.0.2.ip6.arpa.]",
		"fd00:7::f0/124": "[f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.0.0.0.0.0.d.f.ip6.arpa.]",
	} {
		if got := fmt.Sprint(reverseZones([]netip.Prefix{netip.MustParsePrefix(cidr)})); got != want {
			t.Errorf("%s: got %s, want %s", cidr, got, want)
		}
	}
}
