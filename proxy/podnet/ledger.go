package podnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

// ledgerVersion is the format of the file; a higher one is not read.
const ledgerVersion = 1

// lease is what one pod holds.
type lease struct {
	PodRef
	Addrs []netip.Addr // one of each PodCIDR, in that order
	Ports []HostPort   `json:",omitempty"`
}

// ledger is who holds which address and host port. Its JSON is the file.
type ledger struct {
	Version int
	Pools   []*pool
	Pods    map[string]lease // by UID

	// Former are ranges that this host had, of which pods still have addresses.
	Former []netip.Prefix `json:",omitempty"`
}

func newLedger(cidrs []netip.Prefix) *ledger {
	l := &ledger{Version: ledgerVersion, Pods: map[string]lease{}}
	l.setPools(cidrs)
	return l
}

// setPools makes the pools those of cidrs, keeping what is known of each. A
// pool that is none of them becomes a former range while pods have addresses of it.
func (l *ledger) setPools(cidrs []netip.Prefix) {
	for _, p := range l.Pools {
		l.Former = append(l.Former, p.Prefix)
	}
	pools := make([]*pool, 0, len(cidrs))
	for _, c := range cidrs {
		i := slices.IndexFunc(l.Pools, func(p *pool) bool { return p.Prefix == c })
		if i < 0 {
			pools = append(pools, &pool{Prefix: c})
			continue
		}
		pools = append(pools, l.Pools[i])
	}
	l.Pools = pools
	l.pruneFormer()
}

// pruneFormer forgets former ranges that are in use again, or by nobody.
func (l *ledger) pruneFormer() {
	used := l.used()
	slices.SortFunc(l.Former, netip.Prefix.Compare)
	l.Former = slices.DeleteFunc(slices.Compact(l.Former), func(p netip.Prefix) bool {
		if slices.ContainsFunc(l.Pools, func(pool *pool) bool { return pool.Prefix == p }) {
			return true
		}
		for a := range used {
			if p.Contains(a) {
				return false
			}
		}
		return true
	})
}

func (l *ledger) used() map[netip.Addr]bool {
	used := make(map[netip.Addr]bool, len(l.Pods))
	for _, p := range l.Pods {
		for _, a := range p.Addrs {
			used[a] = true
		}
	}
	return used
}

// fits tells whether addrs are one address of each pool.
func (l *ledger) fits(addrs []netip.Addr) bool {
	return slices.EqualFunc(addrs, l.Pools, func(a netip.Addr, p *pool) bool { return p.Prefix.Contains(a) })
}

// reserve gives pod its addresses and ports. A pod that has addresses keeps
// them, even if they are not of today's pools: nothing tells its processes of
// others, so it has them as long as its sandbox. Its ports become the given ones.
// On an error nothing has changed.
func (l *ledger) reserve(pod PodRef, ports []HostPort) (lease, error) {
	ports, err := l.freePorts(pod, ports)
	if err != nil {
		return lease{}, err
	}
	got := l.Pods[pod.UID]
	if len(got.Addrs) == 0 {
		if got.Addrs, err = l.takeEach(); err != nil {
			return lease{}, err
		}
	}
	got.PodRef, got.Ports = pod, ports
	l.Pods[pod.UID] = got
	return got, nil
}

func (l *ledger) takeEach() ([]netip.Addr, error) {
	used := l.used()
	var addrs []netip.Addr
	for _, p := range l.Pools {
		a, err := p.take(used)
		if err != nil {
			l.giveBack(addrs)
			return nil, err
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

func (l *ledger) giveBack(addrs []netip.Addr) {
	for _, a := range addrs {
		for _, p := range l.Pools {
			p.give(a)
		}
	}
}

// freePorts gives ports without exact repetitions, or says who holds one.
func (l *ledger) freePorts(pod PodRef, ports []HostPort) ([]HostPort, error) {
	var out []HostPort
	for _, p := range ports {
		if err := p.validate(); err != nil {
			return nil, err
		}
		if slices.Contains(out, p) {
			continue
		}
		if slices.ContainsFunc(out, p.conflicts) {
			return nil, &PortTakenError{Port: p, Holder: pod}
		}
		for _, holder := range l.Pods {
			if holder.UID != pod.UID && slices.ContainsFunc(holder.Ports, p.conflicts) {
				return nil, &PortTakenError{Port: p, Holder: holder.PodRef}
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// release forgets a pod.
func (l *ledger) release(uid string) {
	l.giveBack(l.Pods[uid].Addrs)
	delete(l.Pods, uid)
	l.pruneFormer()
}

func ledgerFile(dir string) string { return filepath.Join(dir, "leases.json") }

// readLedger gives nil when there is no file, and an error for one that it
// cannot understand.
func readLedger(dir string) (*ledger, error) {
	b, err := os.ReadFile(ledgerFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var l ledger
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, fmt.Errorf("read %s: %w", ledgerFile(dir), err)
	}
	if l.Version != ledgerVersion {
		return nil, fmt.Errorf("read %s: format %d, this program knows %d", ledgerFile(dir), l.Version, ledgerVersion)
	}
	if l.Pods == nil {
		l.Pods = map[string]lease{}
	}
	return &l, nil
}

// write replaces the file at once. There is no fsync: it lies on a tmpfs and
// need not outlive the kernel whose addresses it lists.
func (l *ledger) write(dir string) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode leases: %w", err)
	}
	tmp := ledgerFile(dir) + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, ledgerFile(dir))
}
