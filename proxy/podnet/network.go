package podnet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Network is the pod network of this host. Its methods may be called from
// several goroutines; calls for one pod wait for each other.
type Network struct {
	cfg    atomic.Pointer[Config] // replaced as a whole, by Move and SetReach
	log    *slog.Logger
	host   *netlink.Handle
	ns     netns.NsHandle // the host's, to refuse it as a pod's
	bridge atomic.Int64   // device index
	lock   *os.File       // held while this process owns Dir

	pods keyedLock // by UID; taken before the two below

	mu     sync.Mutex // guards ledger and its file
	ledger *ledger

	rulesMu sync.Mutex // guards table; taken before mu
	table   *table
}

// Open brings the pod network up in the network namespace of the calling
// thread: bridge, sysctls, packet filter and what is known of running pods,
// whose connections it does not disturb. It may be called again after a crash.
//
// It fails when another process has the same Dir open, or when cfg makes no
// sense; every reason is in the error. IPv6 CIDRs are left out, with a warning,
// where the kernel has no IPv6.
func Open(cfg Config, log *slog.Logger) (*Network, error) {
	cfg = cfg.withDefaults()
	if !haveIPv6() {
		with := len(cfg.PodCIDRs)
		cfg.PodCIDRs = slices.DeleteFunc(cfg.PodCIDRs, func(p netip.Prefix) bool { return p.Addr().Is6() })
		if len(cfg.PodCIDRs) < with {
			log.Warn("pod network without IPv6: the kernel has none")
		}
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("pod network: %w", err)
	}
	n := &Network{log: log}
	n.cfg.Store(&cfg)
	if err := n.open(); err != nil {
		n.Close()
		return nil, fmt.Errorf("pod network: %w", err)
	}
	return n, nil
}

func (n *Network) open() (err error) {
	if n.ns, err = netns.Get(); err != nil {
		return fmt.Errorf("own network namespace: %w", err)
	}
	if n.host, err = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	if n.table, err = openTable(); err != nil {
		return err
	}
	if cfg := *n.config(); cfg.MTU == 0 {
		cfg.MTU = defaultMTU(n.host)
		n.cfg.Store(&cfg)
	}
	if err := n.openLedger(); err != nil {
		return err
	}
	_, err = n.Check(context.Background())
	return err
}

// openLedger locks Dir and reads who holds what, from the file or, where that
// is lost or damaged, from the aliases of the veths.
func (n *Network) openLedger() error {
	if err := os.MkdirAll(n.config().Dir, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(n.config().Dir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(n.config().Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	n.lock = lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("%s is in use by another process: %w", n.config().Dir, err)
	}
	l, err := readLedger(n.config().Dir)
	if err != nil {
		n.log.Error("pod leases are unreadable, rebuilding them from the devices", "err", err)
		_ = os.Rename(ledgerFile(n.config().Dir), ledgerFile(n.config().Dir)+".bad")
	}
	if l == nil {
		if l, err = n.rebuiltLedger(); err != nil {
			return err
		}
	}
	l.setPools(n.config().PodCIDRs)
	n.ledger = l
	return l.write(n.config().Dir)
}

// rebuiltLedger knows addresses but no host ports: Attach brings those.
func (n *Network) rebuiltLedger() (*ledger, error) {
	l := newLedger(n.config().PodCIDRs)
	links, err := n.veths()
	for _, link := range links {
		if pod, ok := parseAlias(link.Attrs().Alias); ok && vethName(pod.UID) == link.Attrs().Name {
			l.Pods[pod.UID] = pod
		}
	}
	return l, err
}

// veths are all devices that bear our kind of name.
func (n *Network) veths() ([]netlink.Link, error) {
	links, err := n.host.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return slices.DeleteFunc(links, func(l netlink.Link) bool {
		return l.Type() != "veth" || !vethPattern.MatchString(l.Attrs().Name)
	}), nil
}

func (n *Network) config() *Config { return n.cfg.Load() }

// Gateway gives the bridge's addresses, in the order of PodCIDRs. Pods reach
// this host there.
func (n *Network) Gateway() []netip.Addr {
	var out []netip.Addr
	for _, c := range n.config().PodCIDRs {
		out = append(out, gateway(c))
	}
	return out
}

// Attach connects a pod's network namespace, given as a path, and returns the
// pod's addresses in the order of PodCIDRs. For a pod that is attached it
// repairs what is missing and keeps the addresses; ports replace the earlier
// ones. A host port that is taken gives a *PortTakenError. After any other error
// a new pod holds nothing.
func (n *Network) Attach(ctx context.Context, pod PodRef, netnsPath string, ports []HostPort) ([]netip.Addr, error) {
	if pod.UID == "" {
		return nil, errors.New("attach a pod without UID")
	}
	defer n.pods.lock(pod.UID)()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	got, before, err := n.reserve(pod, ports)
	if err != nil {
		return nil, fmt.Errorf("attach pod %v: %w", pod, err)
	}
	err = n.plumb(got, netnsPath)
	if err == nil {
		err = n.syncRules()
	}
	if err == nil {
		err = n.forgetFlows(append(slices.Clone(before.Ports), got.Ports...))
	}
	if err != nil {
		if before.UID == "" {
			err = errors.Join(err, n.detach(pod.UID))
		}
		return nil, fmt.Errorf("attach pod %v: %w", pod, err)
	}
	return slices.Clone(got.Addrs), nil
}

// reserve also returns what the pod held before.
func (n *Network) reserve(pod PodRef, ports []HostPort) (got, before lease, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before = n.ledger.Pods[pod.UID]
	if got, err = n.ledger.reserve(pod, ports); err != nil {
		return lease{}, before, err
	}
	return got, before, n.ledger.write(n.config().Dir)
}

// Detach disconnects a pod and frees what it held. A pod that is unknown is
// fine. When it fails, the pod keeps its addresses: call again, or Sweep.
func (n *Network) Detach(ctx context.Context, uid string) error {
	defer n.pods.lock(uid)()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := n.detach(uid); err != nil {
		return fmt.Errorf("detach pod %s: %w", uid, err)
	}
	return nil
}

func (n *Network) detach(uid string) error {
	n.mu.Lock()
	l, known := n.ledger.Pods[uid]
	n.mu.Unlock()
	l.UID = uid
	if err := n.unplumb(l); err != nil {
		return err
	}
	if !known {
		return nil
	}
	if err := n.release(uid); err != nil {
		return err
	}
	if err := n.syncRules(); err != nil {
		return err
	}
	return n.forgetFlows(l.Ports)
}

func (n *Network) release(uid string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ledger.release(uid)
	return n.ledger.write(n.config().Dir)
}

// syncRules makes the packet filter that of today's leases.
func (n *Network) syncRules() error {
	n.rulesMu.Lock()
	defer n.rulesMu.Unlock()
	n.mu.Lock()
	want := rulesFor(*n.config(), n.ledger.Pods, n.ledger.Former)
	n.mu.Unlock()
	ok, err := n.table.intact()
	if err != nil {
		return err
	}
	if ok && n.table.applied == want.String() {
		return nil
	}
	if n.table.applied != "" && !ok {
		n.log.Warn("somebody changed table inet shoal, writing it again")
	}
	// 127.0.0.0/8 is open to the bridge only while the guard rule is in force.
	if !want.needsLocalnet() {
		if err := n.localnet(false); err != nil {
			return err
		}
	}
	if err := n.table.apply(want); err != nil {
		return err
	}
	if want.needsLocalnet() {
		return n.localnet(true)
	}
	return nil
}

// Check looks whether bridge, sysctls, packet filter and the host's ends of all
// veths are as they should be and repairs them. It returns the UIDs of pods
// whose veth is gone, which takes an Attach. It is cheap: call it every few
// seconds.
func (n *Network) Check(ctx context.Context) (broken []string, err error) {
	if err := n.ensureBridge(); err != nil {
		return nil, err
	}
	if err := n.routing(); err != nil {
		return nil, err
	}
	n.mu.Lock()
	uids := slices.Sorted(maps.Keys(n.ledger.Pods))
	n.mu.Unlock()
	var errs []error
	attached := n.attached()
	for _, uid := range uids {
		if err := context.Cause(ctx); err != nil {
			return broken, err
		}
		if attached[vethName(uid)] {
			continue
		}
		ok, err := n.checkPod(uid)
		if !ok {
			broken = append(broken, uid)
		}
		errs = append(errs, err)
	}
	errs = append(errs, n.syncRules())
	return broken, errors.Join(errs...)
}

// attached are the names of the devices that are as they should be. To ask the
// kernel once for all makes a check of 50 pods take less than half as long. Those
// that are not among them, after an error all, are looked at one by one, with
// their pod's lock.
func (n *Network) attached() map[string]bool {
	links, _ := n.veths()
	up := make(map[string]bool, len(links))
	for _, link := range links {
		up[link.Attrs().Name] = n.isAttached(link)
	}
	return up
}

// isAttached says whether a pod's device is up and at the bridge.
func (n *Network) isAttached(link netlink.Link) bool {
	return link.Attrs().MasterIndex == int(n.bridge.Load()) && link.Attrs().Flags&unix.IFF_UP != 0
}

func (n *Network) checkPod(uid string) (ok bool, err error) {
	defer n.pods.lock(uid)()
	n.mu.Lock()
	l, known := n.ledger.Pods[uid]
	n.mu.Unlock()
	if !known {
		return true, nil // detached since
	}
	link, err := n.host.LinkByName(vethName(uid))
	if notFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("veth %s: %w", vethName(uid), err)
	}
	if n.isAttached(link) {
		return true, nil
	}
	return true, n.hostSide(l, link)
}

// Close lets go of the kernel's handles and of Dir. Pods stay connected.
func (n *Network) Close() {
	if n.table != nil {
		n.table.close()
	}
	if n.host != nil {
		n.host.Close()
	}
	if n.ns.IsOpen() {
		_ = n.ns.Close()
	}
	if n.lock != nil {
		_ = n.lock.Close()
	}
}

// Remove takes the pod network off the host, pods' devices included, and
// closes it.
func (n *Network) Remove(ctx context.Context) error {
	defer n.Close()
	errs := []error{n.localnet(false)}
	_, err := n.Sweep(ctx, nil)
	errs = append(errs, err, n.table.remove())
	link, err := n.host.LinkByName(n.config().Bridge)
	if err == nil {
		err = n.host.LinkDel(link)
	}
	if err != nil && !notFound(err) {
		errs = append(errs, fmt.Errorf("remove bridge %s: %w", n.config().Bridge, err))
	}
	for _, name := range []string{ledgerFile(n.config().Dir), ledgerFile(n.config().Dir) + ".bad", ledgerFile(n.config().Dir) + ".new", n.lock.Name(), n.config().Dir} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
