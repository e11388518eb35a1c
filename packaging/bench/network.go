package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// network connects baseline pods to a bridge of their own, as Shoal's pods are to theirs.
type network struct {
	bridge netlink.Link
	gate   net.IP
	last   atomic.Int32 // address that was given
}

func newNetwork() (*network, error) {
	n := &network{gate: net.IPv4(10, 251, 0, 1)}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "bench0"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("add bench0: %w", err)
	}
	n.bridge = bridge
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: n.gate, Mask: net.CIDRMask(16, 32)}}
	return n, errors.Join(netlink.AddrAdd(bridge, addr), netlink.LinkSetUp(bridge), os.MkdirAll("/run/bench/netns", 0o755))
}

func (*network) path(pod string) string { return filepath.Join("/run/bench/netns", pod) }

// add makes a network namespace with loopback, a veth and a default route, and returns where it is mounted.
func (n *network) add(pod string) (string, error) {
	number := n.last.Add(1)
	path := n.path(pod)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return "", err
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return "", fmt.Errorf("make namespace: %w", err)
	}
	return path, n.plug(path, number)
}

func (n *network) plug(path string, number int32) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "bench-" + strconv.Itoa(int(number)), MasterIndex: n.bridge.Attrs().Index, Flags: net.FlagUp},
		PeerName:  "eth0", PeerNamespace: netlink.NsFd(ns),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	for _, name := range []string{"lo", "eth0"} {
		link, err := h.LinkByName(name)
		if err == nil {
			err = h.LinkSetUp(link)
		}
		if err == nil && name == "eth0" {
			ip := net.IPv4(10, 251, byte(number/250+1), byte(number%250+1))
			err = h.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(16, 32)}})
		}
		if err != nil {
			return fmt.Errorf("set %s up: %w", name, err)
		}
	}
	return h.RouteAdd(&netlink.Route{Gw: n.gate})
}

// remove ends the namespace, and its veth with it once no process is in it.
func (n *network) remove(pod string) error {
	if err := unix.Unmount(n.path(pod), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", n.path(pod), err)
	}
	if err := os.Remove(n.path(pod)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
