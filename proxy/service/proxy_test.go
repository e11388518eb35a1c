package service

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/proxy/nettest"
)

// The address plan of the tests of packets:
//
//	10.244.7.1, fd00:7::1        the host, towards its pods
//	10.244.7.2..4, fd00:7::2..4  pods a, b and c
//	192.0.2.1, fd00:ee::1        the host, towards
//	192.0.2.2, fd00:ee::2        a machine outside, which routes all through the host
//	10.96.0.0/12, fd00:96::/108  cluster IPs
//	203.0.113.7, 2001:db8::7     an external IP
var (
	pods4, pods6 = netip.MustParsePrefix("10.244.7.0/24"), netip.MustParsePrefix("fd00:7::/64")
	external     = map[bool]string{true: "203.0.113.7", false: "2001:db8::7"}
	clusterIP    = map[bool]string{true: "10.96.0.10", false: "fd00:96::10"}
)

type world struct {
	*Proxy
	pod     map[string]string // namespaces
	outside string
}

func podAddr(name string, is4 bool) netip.Addr {
	base := pods6.Addr()
	if is4 {
		base = pods4.Addr()
	}
	for range int(name[0]-'a') + 2 {
		base = base.Next()
	}
	return base
}

// newWorld wires three pods and a machine outside to the host, and a Proxy.
func newWorld(t testing.TB) *world {
	t.Helper()
	nettest.Need(t)
	w := &world{pod: make(map[string]string), outside: nettest.Namespace(t)}
	for _, f := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"} {
		if err := os.WriteFile(f, []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Else the kernel answers a client's first few packets alone.
	for _, f := range []string{"/proc/sys/net/ipv4/icmp_ratelimit", "/proc/sys/net/ipv6/icmp/ratelimit"} {
		if err := os.WriteFile(f, []byte("0"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	gateway4, gateway6 := pods4.Addr().Next(), pods6.Addr().Next()
	for _, name := range []string{"a", "b", "c"} {
		ns := nettest.Namespace(t)
		w.pod[name] = ns
		single := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
		pod4, pod6 := podAddr(name, true), podAddr(name, false)
		nettest.Wire(t, "pod-"+name, ns, []netip.Prefix{single(gateway4), single(gateway6)}, []netip.Prefix{single(pod4), single(pod6)})
		route(t, "", "pod-"+name, single(pod4), single(pod6))
		route(t, ns, "eth0", single(gateway4), single(gateway6))
		nettest.In(t, ns, func() error { return errors.Join(nettest.Default(gateway4), nettest.Default(gateway6)) })
		nettest.Serve(t, ns, name, 8080)
	}
	p := netip.MustParsePrefix
	nettest.Wire(t, "up0", w.outside, []netip.Prefix{p("192.0.2.1/24"), p("fd00:ee::1/64")}, []netip.Prefix{p("192.0.2.2/24"), p("fd00:ee::2/64")})
	nettest.In(t, w.outside, func() error {
		return errors.Join(nettest.Default(netip.MustParseAddr("192.0.2.1")), nettest.Default(netip.MustParseAddr("fd00:ee::1")))
	})
	// Packets of the host are routed before they are translated.
	nettest.In(t, "", func() error {
		return errors.Join(nettest.Default(netip.MustParseAddr("192.0.2.2")), nettest.Default(netip.MustParseAddr("fd00:ee::2")))
	})
	proxy, err := Open(Config{Inside: []netip.Prefix{pods4, pods6}, Local: []netip.Prefix{pods4, pods6}}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	w.Proxy = proxy
	t.Cleanup(func() {
		if err := proxy.Remove(); err != nil {
			t.Error(err)
		}
		proxy.Close()
	})
	return w
}

func route(t testing.TB, ns, device string, to ...netip.Prefix) {
	t.Helper()
	nettest.In(t, ns, func() error {
		for _, p := range to {
			if err := nettest.Route(p, device); err != nil {
				return err
			}
		}
		return nil
	})
}

// front is a service's frontend: cluster IP, external IP or node port.
func front(addr string, protocol v1.Protocol, port uint16) Frontend {
	return Frontend{netip.MustParseAddr(addr), protocol, port}
}

func backends(is4 bool, names string) (list []netip.AddrPort) {
	for _, n := range names {
		list = append(list, netip.AddrPortFrom(podAddr(string(n), is4), 8080))
	}
	return list
}

func (w *world) put(t testing.TB, name string, rules ...Rule) {
	t.Helper()
	if err := w.Apply(map[Key]Wish{{"default", name}: {Rules: rules}}); err != nil {
		t.Fatal(err)
	}
}

// answers asks again and again, and says which pods answered and as whom they
// saw the client.
func answers(t testing.TB, ns, network string, f Frontend) string {
	t.Helper()
	seen := make(map[string]bool)
	for range 24 {
		got := nettest.Ask(t, ns, network, netip.AddrPortFrom(f.Addr, f.Port).String())
		seen[got] = true
		if got == "no answer" {
			break
		}
	}
	var names []string
	for _, n := range []string{"a", "b", "c"} {
		for s := range seen {
			if pod, _, ok := strings.Cut(s, " "); ok && pod == n && s != "no answer" {
				names = append(names, s)
				delete(seen, s)
			}
		}
	}
	for s := range seen {
		names = append(names, s)
	}
	return strings.Join(names, ", ")
}

func TestPacketsGoWhereServicesLead(t *testing.T) {
	w := newWorld(t)
	for _, is4 := range []bool{true, false} {
		host, client, gateway := "192.0.2.1", "192.0.2.2", pods4.Addr().Next().String()
		if !is4 {
			host, client, gateway = "fd00:ee::1", "fd00:ee::2", pods6.Addr().Next().String()
		}
		pod := func(n string) string { return podAddr(n, is4).String() }
		for _, network := range []string{"tcp", "udp"} {
			protocol := v1.Protocol(strings.ToUpper(network))
			cluster := Rule{Frontend: front(clusterIP[is4], protocol, 80), Cluster: true, Backends: backends(is4, "ab"), Source: HideOutside}
			everywhere := Rule{Frontend: front(external[is4], protocol, 80), Backends: backends(is4, "b"), Source: Hide}
			local := Rule{Frontend: front(host, protocol, 30080), Backends: backends(is4, "a"), Inside: backends(is4, "bc"), Source: Keep}
			empty := Rule{Frontend: front(clusterIP[is4], protocol, 81), Cluster: true, Source: HideOutside}
			silent := Rule{Frontend: front(external[is4], protocol, 82), Drop: true}
			sticky := cluster
			sticky.Port, sticky.Affinity = 83, time.Minute
			guarded := everywhere
			guarded.Port, guarded.Allow = 84, []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:1::/48")}
			guarded.Allow = guarded.Allow[six(is4) : six(is4)+1]
			open := guarded
			open.Port, open.Allow = 85, []netip.Prefix{netip.MustParsePrefix(client + map[bool]string{true: "/24", false: "/64"}[is4]).Masked()}
			w.put(t, "all-"+network+family(is4), cluster, everywhere, local, empty, silent, sticky, guarded, open)

			for _, c := range []struct {
				what, from string
				to         Rule
				want       string
			}{
				{"a pod to a cluster IP, itself among others", w.pod["a"], cluster, fmt.Sprintf("a %s, b %s", gateway, pod("a"))},
				{"another pod", w.pod["c"], cluster, fmt.Sprintf("a %s, b %s", pod("c"), pod("c"))},
				{"outside to a cluster IP", w.outside, cluster, fmt.Sprintf("a %s, b %s", gateway, gateway)},
				{"the host", "", cluster, fmt.Sprintf("a %s, b %s", gateway, gateway)},
				{"outside to an external IP", w.outside, everywhere, "b " + gateway},
				{"outside to a node port of this node's pods", w.outside, local, "a " + client},
				{"inside to the same", w.pod["a"], local, fmt.Sprintf("b %s, c %s", pod("a"), pod("a"))},
				{"no endpoint", w.pod["a"], empty, "refused"},
				{"no endpoint, from the host", "", empty, "refused"},
				{"none here", w.outside, silent, "no answer"},
				{"another port of a cluster IP", w.pod["a"], Rule{Frontend: front(clusterIP[is4], protocol, 99)}, "refused"},
				{"a client that may not", w.outside, guarded, "no answer"},
				{"a client that may", w.outside, open, "b " + gateway},
			} {
				if got := answers(t, c.from, network, c.to.Frontend); got != c.want {
					t.Errorf("%s, %v: %s, want %s", c.what, c.to.Frontend, got, c.want)
				}
			}
			first := answers(t, w.pod["c"], network, sticky.Frontend)
			if strings.Contains(first, ",") || strings.Contains(first, "no answer") {
				t.Errorf("with affinity %v: %s", sticky.Frontend, first)
			}
		}
	}
	if text, err := exec.Command("nft", "list", "table", "inet", tableName).CombinedOutput(); err != nil {
		t.Errorf("nft can't list the table: %v %s", err, text)
	}
	if repaired, err := w.Check(); repaired || err != nil {
		t.Error("nobody changed the table:", repaired, err)
	}
}

// sees is which pods answer a frontend that a pod asks.
func (w *world) sees(t *testing.T, f Frontend) string {
	t.Helper()
	var names []string
	for _, part := range strings.Split(answers(t, w.pod["c"], strings.ToLower(string(f.Protocol)), f), ", ") {
		name, _, _ := strings.Cut(part, " ")
		names = append(names, name)
	}
	return strings.Join(names, "")
}

func TestAClientStaysWithItsEndpoint(t *testing.T) {
	w := newWorld(t)
	r := Rule{Frontend: front(clusterIP[true], v1.ProtocolTCP, 80), Cluster: true, Backends: backends(true, "ab"), Source: HideOutside, Affinity: time.Hour}
	w.put(t, "sticky", r)
	first := w.sees(t, r.Frontend)
	if len(first) != 1 {
		t.Fatalf("one client is answered by %q", first)
	}
	other := map[string]string{"a": "b", "b": "a"}[first]
	r.Backends = backends(true, "abc")
	w.put(t, "sticky", r)
	if got := w.sees(t, r.Frontend); got != first {
		t.Errorf("with one endpoint more %s answers, want %s", got, first)
	}
	again, err := Open(w.config, w.log) // as when the daemon starts anew
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Replace(map[Key]Wish{{"default", "sticky"}: {Rules: []Rule{r}}}); err != nil {
		t.Fatal(err)
	}
	if got := w.sees(t, r.Frontend); got != first {
		t.Errorf("after the table was written anew %s answers, want %s", got, first)
	}
	r.Backends = backends(true, other)
	if err := again.Apply(map[Key]Wish{{"default", "sticky"}: {Rules: []Rule{r}}}); err != nil {
		t.Fatal(err)
	}
	if got := w.sees(t, r.Frontend); got != other {
		t.Errorf("without %s %s answers, want %s", first, got, other)
	}
}

func TestConnectionsGoOnAndFlowsDoNot(t *testing.T) {
	w := newWorld(t)
	tcp := Rule{Frontend: front(clusterIP[true], v1.ProtocolTCP, 80), Cluster: true, Backends: backends(true, "a"), Source: HideOutside}
	udp := tcp
	udp.Protocol = v1.ProtocolUDP
	late := Rule{Frontend: front(external[true], v1.ProtocolUDP, 53), Backends: backends(true, "b"), Source: Hide}
	w.put(t, "s", tcp, udp)
	nettest.In(t, w.pod["c"], func() error {
		open, err := net.Dial("tcp", netip.AddrPortFrom(tcp.Addr, tcp.Port).String())
		if err != nil {
			return err
		}
		defer open.Close()
		flow, err := net.Dial("udp", netip.AddrPortFrom(udp.Addr, udp.Port).String())
		if err != nil {
			return err
		}
		defer flow.Close()
		early, err := net.Dial("udp", netip.AddrPortFrom(late.Addr, late.Port).String())
		if err != nil {
			return err
		}
		defer early.Close()
		for _, c := range []net.Conn{open, flow, early} {
			nettest.Again(c)
		}
		tcp.Backends, udp.Backends = backends(true, "b"), backends(true, "b")
		w.put(t, "s", tcp, udp, late)
		if err := w.repair(); err != nil {
			return err
		}
		if err := open.SetDeadline(time.Time{}); err != nil {
			return err
		}
		if _, err := open.Write([]byte("still there\n")); err != nil {
			return err
		}
		if got := nettest.Again(open); got != "still there" {
			t.Errorf("a connection to an endpoint that is none any more: %q", got)
		}
		if got := nettest.Again(flow); !strings.HasPrefix(got, "b ") {
			t.Errorf("a flow goes on to %q, want b", got)
		}
		if got := nettest.Again(early); !strings.HasPrefix(got, "b ") {
			t.Errorf("a flow from before there was a service: %q, want b", got)
		}
		return nil
	})
}

func TestWhatOthersChangeIsRepaired(t *testing.T) {
	w := newWorld(t)
	r := Rule{Frontend: front(clusterIP[true], v1.ProtocolTCP, 80), Cluster: true, Backends: backends(true, "ab"), Source: HideOutside,
		Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	sticky := Rule{Frontend: front(external[false], v1.ProtocolUDP, 80), Backends: backends(false, "ab"), Affinity: time.Minute}
	w.put(t, "s", r, sticky)
	for _, c := range []struct {
		script string
		breaks bool
	}{
		{"add table inet others", false},
		{"delete table inet others", false},
		{"delete table inet shoal-services", true},
		{"flush ruleset", true},
		{"flush chain inet shoal-services prerouting", true},
		{"flush map inet shoal-services endpoints4", true},
		{"delete element inet shoal-services cluster-ips4 { 10.96.0.10 }", true},
		{"add element inet shoal-services refused4 { 10.96.0.10 . tcp . 80 }", true},
		{"flush set inet shoal-services allowed4", true},
	} {
		if out, err := exec.Command("nft", c.script).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v %s", c.script, err, out)
		}
		if repaired, err := w.Check(); err != nil || repaired != c.breaks {
			t.Errorf("%s: repaired %v, want %v (%v)", c.script, repaired, c.breaks, err)
		}
		if got := w.sees(t, r.Frontend); got != "ab" {
			t.Errorf("%s: %s answers", c.script, got)
		}
	}
	// A change on top of what somebody broke.
	if out, err := exec.Command("nft", "flush map inet shoal-services endpoints4").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	r.Backends = backends(true, "b")
	w.put(t, "s", r, sticky)
	if got := w.sees(t, r.Frontend); got != "b" {
		t.Errorf("%s answers, want b", got)
	}
}
