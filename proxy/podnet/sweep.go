package podnet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Sweep removes what belongs to no pod of keep: leases, host ports, veths and
// neighbour entries. It returns what it removed, for the log. A pod that is
// being attached must be in keep.
func (n *Network) Sweep(ctx context.Context, keep map[string]bool) ([]string, error) {
	n.mu.Lock()
	uids := slices.Sorted(maps.Keys(n.ledger.Pods))
	n.mu.Unlock()
	var removed []string
	var errs []error
	for _, uid := range uids {
		if keep[uid] {
			continue
		}
		if err := n.Detach(ctx, uid); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, "pod "+uid)
	}
	links, err := n.sweepVeths(keep)
	errs = append(errs, err)
	neighbours, err := n.sweepNeighbours()
	errs = append(errs, err, n.syncRules())
	return slices.Concat(removed, links, neighbours), errors.Join(errs...)
}

func (n *Network) sweepVeths(keep map[string]bool) (removed []string, err error) {
	kept := map[string]bool{}
	for uid := range keep {
		kept[vethName(uid)] = true
	}
	links, err := n.veths()
	errs := []error{err}
	for _, l := range links {
		if kept[l.Attrs().Name] {
			continue
		}
		if err := n.host.LinkDel(l); err != nil && !notFound(err) {
			errs = append(errs, fmt.Errorf("remove veth %s: %w", l.Attrs().Name, err))
			continue
		}
		removed = append(removed, "veth "+l.Attrs().Name)
	}
	return removed, errors.Join(errs...)
}

func (n *Network) sweepNeighbours() (removed []string, err error) {
	n.mu.Lock()
	used := n.ledger.used()
	n.mu.Unlock()
	neighbours, err := n.host.NeighList(int(n.bridge.Load()), netlink.FAMILY_ALL)
	errs := []error{err}
	for _, e := range neighbours {
		addr, ok := netip.AddrFromSlice(e.IP)
		if !ok || e.State&netlink.NUD_PERMANENT == 0 || used[addr.Unmap()] {
			continue
		}
		if err := n.host.NeighDel(&e); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove neighbour %v: %w", addr, err))
			continue
		}
		removed = append(removed, "neighbour "+addr.Unmap().String())
	}
	return removed, errors.Join(errs...)
}
