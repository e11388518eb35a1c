package podnet

import (
	"flag"
	"log/slog"
	"net/netip"
	"runtime"
	"testing"

	"github.com/shoal-project/shoal/proxy/nettest"
)

var update = flag.Bool("update", false, "rewrite golden files")

// The main thread must keep the host's namespace: unlike others it cannot end
// with a goroutine that has changed its own, and /proc/self means it.
func init() { runtime.LockOSThread() }

// TestMain runs the tests in a process with its own network namespace, which
// plays the host.
func TestMain(m *testing.M) { nettest.Main(m) }

// The address plan of all tests:
//
//	10.244.7.0/24, fd00:7::/64   pods
//	192.0.2.1, fd00:ee::1        the host, towards
//	192.0.2.2, fd00:ee::2        a machine outside, which has no route to pods
var (
	cidr4    = netip.MustParsePrefix("10.244.7.0/24")
	cidr6    = netip.MustParsePrefix("fd00:7::/64")
	hostIP   = netip.MustParseAddr("192.0.2.1")
	hostIP6  = netip.MustParseAddr("fd00:ee::1")
	outside  = netip.MustParseAddr("192.0.2.2")
	outside6 = netip.MustParseAddr("fd00:ee::2")
)

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// host gives a fresh host namespace's worth of state: lo up, an uplink to a
// machine outside, and the network opened with cfg.
type host struct {
	*Network
	cfg     Config
	outside string
}

func newHost(t testing.TB, change func(*Config)) *host {
	t.Helper()
	nettest.Need(t)
	h := &host{outside: nettest.Namespace(t), cfg: Config{PodCIDRs: []netip.Prefix{cidr4, cidr6}, Dir: t.TempDir()}}
	if change != nil {
		change(&h.cfg)
	}
	uplink(t, h.outside)
	h.open(t)
	t.Cleanup(func() {
		if err := h.Remove(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return h
}

func (h *host) open(t testing.TB) {
	t.Helper()
	n, err := Open(h.cfg, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	h.Network = n
}

// attach gives a pod with a namespace of its own.
func (h *host) attach(t testing.TB, name string, ports ...HostPort) (ns string, addrs []netip.Addr) {
	t.Helper()
	ns = nettest.Namespace(t)
	addrs, err := h.Attach(t.Context(), pod(name), ns, ports)
	if err != nil {
		t.Fatal(err)
	}
	return ns, addrs
}

func pod(name string) PodRef { return PodRef{UID: "uid-" + name, Namespace: "default", Name: name} }

// uplink joins the host and the machine outside.
func uplink(t testing.TB, ns string) {
	t.Helper()
	plan := func(list ...netip.Addr) (prefixes []netip.Prefix) {
		for _, a := range list {
			prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()-8))
		}
		return prefixes
	}
	nettest.Wire(t, "up0", ns, plan(hostIP, hostIP6), plan(outside, outside6))
}

func hostPort(addr netip.Addr, port uint16) string { return netip.AddrPortFrom(addr, port).String() }
