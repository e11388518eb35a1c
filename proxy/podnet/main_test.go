package podnet

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite golden files")

// inside marks the process that has network and mount namespaces of its own.
const inside = "PODNET_TEST_INSIDE"

// The main thread must keep the host's namespace: unlike others it cannot end
// with a goroutine that has changed its own, and /proc/self means it.
func init() { runtime.LockOSThread() }

// TestMain runs the tests in a process with its own network namespace, which
// plays the host. The kernel takes everything down when that process ends.
func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit):
		os.Exit(max(exit.ExitCode(), 1))
	}
	fmt.Fprintln(os.Stderr, "cannot make a network namespace, tests of the kernel skip:", err)
	os.Exit(m.Run())
}

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

func needNamespace(t testing.TB) {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("needs root and a network namespace of its own")
	}
}

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
	needNamespace(t)
	h := &host{outside: newNamespace(t), cfg: Config{PodCIDRs: []netip.Prefix{cidr4, cidr6}, Dir: t.TempDir()}}
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
	ns = newNamespace(t)
	addrs, err := h.Attach(t.Context(), pod(name), ns, ports)
	if err != nil {
		t.Fatal(err)
	}
	return ns, addrs
}

func pod(name string) PodRef { return PodRef{UID: "uid-" + name, Namespace: "default", Name: name} }

// newNamespace gives the path of a new network namespace, which lives as long
// as the test.
func newNamespace(t testing.TB) string {
	t.Helper()
	var f *os.File
	onThread(t, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		var err error
		f, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		return err
	})
	t.Cleanup(func() { f.Close() })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
}

// in runs do in a network namespace.
func in(t testing.TB, ns string, do func() error) {
	t.Helper()
	onThread(t, func() error {
		f, err := os.Open(ns)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return do()
	})
}

// onThread runs do on a thread that ends with it.
func onThread(t testing.TB, do func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- do()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func uplink(t testing.TB, ns string) {
	t.Helper()
	up := func(name string, addrs ...netip.Addr) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if err := netlink.AddrReplace(link, deviceAddr(netip.PrefixFrom(a, a.BitLen()-8))); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(link)
	}
	f, err := os.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "up0"
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: "out0", PeerNamespace: netlink.NsFd(int(f.Fd()))}
	if err := errors.Join(up("lo"), netlink.LinkAdd(pair), up("up0", hostIP, hostIP6)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(pair) })
	in(t, ns, func() error { return errors.Join(up("lo"), up("out0", outside, outside6)) })
}

// serve answers each TCP connection and each UDP packet on port with name and
// the client's address, then echoes.
func serve(t testing.TB, ns, name string, port uint16) {
	t.Helper()
	var l net.Listener
	var p net.PacketConn
	in(t, ns, func() (err error) {
		if l, err = net.Listen("tcp", fmt.Sprintf(":%d", port)); err != nil {
			return err
		}
		p, err = net.ListenPacket("udp", fmt.Sprintf(":%d", port))
		return err
	})
	t.Cleanup(func() { l.Close(); p.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintf(c, "%s %s\n", name, plainAddr(c.RemoteAddr()))
				io.Copy(c, c)
			}()
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			fmt.Fprintf(packetTo{p, from}, "%s %s\n", name, plainAddr(from))
		}
	}()
}

type packetTo struct {
	net.PacketConn
	addr net.Addr
}

func (p packetTo) Write(b []byte) (int, error) { return p.WriteTo(b, p.addr) }

func plainAddr(a net.Addr) string {
	return netip.MustParseAddrPort(a.String()).Addr().Unmap().WithZone("").String()
}

// ask connects from a namespace ("" is the host) and returns the answer, or
// "refused" or "no answer".
func ask(t testing.TB, ns, network, addr string) string {
	t.Helper()
	var got string
	do := func() error {
		d := net.Dialer{Timeout: 2 * time.Second}
		c, err := d.Dial(network, addr)
		if err != nil {
			got = failure(err)
			return nil
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(2 * time.Second))
		if network == "udp" {
			if _, err := c.Write([]byte("?")); err != nil {
				got = failure(err)
				return nil
			}
		}
		b := make([]byte, 100)
		n, err := c.Read(b)
		got = strings.TrimSpace(string(b[:n]))
		if err != nil {
			got = failure(err)
		}
		return nil
	}
	if ns == "" {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		return got
	}
	in(t, ns, do)
	return got
}

func failure(err error) string {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return "refused"
	case errors.As(err, new(net.Error)) && err.(net.Error).Timeout():
		return "no answer"
	}
	return err.Error()
}

func hostPort(addr netip.Addr, port uint16) string { return netip.AddrPortFrom(addr, port).String() }
