package podroute

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/shoal-project/shoal/proxy/nettest"
)

func init() { runtime.LockOSThread() }

// TestMain runs the tests in a process with a network namespace of its own,
// which plays the wire between hosts.
func TestMain(m *testing.M) { nettest.Main(m) }

// machine is a host on the wire. Its pod is an address on its loopback.
type machine struct {
	*Router
	site Site
	ns   string
	key  wgtypes.Key
}

// machines are hosts 1 to n, as in the address plan of plan_test.go.
func machines(t *testing.T, n int, backends ...Backend) []*machine {
	t.Helper()
	nettest.Need(t)
	wire := &netlink.Bridge{LinkAttrs: named("wire")}
	if err := errors.Join(netlink.LinkAdd(wire), netlink.LinkSetUp(wire)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(wire) })
	var list []*machine
	for i := 1; i <= n; i++ {
		m := &machine{site: site(fmt.Sprint("n", i), fmt.Sprint(i), backends...)}
		m.boot(t, i, wire)
		list = append(list, m)
	}
	return list
}

func (m *machine) boot(t *testing.T, i int, wire netlink.Link) {
	t.Helper()
	var err error
	if m.key, err = wgtypes.GeneratePrivateKey(); err != nil {
		t.Fatal(err)
	}
	m.site.WireGuardKey = m.key.PublicKey().String()
	m.ns = nettest.Namespace(t)
	var there, own []netip.Prefix
	for _, a := range m.site.Addresses {
		bits := 24
		if a.Is6() {
			bits = 64
		}
		there = append(there, netip.PrefixFrom(a, bits))
	}
	for _, c := range m.site.CIDRs {
		for _, a := range []netip.Addr{gateway(c), m.pod(c)} {
			own = append(own, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	port := fmt.Sprint("port", i)
	nettest.Wire(t, port, m.ns, nil, there)
	if err := netlink.LinkSetMaster(&netlink.Veth{LinkAttrs: named(port)}, wire); err != nil {
		t.Fatal(err)
	}
	m.in(t, func() error {
		if err := nettest.Up("lo", own...); err != nil {
			return err
		}
		m.Router, err = Open(slog.New(slog.NewTextHandler(t.Output(), nil)))
		return err
	})
	t.Cleanup(m.Close)
}

func (m *machine) pod(c netip.Prefix) netip.Addr { return gateway(c).Next() }

func (m *machine) in(t *testing.T, do func() error) {
	t.Helper()
	nettest.In(t, m.ns, do)
}

// know has every machine know all sites.
func know(t *testing.T, list []*machine) {
	t.Helper()
	var sites []Site
	for _, m := range list {
		sites = append(sites, m.site)
	}
	for _, m := range list {
		p := Decide(m.site, sites, lan)
		if len(p.Problems) > 0 {
			t.Fatal(p.Problems)
		}
		if err := m.Apply(p, m.key, m.site.WireGuardPort); err != nil {
			t.Fatal(err)
		}
	}
}

// serve answers each connection with the address that it came from, and echoes.
func (m *machine) serve(t *testing.T) {
	t.Helper()
	m.in(t, func() error {
		l, err := net.Listen("tcp", ":80")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					from := netip.MustParseAddrPort(c.RemoteAddr().String()).Addr().Unmap()
					fmt.Fprintln(c, from)
					_, _ = io.Copy(c, c)
				}()
			}
		}()
		return nil
	})
}

// ask connects from an address of m (none: the kernel's choice) and gives the answer.
func (m *machine) ask(t *testing.T, from, to netip.Addr) string {
	return m.askFor(t, from, to, 10*time.Second)
}

func (m *machine) askFor(t *testing.T, from, to netip.Addr, patience time.Duration) string {
	t.Helper()
	var got string
	m.in(t, func() error {
		d := net.Dialer{Timeout: patience}
		if from.IsValid() {
			d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
		}
		c, err := d.Dial("tcp", netip.AddrPortFrom(to, 80).String())
		if err != nil {
			got = err.Error()
			return nil
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 100)
		n, err := c.Read(b)
		got = strings.TrimSpace(string(b[:n]))
		if err != nil {
			got = err.Error()
		}
		return nil
	})
	return got
}

// meet has the pods and the hosts of all machines reach the pods of all others.
func meet(t *testing.T, list []*machine, families int) {
	t.Helper()
	for _, a := range list {
		for _, b := range list {
			for i := range families {
				if a == b {
					continue
				}
				from, to := a.pod(a.site.CIDRs[i]), b.pod(b.site.CIDRs[i])
				if got := a.ask(t, from, to); got != from.String() {
					t.Errorf("pod %v to pod %v: %s", from, to, got)
				}
				if got := a.ask(t, netip.Addr{}, to); got == "" || strings.Contains(got, "dial") {
					t.Errorf("host %s to pod %v: %s", a.site.Node, to, got)
				}
			}
		}
	}
}

func TestVXLANLeadsToEachPodWithItsOwnAddress(t *testing.T) {
	list := machines(t, 3, VXLAN)
	know(t, list)
	for _, m := range list {
		m.serve(t)
	}
	meet(t, list, 2)
}

func TestHostGWLeadsToEachPodWithItsOwnAddress(t *testing.T) {
	list := machines(t, 3, HostGW)
	know(t, list)
	for _, m := range list {
		m.serve(t)
	}
	meet(t, list, 1)
}

func TestWireGuardLeadsToEachPodWithItsOwnAddress(t *testing.T) {
	list := machines(t, 3, WireGuard)
	if err := list[0].Offers(WireGuard); err != nil {
		t.Skip("this kernel has no WireGuard:", err)
	}
	know(t, list)
	for _, m := range list {
		m.serve(t)
	}
	meet(t, list, 2)
	stream := list[0].open(t, list[1])
	var err error
	if list[1].key, err = wgtypes.GeneratePrivateKey(); err != nil { // rotated
		t.Fatal(err)
	}
	list[1].site.WireGuardKey = list[1].key.PublicKey().String()
	know(t, list)
	stream.echo(t)
	meet(t, list, 2)
}

// stream is an open connection.
type stream struct{ net.Conn }

func (m *machine) open(t *testing.T, to *machine) stream {
	t.Helper()
	var s stream
	m.in(t, func() (err error) {
		d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: m.pod(m.site.CIDRs[0]).AsSlice()}}
		s.Conn, err = d.Dial("tcp", netip.AddrPortFrom(to.pod(to.site.CIDRs[0]), 80).String())
		return err
	})
	t.Cleanup(func() { s.Close() })
	b := make([]byte, 100)
	if _, err := s.Read(b); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s stream) echo(t *testing.T) {
	t.Helper()
	_ = s.SetDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 100)
	if _, err := s.Write([]byte("still there")); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Read(b); err != nil || string(b[:n]) != "still there" {
		t.Fatalf("the open connection: %q %v", b[:n], err)
	}
}

func TestANewRouterFindsRepairsAndRemovesWhatAnEarlierOneMade(t *testing.T) {
	list := machines(t, 3, VXLAN)
	know(t, list)
	list[1].serve(t)
	s := list[0].open(t, list[1])
	a := list[0]
	again := func() { // a daemon that was killed comes back
		a.Close()
		a.in(t, func() (err error) {
			a.Router, err = Open(slog.New(slog.NewTextHandler(t.Output(), nil)))
			return err
		})
	}
	index := a.index(t)
	again()
	know(t, list)
	s.echo(t)
	if a.index(t) != index {
		t.Error("the device was made anew")
	}
	a.run(t, "ip", "route", "flush", "proto", "83")
	a.run(t, "ip", "neigh", "flush", "nud", "permanent", "dev", VXLANDevice)
	a.run(t, "bridge", "fdb", "flush", "dev", VXLANDevice)
	know(t, list)
	s.echo(t)

	// A node that is forgotten, then all of them.
	again()
	know(t, list[:2])
	if got := a.run(t, "ip", "-o", "route", "show", "proto", "83"); strings.Contains(got, "10.244.3.") || !strings.Contains(got, "10.244.2.0/24") {
		t.Errorf("routes without n3: %s", got)
	}
	if got := a.run(t, "bridge", "fdb", "show", "dev", VXLANDevice) + a.run(t, "ip", "neigh", "show", "dev", VXLANDevice); strings.Contains(got, "192.0.2.3") || strings.Contains(got, "10.244.3.1") {
		t.Errorf("entries without n3: %s", got)
	}
	s.echo(t)
	if err := a.Remove(); err != nil {
		t.Fatal(err)
	}
	if got := a.run(t, "ip", "-o", "route", "show", "proto", "83") + a.run(t, "ip", "-o", "-6", "route", "show", "proto", "83"); got != "" {
		t.Errorf("routes are left: %s", got)
	}
	if got := a.run(t, "ip", "-o", "link"); strings.Contains(got, "shoal-") {
		t.Errorf("devices are left: %s", got)
	}
}

func TestAnAddressThatChangesIsFollowed(t *testing.T) {
	list := machines(t, 2, VXLAN)
	know(t, list)
	list[1].serve(t)
	list[1].run(t, "ip", "addr", "del", "192.0.2.2/24", "dev", "eth0")
	list[1].run(t, "ip", "addr", "add", "192.0.2.77/24", "dev", "eth0")
	list[1].site.Addresses = addrs("192.0.2.77", "fd00:ee::2")
	know(t, list)
	if got := list[0].ask(t, list[0].pod(list[0].site.CIDRs[0]), list[1].pod(list[1].site.CIDRs[0])); got != "10.244.1.2" {
		t.Error(got)
	}
}

func (m *machine) run(t *testing.T, name string, args ...string) (out string) {
	t.Helper()
	m.in(t, func() error {
		b, err := exec.Command(name, args...).CombinedOutput()
		out = string(b)
		if err != nil {
			return fmt.Errorf("%s %v: %w: %s", name, args, err, b)
		}
		return nil
	})
	return out
}

func (m *machine) index(t *testing.T) int {
	t.Helper()
	link, err := m.host.LinkByName(VXLANDevice)
	if err != nil {
		t.Fatal(err)
	}
	return link.Attrs().Index
}
