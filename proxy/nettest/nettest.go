// Package nettest gives tests of the kernel's network namespaces of their own:
// one that plays the host, in which the test's process runs, and one for each
// pod or machine outside. The kernel takes all of them down with the process.
package nettest

import (
	"errors"
	"fmt"
	"io"
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

// inside marks the process that has network and mount namespaces of its own.
const inside = "SHOAL_NETTEST_INSIDE"

// Main runs the tests in a process with its own network namespace. Call it from
// TestMain, and runtime.LockOSThread from an init function: the main thread must
// keep the host's namespace, since unlike others it can't end with a goroutine
// that has changed its own, and /proc/self means it.
func Main(m *testing.M) {
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

// Need skips a test that has no namespace of its own.
func Need(t testing.TB) {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("needs root and a network namespace of its own")
	}
}

// Namespace gives the path of a new network namespace, which lives as long as
// the test.
func Namespace(t testing.TB) string {
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

// In runs do in a network namespace; "" is the host.
func In(t testing.TB, ns string, do func() error) {
	t.Helper()
	if ns == "" {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		return
	}
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

// Wire joins the host and a namespace by a pair of devices: name on the host,
// eth0 there. Addresses come with their prefixes.
func Wire(t testing.TB, name, ns string, here, there []netip.Prefix) {
	t.Helper()
	f, err := os.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(f.Fd()))}
	if err := errors.Join(Up("lo"), netlink.LinkAdd(pair), Up(name, here...)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(pair) })
	In(t, ns, func() error { return errors.Join(Up("lo"), Up("eth0", there...)) })
}

// Up sets a device up, with addresses that are usable at once.
func Up(name string, addrs ...netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, p := range addrs {
		a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, a); err != nil {
			return fmt.Errorf("address %v on %s: %w", p, name, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// Default routes everything through a gateway, in the namespace of the caller.
func Default(via netip.Addr) error {
	all := &net.IPNet{IP: make(net.IP, via.BitLen()/8), Mask: net.CIDRMask(0, via.BitLen())}
	return netlink.RouteReplace(&netlink.Route{Dst: all, Gw: via.AsSlice()})
}

// Serve answers each TCP connection and each UDP packet on port with name and
// the client's address, then echoes.
func Serve(t testing.TB, ns, name string, port uint16) {
	t.Helper()
	var l net.Listener
	var p net.PacketConn
	In(t, ns, func() (err error) {
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
				fmt.Fprintf(c, "%s %s\n", name, plain(c.RemoteAddr()))
				_, _ = io.Copy(c, c)
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
			_, _ = p.WriteTo(fmt.Appendf(nil, "%s %s\n", name, plain(from)), from)
		}
	}()
}

func plain(a net.Addr) string {
	return netip.MustParseAddrPort(a.String()).Addr().Unmap().WithZone("").String()
}

// patience is how long an answer may take.
const patience = 2 * time.Second

// Ask connects from a namespace and returns the answer, or "refused" or
// "no answer".
func Ask(t testing.TB, ns, network, addr string) (got string) {
	t.Helper()
	In(t, ns, func() error {
		c, err := net.DialTimeout(network, addr, patience)
		if err != nil {
			got = Failure(err)
			return nil
		}
		defer c.Close()
		got = Again(c)
		return nil
	})
	return got
}

// Again asks on a connection, of UDP or one that was not read from.
func Again(c net.Conn) string {
	_ = c.SetDeadline(time.Now().Add(patience))
	if c.RemoteAddr().Network() == "udp" {
		if _, err := c.Write([]byte("?")); err != nil {
			return Failure(err)
		}
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil {
		return Failure(err)
	}
	return strings.TrimSpace(string(b[:n]))
}

// Failure is an error of connecting as Ask says it.
func Failure(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EPERM): // the latter to the host's own, for UDP
		return "refused"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer"
	}
	return err.Error()
}

// Route leads a prefix to a device, in the namespace of the caller.
func Route(to netip.Prefix, device string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	dst := &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())}
	return netlink.RouteReplace(&netlink.Route{Dst: dst, LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK})
}
