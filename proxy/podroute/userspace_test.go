package podroute

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// userspace runs WireGuard's own implementation for machine m, for kernels
// without. The device is m's; a second program in one file system can't have a
// control socket of that name, so that only one machine is the Router's to set up.
func (m *machine) userspace(t *testing.T, controlled bool) *device.Device {
	t.Helper()
	var d *device.Device
	m.in(t, func() error {
		dev, err := tun.CreateTUN(WireGuardDevice, 1400)
		if err != nil {
			return err
		}
		d = device.NewDevice(dev, &hereBind{conn.NewStdNetBind(), m, t}, device.NewLogger(device.LogLevelError, m.site.Node+" "))
		t.Cleanup(d.Close)
		return nil
	})
	if !controlled {
		return d
	}
	socket, err := ipc.UAPIOpen(WireGuardDevice)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := ipc.UAPIListen(WireGuardDevice, socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go d.IpcHandle(c)
		}
	}()
	return d
}

// hereBind opens its sockets in the machine's namespace.
type hereBind struct {
	conn.Bind
	m *machine
	t *testing.T
}

func (b *hereBind) Open(port uint16) (fns []conn.ReceiveFunc, actual uint16, err error) {
	b.m.in(b.t, func() error {
		fns, actual, err = b.Bind.Open(port)
		return nil
	})
	return fns, actual, err
}

// set gives a device the only peer that it has.
func set(t *testing.T, m *machine, d *device.Device, peer *machine) {
	t.Helper()
	k, err := wgtypes.ParseKey(peer.site.WireGuardKey)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("private_key=%s\nlisten_port=%d\nreplace_peers=true\npublic_key=%s\nendpoint=%s\nreplace_allowed_ips=true\n",
		hex.EncodeToString(m.key[:]), m.site.WireGuardPort, hex.EncodeToString(k[:]), netip.AddrPortFrom(peer.site.Addresses[0], peer.site.WireGuardPort))
	for _, c := range peer.site.CIDRs {
		text += "allowed_ip=" + c.String() + "\n"
	}
	if err := d.IpcSet(text); err != nil {
		t.Fatal(err)
	}
	if err := d.Up(); err != nil {
		t.Fatal(err)
	}
	m.in(t, func() error {
		link, err := netlink.LinkByName(WireGuardDevice)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		for _, c := range peer.site.CIDRs {
			if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(c), Scope: netlink.SCOPE_LINK, Src: gateway(ofSame(m.site.CIDRs, c)).AsSlice()}); err != nil {
				return err
			}
		}
		return nil
	})
}

func ofSame(list []netip.Prefix, as netip.Prefix) netip.Prefix {
	for _, p := range list {
		if p.Addr().Is4() == as.Addr().Is4() {
			return p
		}
	}
	return netip.Prefix{}
}

// The same wish by WireGuard's own program, at one end by the Router.
func TestTheRouterSetsUpPeersThatProveWhoTheyAre(t *testing.T) {
	list := machines(t, 2, WireGuard)
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("no /dev/net/tun:", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil { // of this process alone
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount("/run", unix.MNT_DETACH) })
	if err := os.MkdirAll("/run/wireguard", 0o755); err != nil {
		t.Fatal(err)
	}
	a, b := list[0], list[1]
	a.userspace(t, true)
	far := b.userspace(t, false)
	apply := func() {
		t.Helper()
		p := Decide(a.site, []Site{b.site}, lan)
		if err := a.Apply(p, a.key, a.site.WireGuardPort); err != nil {
			t.Fatal(err)
		}
	}
	apply()
	set(t, b, far, a)
	b.serve(t)
	a.serve(t)
	meet(t, list, 2)
	s := a.open(t, b)
	before := a.device(t)
	apply()
	if after := a.device(t); after != before {
		t.Errorf("the same wish changed the device from %s to %s", before, after)
	}
	s.echo(t)

	// b's key is another one, then a's.
	for _, m := range []*machine{b, a} {
		var err error
		if m.key, err = wgtypes.GeneratePrivateKey(); err != nil {
			t.Fatal(err)
		}
		m.site.WireGuardKey = m.key.PublicKey().String()
		set(t, b, far, a)
		apply()
		s.echo(t)
	}
	if got := a.device(t); strings.Count(got, "peer") != 1 {
		t.Errorf("a former key is a peer still: %s", got)
	}

	// Who has no key gets nothing in, whatever source it writes.
	b.key = wgtypes.Key{7}
	set(t, b, far, a)
	if got := b.askFor(t, b.pod(b.site.CIDRs[0]), a.pod(a.site.CIDRs[0]), 2*time.Second); !strings.Contains(got, "timeout") {
		t.Errorf("with a key that nobody knows: %s", got)
	}
}

// device is the device's key and peers, without what traffic changes.
func (m *machine) device(t *testing.T) string {
	t.Helper()
	d, err := m.wg.Device(WireGuardDevice)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(d.PublicKey, d.ListenPort)
	for _, p := range d.Peers {
		text += fmt.Sprintf(" peer %v %v %v", p.PublicKey, p.Endpoint, p.AllowedIPs)
	}
	return text
}
