package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	joinFirst     = time.Second      // between the first rounds while nobody is found
	joinMost      = 15 * time.Second // between later ones
	namePatience  = 5 * time.Second  // for looking up a name
	joinNotTaken  = 3 * time.Second  // while another member has not taken this host in yet
	addressesEach = 16               // of one name
)

// splitJoin reads an entry of a join list: a host name or an address of either
// family, with or without a port.
func splitJoin(entry string) (host string, port uint16, err error) {
	if addr, err := netip.ParseAddr(strings.Trim(entry, "[]")); err == nil {
		return addr.String(), DefaultPort, nil
	}
	host, p := entry, strconv.Itoa(DefaultPort)
	if strings.Contains(entry, ":") {
		if host, p, err = net.SplitHostPort(entry); err != nil {
			return "", 0, fmt.Errorf("gossip: join %q: want host, host:port, an address, or [IPv6]:port", entry)
		}
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("gossip: join %q: the port %q: want 1 to 65535", entry, p)
	}
	if host == "" || strings.ContainsAny(host, "/ \t") {
		return "", 0, fmt.Errorf("gossip: join %q: want host, host:port, an address, or [IPv6]:port", entry)
	}
	return host, uint16(n), nil
}

// pause is how long to wait after round number tries of a host that found
// nobody. luck is from 0 to 1: hosts that started at once shall not meet at once.
func pause(tries int, luck float64) time.Duration {
	d := min(joinFirst<<min(tries, 10), joinMost)
	return d/2 + time.Duration(luck*float64(d/2))
}

// targets are whom to try: this host and members that are alive are left out,
// and nobody comes twice.
func targets(addrs []netip.AddrPort, self netip.AddrPort, members []Member) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range addrs {
		known := slices.ContainsFunc(members, func(m Member) bool { return m.Addr == a && m.Status == Alive })
		if a != self && !known && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// CheckJoin says what is wrong with a join list.
func CheckJoin(list []string) error {
	for _, entry := range list {
		if _, _, err := splitJoin(entry); err != nil {
			return err
		}
	}
	return nil
}

// Join replaces the join list while this host runs, and tries it at once.
func (g *Gossip) Join(list []string) error {
	if err := CheckJoin(list); err != nil {
		return err
	}
	g.joining.Lock()
	g.list = slices.Clone(list)
	g.joining.Unlock()
	select {
	case g.joinNow <- struct{}{}:
	default:
	}
	return nil
}

// Tried is closed once everybody who may be there was tried, or one answered.
func (g *Gossip) Tried() <-chan struct{} { return g.tried }

// join looks for other members for ever: often while there are none, and once in
// a while for addresses that should be members' and are not, since two halves
// that were apart for longer than Timers.Forget have forgotten each other.
func (g *Gossip) join(ctx context.Context) {
	lonely := 0
	for first := true; ; first = false {
		alone := g.others.Load() == 0
		met := g.round(ctx, alone)
		if first {
			close(g.tried)
		}
		wait := g.cfg.Timers.Rejoin
		switch {
		case g.meet.unknown.Load():
			wait = joinNotTaken
		case met || !alone:
			lonely = 0
		default:
			wait = pause(lonely, rand.Float64())
			lonely++
		}
		select {
		case <-time.After(wait):
		case <-g.joinNow:
			lonely = 0
		case <-ctx.Done():
			return
		}
	}
}

// round tries, in an order of chance, until one answers. While this host is
// alone it tries those it remembers as well.
func (g *Gossip) round(ctx context.Context, alone bool) bool {
	addrs, problems := g.resolve(ctx)
	if alone {
		for _, p := range *g.peers.Load() {
			addrs = append(addrs, p.Addr)
		}
	}
	members := g.Members()
	if g.meet.unknown.Load() {
		members = nil // one that did not take us in may do so now
	}
	todo := targets(addrs, g.advertise, members)
	rand.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	for _, at := range todo {
		if ctx.Err() != nil {
			return false
		}
		// What was said before this host came is in the records that it fetches.
		if _, err := g.serf.Join([]string{at.String()}, true); err != nil {
			problems = append(problems, err)
			continue
		}
		g.wake()
		return true
	}
	if err := errors.Join(problems...); err != nil && ctx.Err() == nil {
		g.log.Debug("no other host of the join list answers", "err", err)
	}
	return false
}

// resolve looks up the join list, all names at once.
func (g *Gossip) resolve(ctx context.Context) (addrs []netip.AddrPort, problems []error) {
	ctx, done := context.WithTimeout(ctx, namePatience)
	defer done()
	var mu sync.Mutex
	var lookups sync.WaitGroup
	g.joining.Lock()
	list := g.list
	g.joining.Unlock()
	for _, entry := range list {
		host, port, _ := splitJoin(entry) // checked at the start
		if addr, err := netip.ParseAddr(host); err == nil {
			mu.Lock()
			addrs = append(addrs, netip.AddrPortFrom(addr.Unmap(), port))
			mu.Unlock()
			continue
		}
		lookups.Go(func() {
			found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				problems = append(problems, err)
			}
			for _, addr := range found[:min(len(found), addressesEach)] {
				addrs = append(addrs, netip.AddrPortFrom(addr.Unmap(), port))
			}
		})
	}
	lookups.Wait()
	return addrs, problems
}
