package podroute

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// protocol marks our routes (rtnetlink(7)); no other program is known to use 83.
const protocol = 83

// Router holds this host's ways to others.
type Router struct {
	log  *slog.Logger
	host *netlink.Handle
	wg   *wgctrl.Client // nil: the kernel can't say

	mu   sync.Mutex
	told map[wgtypes.Key]netip.AddrPort // endpoints as they were set: WireGuard follows a peer that moves
}

// Open works in the network namespace of the calling thread.
func Open(log *slog.Logger) (*Router, error) {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	r := &Router{log: log, host: host, told: make(map[wgtypes.Key]netip.AddrPort)}
	if r.wg, err = wgctrl.New(); err != nil {
		log.Warn("WireGuard can't be used", "err", err)
		r.wg = nil
	}
	return r, nil
}

// Close lets go of the kernel's handles. Routes and devices stay.
func (r *Router) Close() {
	r.host.Close()
	if r.wg != nil {
		_ = r.wg.Close()
	}
}

// Offers says why the kernel has no such backend, nil when it has. It makes the
// kernel load what it needs.
func (r *Router) Offers(b Backend) error {
	switch b {
	case HostGW:
		return nil
	case WireGuard:
		if r.wg == nil {
			return errors.New("its control socket can't be opened")
		}
		if r.has(WireGuardDevice) {
			return nil
		}
		return r.try(&netlink.Wireguard{LinkAttrs: named("shoal-probe")})
	}
	if r.has(VXLANDevice) {
		return nil
	}
	return r.try(&netlink.Vxlan{LinkAttrs: named("shoal-probe"), VxlanId: 1, Port: VXLANPort})
}

func (r *Router) has(name string) bool {
	_, err := r.host.LinkByName(name)
	return err == nil
}

// try adds a device and takes it away.
func (r *Router) try(link netlink.Link) error {
	err := r.host.LinkAdd(link)
	if errors.Is(err, unix.EEXIST) { // left by one that was killed
		_ = r.host.LinkDel(link)
		err = r.host.LinkAdd(link)
	}
	if err != nil {
		return err
	}
	return r.host.LinkDel(link)
}

func named(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

// Apply makes the kernel hold exactly p. key is this node's WireGuard key, of
// use with port alone. An error is about what could not be done; the rest is.
func (r *Router) Apply(p Plan, key wgtypes.Key, port uint16) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	if p.uses(VXLAN) {
		errs = append(errs, r.vxlan(p))
	} else {
		errs = append(errs, r.remove(VXLANDevice))
	}
	if p.uses(WireGuard) {
		errs = append(errs, r.wireguard(p, key, port))
	} else {
		errs = append(errs, r.remove(WireGuardDevice))
	}
	return errors.Join(append(errs, r.routes(p))...)
}

// Remove takes away all that Apply made.
func (r *Router) Remove() error { return r.Apply(Plan{}, wgtypes.Key{}, 0) }

func (r *Router) remove(name string) error {
	link, err := r.host.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil {
		err = r.host.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove device %s: %w", name, err)
	}
	r.log.Info("a device to other hosts is no longer needed", "device", name)
	return nil
}

// up gives a device its MTU and has it run, without addresses of its own.
func (r *Router) up(link netlink.Link, mtu int) error {
	name := link.Attrs().Name
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		if err := r.host.LinkSetIP6AddrGenMode(link, nl.IN6_ADDR_GEN_MODE_NONE); err != nil {
			return fmt.Errorf("device %s: disable autoconfiguration: %w", name, err)
		}
	}
	if mtu > 0 && link.Attrs().MTU != mtu {
		if err := r.host.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("device %s: set MTU %d: %w", name, mtu, err)
		}
	}
	if err := r.host.LinkSetUp(link); err != nil {
		return fmt.Errorf("device %s: bring up: %w", name, err)
	}
	return nil
}

// routes makes our routes those of p.
func (r *Router) routes(p Plan) error {
	var errs []error
	have, err := r.ours()
	errs = append(errs, err)
	for _, want := range p.routes() {
		route, err := r.kernelRoute(want)
		if err != nil {
			errs = append(errs, fmt.Errorf("route to %v: %w", want.Dst, err))
			continue
		}
		i := slices.IndexFunc(have, func(h netlink.Route) bool { return same(h, *route) })
		if i >= 0 {
			have = slices.Delete(have, i, i+1)
			continue
		}
		if err := r.host.RouteReplace(route); err != nil {
			errs = append(errs, fmt.Errorf("add route %v: %w", want, err))
			continue
		}
		// What it replaced is gone.
		have = slices.DeleteFunc(have, func(h netlink.Route) bool { return h.Dst.String() == route.Dst.String() && route.Dst.IP.To4() != nil })
	}
	for _, h := range have {
		if err := r.host.RouteDel(&h); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route to %v: %w", h.Dst, err))
		}
	}
	return errors.Join(errs...)
}

// ours are the routes that this package made.
func (r *Router) ours() ([]netlink.Route, error) {
	var all []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := r.host.RouteListFiltered(family, &netlink.Route{Protocol: protocol, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return all, fmt.Errorf("list routes: %w", err)
		}
		all = append(all, list...)
	}
	return all, nil
}

func same(a, b netlink.Route) bool {
	return a.Dst != nil && a.Dst.String() == b.Dst.String() && a.Gw.Equal(b.Gw) && a.Src.Equal(b.Src) && (b.LinkIndex == a.LinkIndex)
}

func (r *Router) kernelRoute(want route) (*netlink.Route, error) {
	k := &netlink.Route{Dst: ipNet(want.Dst), Protocol: protocol, Table: unix.RT_TABLE_MAIN}
	if want.Via.IsValid() {
		k.Gw = want.Via.AsSlice()
	}
	if want.Src.IsValid() {
		k.Src = want.Src.AsSlice()
	}
	if want.Dev != "" {
		link, err := r.host.LinkByName(want.Dev)
		if err != nil {
			return nil, err
		}
		k.LinkIndex = link.Attrs().Index
		if want.Via.IsValid() {
			k.Flags = int(netlink.FLAG_ONLINK)
		} else {
			k.Scope = netlink.SCOPE_LINK
		}
		return k, nil
	}
	to, err := r.host.RouteGet(k.Gw)
	if err != nil {
		return nil, err
	}
	if len(to) == 0 || to[0].Gw != nil {
		return nil, fmt.Errorf("%v is not in a network of this host", want.Via)
	}
	k.LinkIndex = to[0].LinkIndex
	return k, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
