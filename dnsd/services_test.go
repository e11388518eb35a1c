package dnsd

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestServices holds one story a file: the cluster, the records that it makes,
// and answers to questions. The address plan: pods in 10.244.0.0/16 and
// fd00:7::/64, services in 10.96.0.0/16 and fd00:96::/112, 192.0.2.0/24 is
// elsewhere.
func TestServices(t *testing.T) {
	files, err := filepath.Glob("testdata/services/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			parts := make(map[string]string)
			for _, f := range ar.Files {
				parts[f.Name] = string(f.Data)
			}
			c := servicePlan()
			if err := json.Unmarshal([]byte(parts["cluster"]), &c); err != nil {
				t.Fatal(err)
			}
			z := Build(c)
			var records []string
			for line := range strings.Lines(z.String()) {
				if !strings.Contains(line, " SOA ") && !strings.Contains(line, " NS ") && !strings.HasPrefix(line, ";") && !strings.HasPrefix(line, "dns-version") && !strings.HasPrefix(line, "ns.dns.") {
					records = append(records, line)
				}
			}
			var answers strings.Builder
			for line := range strings.Lines(parts["questions"]) {
				name, rrtype, _ := strings.Cut(strings.TrimSpace(line), " ")
				m, _ := z.Answer(dns.Question{Name: name, Qtype: dns.StringToType[rrtype], Qclass: dns.ClassINET})
				fmt.Fprintf(&answers, "%s %s: %s\n", name, rrtype, say(m))
			}
			golden(t, path, ar, "records", strings.Join(records, ""))
			golden(t, path, ar, "answers", answers.String())
		})
	}
}

func servicePlan() Cluster {
	return Cluster{
		Domain: "cluster.local",
		CIDRs: []netip.Prefix{
			netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:7::/64"),
			netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112"),
		},
		Nameservers: addrs("10.244.7.1"),
	}
}

// chance makes small clusters whose parts have much in common.
type chance struct{ *rand.Rand }

func (r chance) of(words ...string) string { return words[r.IntN(len(words))] }

func (r chance) addr() netip.Addr {
	return netip.MustParseAddr(r.of("10.244.7.2", "10.244.7.3", "fd00:7::2", "192.0.2.9", "10.96.0.1", "fd00:96::1"))
}

func (r chance) service() Service {
	s := Service{Namespace: r.of("a", "b"), Name: r.of("web", "db"), PublishNotReady: r.IntN(4) == 0}
	switch r.IntN(4) {
	case 0:
		s.ExternalName = r.of("example.org", "web.a.svc.cluster.local", strings.Repeat("x", 300))
	case 1, 2:
		s.Headless = true
		for range r.IntN(3) {
			g := Group{Ports: r.ports()}
			for range r.IntN(4) {
				g.Endpoints = append(g.Endpoints, Endpoint{Addr: r.addr(), Hostname: r.of("", "", "web-0", "web-1", "10-244-7-2"), NotReady: r.IntN(3) == 0})
			}
			s.Groups = append(s.Groups, g)
		}
	case 3:
		for range r.IntN(3) {
			s.ClusterIPs = append(s.ClusterIPs, r.addr())
		}
		s.Ports = r.ports()
	}
	return s
}

func (r chance) ports() (ports []Port) {
	for range r.IntN(3) {
		ports = append(ports, Port{Name: r.of("", "http", "dns"), Protocol: r.of("TCP", "UDP"), Number: uint16(80 + r.IntN(2))})
	}
	return ports
}

func (r chance) pod() Pod {
	p := Pod{Namespace: r.of("a", "b"), Name: r.of("web", "x.web", "y.x.web", "10-244-7-2"), HostNetwork: r.IntN(4) == 0}
	for range r.IntN(3) {
		p.Addrs = append(p.Addrs, r.addr())
	}
	if r.IntN(2) == 0 {
		p.Search = []string{r.of("a.svc.cluster.local", "b.svc.cluster.local"), "svc.cluster.local"}
	}
	return p
}

// text is all that a zone holds.
func text(z *Zone) string {
	var b strings.Builder
	b.WriteString(z.String())
	for _, a := range []string{"10.244.7.2", "10.244.7.3", "fd00:7::2", "192.0.2.9", "10.96.0.1", "fd00:96::1"} {
		v, _ := z.searches.Load(netip.MustParseAddr(a))
		fmt.Fprintln(&b, a, v)
	}
	return b.String()
}

func TestAZoneThatIsChangedStepByStepIsTheOneBuiltAnew(t *testing.T) {
	for seed := range uint64(300) {
		r := chance{rand.New(rand.NewPCG(seed, 1))}
		c := servicePlan()
		z := Build(c)
		services, pods := make(map[string]Service), make(map[string]Pod)
		for step := range 30 {
			s, p := r.service(), r.pod()
			switch r.IntN(6) {
			case 0:
				delete(services, s.Namespace+"/"+s.Name)
				z.RemoveService(s.Namespace, s.Name)
			case 1:
				delete(pods, p.Namespace+"/"+p.Name)
				z.RemovePod(p.Namespace, p.Name)
			case 2, 3:
				services[s.Namespace+"/"+s.Name] = s
				z.SetService(s)
			default:
				pods[p.Namespace+"/"+p.Name] = p
				z.SetPod(p)
			}
			c := servicePlan()
			for _, s := range services {
				c.Services = append(c.Services, s)
			}
			for _, p := range pods {
				c.Pods = append(c.Pods, p)
			}
			if got, want := text(z), text(Build(c)); got != want {
				t.Fatalf("seed %d, step %d:\nchanged:\n%s\nanew:\n%s", seed, step, got, want)
			}
		}
	}
}

// TestANameThatStaysIsNeverMissed looks names up while others, and their other
// records, come and go.
func TestANameThatStaysIsNeverMissed(t *testing.T) {
	z := Build(servicePlan())
	service := func(n int) Service {
		s := Service{Namespace: "a", Name: "web", Headless: true, Groups: []Group{{Ports: []Port{{Name: fmt.Sprint("port-", n), Protocol: "TCP", Number: 80}}}}}
		for i := range n {
			s.Groups[0].Endpoints = append(s.Groups[0].Endpoints, Endpoint{Addr: netip.AddrFrom4([4]byte{10, 244, 7, byte(2 + i)}), Hostname: fmt.Sprint("web-", i)})
		}
		slices.Reverse(s.Groups[0].Endpoints)
		return s
	}
	z.SetService(service(1))
	stop := make(chan struct{})
	var looking sync.WaitGroup
	for range 2 {
		looking.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				for _, q := range []dns.Question{
					{Name: "web.a.svc.cluster.local.", Qtype: dns.TypeA}, {Name: "web-0.web.a.svc.cluster.local.", Qtype: dns.TypeA},
					{Name: "2.7.244.10.in-addr.arpa.", Qtype: dns.TypePTR},
				} {
					if m, ok := z.Answer(q); !ok || len(m.Answer) == 0 {
						t.Errorf("%s is gone", q.Name)
						return
					}
				}
				for _, name := range []string{"_tcp.web.a.svc.cluster.local.", "a.svc.cluster.local."} {
					if m, ok := z.Answer(dns.Question{Name: name, Qtype: dns.TypeA}); !ok || m.Rcode != dns.RcodeSuccess {
						t.Errorf("%s is gone", name)
						return
					}
				}
			}
		})
	}
	for i := range 5000 {
		z.SetService(service(1 + i%3))
	}
	close(stop)
	looking.Wait()
}

// BenchmarkChange is one endpoint that comes or goes, and a question, with 10
// and with 10,000 services of 10 endpoints each.
func BenchmarkChange(b *testing.B) {
	for _, kind := range []string{"headless", "clusterip"} {
		for _, n := range []int{10, 10_000} {
			z := Build(servicePlan())
			service := func(i int) Service {
				s := Service{Namespace: "a", Name: fmt.Sprint("web-", i), Headless: kind == "headless"}
				ports := []Port{{Name: "http", Protocol: "TCP", Number: 80}}
				if !s.Headless {
					s.ClusterIPs, s.Ports = []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})}, ports
					return s
				}
				g := Group{Ports: ports}
				for e := range 10 {
					k := i*10 + e
					g.Endpoints = append(g.Endpoints, Endpoint{Addr: netip.AddrFrom4([4]byte{10, byte(k >> 16), byte(k >> 8), byte(k)})})
				}
				s.Groups = []Group{g}
				return s
			}
			for i := range n {
				z.SetService(service(i))
			}
			whole, less := service(7), service(7)
			if less.Headless {
				less.Groups = []Group{{Ports: less.Groups[0].Ports, Endpoints: less.Groups[0].Endpoints[1:]}}
			} else {
				less.ClusterIPs = nil
			}
			b.Run(fmt.Sprintf("%s-%d/change", kind, n), func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					z.SetService([]Service{less, whole}[i%2])
				}
			})
			z.SetService(whole)
			b.Run(fmt.Sprintf("%s-%d/query", kind, n), func(b *testing.B) {
				for b.Loop() {
					if m, ok := z.Answer(dns.Question{Name: "web-7.a.svc.cluster.local.", Qtype: dns.TypeA}); !ok || len(m.Answer) == 0 {
						b.Fatal(m)
					}
				}
			})
		}
	}
}
