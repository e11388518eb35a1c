package podnet

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/proxy/nettest"
)

func want(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func runNFT(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestPodsReachEachOtherWithTheirOwnAddresses(t *testing.T) {
	h := newHost(t, nil)
	a, aIP := h.attach(t, "a")
	b, bIP := h.attach(t, "b")
	nettest.Serve(t, b, "b", 80)
	for i := range 2 {
		want(t, "pod to pod", nettest.Ask(t, a, "tcp", hostPort(bIP[i], 80)), "b "+aIP[i].String())
		want(t, "pod to pod, udp", nettest.Ask(t, a, "udp", hostPort(bIP[i], 80)), "b "+aIP[i].String())
		want(t, "host to pod", nettest.Ask(t, "", "tcp", hostPort(bIP[i], 80)), "b "+h.Gateway()[i].String())
		want(t, "pod to itself", nettest.Ask(t, b, "tcp", hostPort(bIP[i], 80)), "b "+bIP[i].String())
	}
	want(t, "loopback", nettest.Ask(t, b, "tcp", "127.0.0.1:80"), "b 127.0.0.1")
	nettest.Serve(t, "", "host", 81)
	want(t, "pod to host", nettest.Ask(t, a, "tcp", hostPort(hostIP, 81)), "host "+aIP[0].String())
	want(t, "pod to gateway", nettest.Ask(t, a, "tcp", hostPort(h.Gateway()[1], 81)), "host "+aIP[1].String())
}

func TestOutboundTrafficTakesTheHostsAddressExceptToNonMasquerade(t *testing.T) {
	h := newHost(t, func(c *Config) {
		c.NonMasquerade = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	})
	a, aIP := h.attach(t, "a")
	nettest.Serve(t, h.outside, "outside", 80)
	want(t, "v4", nettest.Ask(t, a, "tcp", hostPort(outside, 80)), "outside "+hostIP.String())
	want(t, "v6", nettest.Ask(t, a, "tcp", hostPort(outside6, 80)), "outside "+hostIP6.String())
	want(t, "udp", nettest.Ask(t, a, "udp", hostPort(outside, 80)), "outside "+hostIP.String())

	special := netip.MustParseAddr("198.51.100.9")
	run(t, "ip", "route", "add", "198.51.100.0/24", "via", outside.String())
	nettest.In(t, h.outside, func() error {
		link, err := netlink.LinkByName("eth0")
		return errors.Join(err, netlink.AddrAdd(link, deviceAddr(single(special))),
			netlink.RouteAdd(&netlink.Route{Dst: ipNet(cidr4), Gw: hostIP.AsSlice()}))
	})
	want(t, "not masqueraded", nettest.Ask(t, a, "tcp", hostPort(special, 80)), "outside "+aIP[0].String())
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestHostPortFromOutsideHostPodsAndThePodItself(t *testing.T) {
	h := newHost(t, nil)
	web, webIP := h.attach(t, "web",
		HostPort{HostPort: 8080, ContainerPort: 80, Protocol: TCP},
		HostPort{HostPort: 8080, ContainerPort: 80, Protocol: UDP},
		HostPort{HostPort: 53, ContainerPort: 80, Protocol: TCP})
	nettest.Serve(t, web, "web", 80)
	other, otherIP := h.attach(t, "other")
	gw := h.Gateway()
	for _, network := range []string{"tcp", "udp"} {
		want(t, "outside v4 "+network, nettest.Ask(t, h.outside, network, hostPort(hostIP, 8080)), "web "+outside.String())
		want(t, "outside v6 "+network, nettest.Ask(t, h.outside, network, hostPort(hostIP6, 8080)), "web "+outside6.String())
		want(t, "host by its address "+network, nettest.Ask(t, "", network, hostPort(hostIP, 8080)), "web "+hostIP.String())
		want(t, "host by localhost "+network, nettest.Ask(t, "", network, "127.0.0.1:8080"), "web "+gw[0].String())
		want(t, "other pod "+network, nettest.Ask(t, other, network, hostPort(hostIP, 8080)), "web "+otherIP[0].String())
		want(t, "other pod v6 "+network, nettest.Ask(t, other, network, hostPort(hostIP6, 8080)), "web "+otherIP[1].String())
		want(t, "the pod itself "+network, nettest.Ask(t, web, network, hostPort(hostIP, 8080)), "web "+gw[0].String())
		want(t, "the pod itself v6 "+network, nettest.Ask(t, web, network, hostPort(hostIP6, 8080)), "web "+gw[1].String())
	}
	want(t, "the bridge's address is no host port", nettest.Ask(t, other, "tcp", hostPort(gw[0], 53)), "refused")
	want(t, "other ports", nettest.Ask(t, h.outside, "tcp", hostPort(hostIP, 8081)), "refused")

	if err := h.Detach(t.Context(), pod("web").UID); err != nil {
		t.Fatal(err)
	}
	want(t, "after detach", nettest.Ask(t, h.outside, "tcp", hostPort(hostIP, 8080)), "refused")
	_ = webIP
}

func TestHostPortBoundToOneHostAddress(t *testing.T) {
	h := newHost(t, nil)
	run(t, "ip", "addr", "add", "192.0.2.7/24", "dev", "up0")
	web, _ := h.attach(t, "web",
		HostPort{HostIP: hostIP, HostPort: 8080, ContainerPort: 80, Protocol: TCP},
		HostPort{HostIP: hostIP6, HostPort: 8080, ContainerPort: 80, Protocol: TCP},
		HostPort{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 9090, ContainerPort: 80, Protocol: TCP})
	nettest.Serve(t, web, "web", 80)
	want(t, "bound", nettest.Ask(t, h.outside, "tcp", hostPort(hostIP, 8080)), "web "+outside.String())
	want(t, "bound v6", nettest.Ask(t, h.outside, "tcp", hostPort(hostIP6, 8080)), "web "+outside6.String())
	want(t, "another address", nettest.Ask(t, h.outside, "tcp", "192.0.2.7:8080"), "refused")
	want(t, "localhost", nettest.Ask(t, "", "tcp", "127.0.0.1:8080"), "refused")
	want(t, "bound to localhost", nettest.Ask(t, "", "tcp", "127.0.0.1:9090"), "web "+h.Gateway()[0].String())
	want(t, "bound to localhost, from outside", nettest.Ask(t, h.outside, "tcp", hostPort(hostIP, 9090)), "refused")
}

func TestAPodCannotReachTheHostsLoopbackNorForgeAddresses(t *testing.T) {
	h := newHost(t, nil)
	a, _ := h.attach(t, "a", HostPort{HostPort: 8080, ContainerPort: 80, Protocol: TCP})
	want(t, "route_localnet", sysctl(t, "ipv4/conf/shoal0/route_localnet"), "1")
	nettest.Serve(t, "", "host", 81)
	gw := h.Gateway()[0].String()
	nettest.In(t, a, func() error {
		link, err := netlink.LinkByName(podDevice)
		return errors.Join(err,
			os.WriteFile("/proc/sys/net/ipv4/conf/all/route_localnet", []byte("1"), 0o644),
			netlink.RouteDel(&netlink.Route{Dst: ipNet(loopback4), Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST, LinkIndex: 1}),
			netlink.AddrDel(loopbackLink(), &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(127, 0, 0, 1).To4(), Mask: net.CIDRMask(8, 32)}}),
			netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(loopback4), Gw: net.ParseIP(gw)}),
			netlink.AddrAdd(link, deviceAddr(netip.MustParsePrefix("192.0.2.99/32"))))
	})
	want(t, "host's loopback", nettest.Ask(t, a, "tcp", "127.0.0.1:81"), "no answer")
	run(t, "ip", "route", "add", "192.0.2.99", "dev", "shoal0") // so that only our rule stands in the way
	got := ""
	nettest.In(t, a, func() error {
		d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP("192.0.2.99")}}
		c, err := d.Dial("tcp", hostPort(hostIP, 81))
		if err != nil {
			got = nettest.Failure(err)
			return nil
		}
		return c.Close()
	})
	want(t, "forged source", got, "no answer")

	if err := h.Detach(t.Context(), pod("a").UID); err != nil {
		t.Fatal(err)
	}
	want(t, "route_localnet without host ports", sysctl(t, "ipv4/conf/shoal0/route_localnet"), "0")
}

func loopbackLink() netlink.Link {
	l, err := netlink.LinkByName("lo")
	if err != nil {
		panic(err)
	}
	return l
}

func sysctl(t testing.TB, key string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(procNet, key))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestATakenHostPortNamesItsHolder(t *testing.T) {
	h := newHost(t, nil)
	h.attach(t, "first", HostPort{HostPort: 8080, ContainerPort: 80, Protocol: TCP})
	_, err := h.Attach(t.Context(), pod("second"), nettest.Namespace(t), []HostPort{{HostIP: hostIP, HostPort: 8080, ContainerPort: 1, Protocol: TCP}})
	var taken *PortTakenError
	if !errors.As(err, &taken) || taken.Holder != pod("first") {
		t.Fatalf("got %v", err)
	}
	want(t, "message", err.Error(), "attach pod default/second: host port 192.0.2.1:8080/TCP is taken by pod default/first")
	if _, held := h.ledger.Pods[pod("second").UID]; held {
		t.Error("the refused pod holds something")
	}
	h.attach(t, "third", HostPort{HostPort: 8080, ContainerPort: 80, Protocol: UDP})
}

func TestFiftyPodsAtOnceGetFiftyAddresses(t *testing.T) {
	h := newHost(t, nil)
	const pods = 50
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[netip.Addr]string{}
	spaces := make([]string, pods)
	for i := range pods {
		spaces[i] = nettest.Namespace(t)
	}
	start := time.Now()
	for i := range pods {
		wg.Go(func() {
			name := fmt.Sprint("pod", i)
			addrs, err := h.Attach(t.Context(), pod(name), spaces[i], []HostPort{{HostPort: uint16(9000 + i), ContainerPort: 80, Protocol: TCP}})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, a := range addrs {
				if seen[a] != "" {
					t.Errorf("%s and %s both got %v", seen[a], name, a)
				}
				seen[a] = name
			}
		})
	}
	wg.Wait()
	t.Logf("%d pods attached in %v", pods, time.Since(start))
	if len(seen) != 2*pods {
		t.Errorf("%d addresses, want %d", len(seen), 2*pods)
	}
	for i := range pods {
		name := fmt.Sprint("pod", i)
		nettest.Serve(t, spaces[i], name, 80)
		want(t, name, nettest.Ask(t, h.outside, "tcp", hostPort(hostIP, uint16(9000+i))), name+" "+outside.String())
	}
}

// openStream gives a function that tells whether a TCP connection made at the
// start still carries bytes.
func openStream(t testing.TB, ns, addr string) (alive func() error) {
	t.Helper()
	var c net.Conn
	nettest.In(t, ns, func() (err error) {
		c, err = net.DialTimeout("tcp", addr, 2*time.Second)
		return err
	})
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 100)
	if _, err := c.Read(b); err != nil {
		t.Fatal(err)
	}
	return func() error {
		if _, err := c.Write([]byte("ping")); err != nil {
			return err
		}
		n, err := c.Read(b)
		if err == nil && string(b[:n]) != "ping" {
			err = fmt.Errorf("got %q", b[:n])
		}
		return err
	}
}

func TestADaemonsRestartIsNotNoticed(t *testing.T) {
	h := newHost(t, nil)
	port := HostPort{HostPort: 8080, ContainerPort: 80, Protocol: TCP}
	web, before := h.attach(t, "web", port)
	nettest.Serve(t, web, "web", 80)
	a, _ := h.attach(t, "a")
	viaPort := openStream(t, h.outside, hostPort(hostIP, 8080))
	direct := openStream(t, a, hostPort(before[1], 80))
	if _, err := Open(h.cfg, testLog(t)); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatalf("a second daemon: got %v", err)
	}
	h.Close()
	h.open(t)
	if err := errors.Join(viaPort(), direct()); err != nil {
		t.Error("streams over the restart:", err)
	}
	after, err := h.Attach(t.Context(), pod("web"), web, []HostPort{port})
	if err != nil || !slices.Equal(after, before) {
		t.Errorf("addresses after the restart: got %v %v, want %v", after, err, before)
	}
	if err := errors.Join(viaPort(), direct()); err != nil {
		t.Error("streams over the second attach:", err)
	}
	_, next := h.attach(t, "new")
	if slices.Contains(before, next[0]) {
		t.Errorf("%v given twice", next[0])
	}
	want(t, "host port", nettest.Ask(t, h.outside, "tcp", hostPort(hostIP, 8080)), "web "+outside.String())
}

func TestALostOrDamagedLedgerIsRebuiltFromTheDevices(t *testing.T) {
	for name, damage := range map[string]func(file string) error{
		"lost":    os.Remove,
		"damaged": func(file string) error { return os.WriteFile(file, []byte(`{"Version":1,"Po`), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, nil)
			ns, before := h.attach(t, "web")
			h.Close()
			if err := damage(ledgerFile(h.cfg.Dir)); err != nil {
				t.Fatal(err)
			}
			h.open(t)
			if _, other := h.attach(t, "other"); slices.Contains(before, other[0]) {
				t.Errorf("%v given twice", other[0])
			}
			after, err := h.Attach(t.Context(), pod("web"), ns, nil)
			if err != nil || !slices.Equal(after, before) {
				t.Errorf("got %v %v, want %v", after, err, before)
			}
		})
	}
}

func TestAFlushByHandIsRepaired(t *testing.T) {
	for name, flush := range map[string][]string{
		"ruleset":  {"flush", "ruleset"},
		"table":    {"flush", "table", "inet", "shoal"},
		"one map":  {"flush", "map", "inet", "shoal", "any4"},
		"one rule": {"flush", "chain", "inet", "shoal", "guard"},
		"dormant":  {"add", "table", "inet", "shoal", "{ flags dormant; }"},
		"one more": {"insert", "rule", "inet", "shoal", "prerouting", "return"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, nil)
			web, _ := h.attach(t, "web", HostPort{HostPort: 8080, ContainerPort: 80, Protocol: TCP})
			nettest.Serve(t, web, "web", 80)
			before := runNFT(t, "list", "table", "inet", "shoal")
			stream := openStream(t, h.outside, hostPort(hostIP, 8080))
			runNFT(t, flush...)
			if _, err := h.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			want(t, "table", runNFT(t, "list", "table", "inet", "shoal"), before)
			want(t, "host port", nettest.Ask(t, h.outside, "tcp", hostPort(hostIP, 8080)), "web "+outside.String())
			if err := stream(); err != nil {
				t.Error("open stream:", err)
			}
		})
	}
}

func TestTablesOfOthersAreNotTouched(t *testing.T) {
	h := newHost(t, nil)
	runNFT(t, "add table inet theirs; add chain inet theirs c { type filter hook forward priority 5; }; add rule inet theirs c counter")
	t.Cleanup(func() { runNFT(t, "delete", "table", "inet", "theirs") })
	before := runNFT(t, "-a", "list", "table", "inet", "theirs")
	gen := h.table.gen
	h.attach(t, "web", HostPort{HostPort: 8080, ContainerPort: 80, Protocol: TCP})
	if _, err := h.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, "their table", runNFT(t, "-a", "list", "table", "inet", "theirs"), before)
	if h.table.gen == gen {
		t.Error("generation did not move; the check compares nothing")
	}
}

func TestABridgeDeletedByHandIsRepaired(t *testing.T) {
	h := newHost(t, nil)
	web, webIP := h.attach(t, "web")
	nettest.Serve(t, web, "web", 80)
	run(t, "ip", "link", "del", "shoal0")
	if _, err := h.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		want(t, "host to pod", nettest.Ask(t, "", "tcp", hostPort(webIP[i], 80)), "web "+h.Gateway()[i].String())
	}
	run(t, "ip", "link", "del", vethName(pod("web").UID))
	broken, err := h.Check(t.Context())
	if err != nil || !slices.Equal(broken, []string{pod("web").UID}) {
		t.Errorf("a veth deleted by hand: got %v %v", broken, err)
	}
	if after, err := h.Attach(t.Context(), pod("web"), web, nil); err != nil || !slices.Equal(after, webIP) {
		t.Errorf("attach repairs it: got %v %v, want %v", after, err, webIP)
	}
	want(t, "host to pod", nettest.Ask(t, "", "tcp", hostPort(webIP[0], 80)), "web "+h.Gateway()[0].String())
}

func TestSweepRemovesWhatBelongsToNobody(t *testing.T) {
	h := newHost(t, nil)
	keep, keepIP := h.attach(t, "keep")
	nettest.Serve(t, keep, "keep", 80)
	_, goneIP := h.attach(t, "gone", HostPort{HostPort: 8080, ContainerPort: 80, Protocol: TCP})
	stray := vethName("uid-stray")
	run(t, "ip", "link", "add", stray, "type", "veth", "peer", "name", "x1")
	run(t, "ip", "neigh", "add", "10.244.7.200", "lladdr", "0a:58:00:00:00:01", "dev", "shoal0", "nud", "permanent")
	run(t, "ip", "link", "add", "shoalnotours", "type", "veth", "peer", "name", "x2")
	t.Cleanup(func() { run(t, "ip", "link", "del", "shoalnotours") })
	got, err := h.Sweep(t.Context(), map[string]bool{pod("keep").UID: true})
	wanted := []string{"pod uid-gone", "veth " + stray, "neighbour 10.244.7.200"}
	if err != nil || !slices.Equal(got, wanted) {
		t.Errorf("got %q %v, want %q", got, err, wanted)
	}
	want(t, "kept pod", nettest.Ask(t, "", "tcp", hostPort(keepIP[0], 80)), "keep "+h.Gateway()[0].String())
	want(t, "host port", nettest.Ask(t, h.outside, "tcp", hostPort(hostIP, 8080)), "refused")
	if out := run(t, "ip", "neigh", "show", "dev", "shoal0", "nud", "permanent"); strings.Contains(out, goneIP[0].String()+" ") {
		t.Error("neighbour left:", out)
	}
	if got, err := h.Sweep(t.Context(), map[string]bool{pod("keep").UID: true}); err != nil || len(got) != 0 {
		t.Errorf("second sweep: got %q %v", got, err)
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	h := newHost(t, nil)
	h.attach(t, "web", HostPort{HostPort: 8080, ContainerPort: 80, Protocol: TCP})
	if err := h.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(t, "tables", runNFT(t, "list", "tables"), "")
	if out := run(t, "ip", "-o", "link"); strings.Contains(out, "shoal") {
		t.Error(out)
	}
	if _, err := os.Stat(h.cfg.Dir); !os.IsNotExist(err) {
		t.Error("directory is left:", err)
	}
	h.open(t) // for the cleanup
}

func TestAFailedAttachHoldsNothing(t *testing.T) {
	h := newHost(t, nil)
	for name, path := range map[string]string{"no such file": "/nonexistent", "the host's own": "/proc/self/ns/net", "no namespace": "/etc/hostname"} {
		if addrs, err := h.Attach(t.Context(), pod("bad"), path, []HostPort{{HostPort: 1, ContainerPort: 1, Protocol: TCP}}); err == nil {
			t.Errorf("%s: got %v", name, addrs)
		}
	}
	if len(h.ledger.Pods) != 0 {
		t.Error("held:", slices.Collect(maps.Keys(h.ledger.Pods)))
	}
	if out := run(t, "ip", "-o", "link", "show", "type", "veth"); strings.Contains(out, "shoal") {
		t.Error(out)
	}
}

func TestAPodThatSendsUDPAllTheTimeFollowsTheHostPort(t *testing.T) {
	h := newHost(t, nil)
	port := HostPort{HostPort: 8080, ContainerPort: 80, Protocol: UDP}
	var c net.Conn
	nettest.In(t, h.outside, func() (err error) {
		c, err = net.Dial("udp", hostPort(hostIP, 8080))
		return err
	})
	defer c.Close()
	// Several answers may be on their way, so earlier names are read past.
	say := func(name string) (got string) {
		b := make([]byte, 100)
		got = "no answer"
		for deadline := time.Now().Add(3 * time.Second); got != name && time.Now().Before(deadline); {
			c.Write([]byte("?"))
			c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if n, err := c.Read(b); err == nil {
				got = strings.Fields(string(b[:n]))[0]
			}
		}
		return got
	}
	c.Write([]byte("?")) // a flow begins before there is a pod
	for _, name := range []string{"first", "second"} {
		ns, _ := h.attach(t, name, port)
		nettest.Serve(t, ns, name, 80)
		want(t, "answer", say(name), name)
		if err := h.Detach(t.Context(), pod(name).UID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOnlyIPv4(t *testing.T) {
	h := newHost(t, func(c *Config) { c.PodCIDRs = c.PodCIDRs[:1] })
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("0"), 0o644) })
	web, ip := h.attach(t, "web", HostPort{HostPort: 8080, ContainerPort: 80, Protocol: TCP})
	nettest.Serve(t, web, "web", 80)
	if len(ip) != 1 {
		t.Fatal(ip)
	}
	want(t, "host port", nettest.Ask(t, h.outside, "tcp", hostPort(hostIP, 8080)), "web "+outside.String())
}

func TestOnlyIPv6(t *testing.T) {
	h := newHost(t, func(c *Config) { c.PodCIDRs = c.PodCIDRs[1:] })
	web, ip := h.attach(t, "web", HostPort{HostPort: 8080, ContainerPort: 80, Protocol: TCP})
	nettest.Serve(t, web, "web", 80)
	other, otherIP := h.attach(t, "other")
	want(t, "pod to pod", nettest.Ask(t, other, "tcp", hostPort(ip[0], 80)), "web "+otherIP[0].String())
	want(t, "host port", nettest.Ask(t, h.outside, "tcp", hostPort(hostIP6, 8080)), "web "+outside6.String())
}

func TestTheMTUIsTheUplinks(t *testing.T) {
	nettest.Need(t)
	out := nettest.Namespace(t)
	uplink(t, out)
	run(t, "ip", "link", "set", "up0", "mtu", "1400")
	run(t, "ip", "route", "add", "default", "via", outside.String())
	h := &host{cfg: Config{PodCIDRs: []netip.Prefix{cidr4}, Dir: t.TempDir()}}
	h.open(t)
	defer h.Remove(t.Context())
	ns, _ := h.attach(t, "a")
	nettest.In(t, ns, func() error {
		link, err := netlink.LinkByName(podDevice)
		if err == nil && link.Attrs().MTU != 1400 {
			t.Errorf("got %d, want 1400", link.Attrs().MTU)
		}
		return err
	})
}
