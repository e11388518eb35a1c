package podnet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// maxPoolBits bounds how many addresses of a large IPv6 prefix are used, so
// that the list of released ones stays small.
const maxPoolBits = 16

// pool hands out the addresses of one prefix: first those never used, then the
// one released longest ago, so that a peer's stale state rarely meets a new pod.
// Each pod address is at or after Next, or in use, or in Freed.
type pool struct {
	Prefix netip.Prefix
	Next   uint32       // offset of the first address never given, 0 is the one after the gateway
	Freed  []netip.Addr // oldest first
}

func hostBits(p netip.Prefix) int { return p.Addr().BitLen() - p.Bits() }

// gateway is the first address of a prefix, which the bridge holds.
func gateway(p netip.Prefix) netip.Addr { return p.Masked().Addr().Next() }

// size is how many pods fit: without network, gateway and, in IPv4, broadcast.
func (p *pool) size() uint32 {
	n := uint32(1) << min(hostBits(p.Prefix), maxPoolBits)
	if p.Prefix.Addr().Is4() {
		return n - 3
	}
	return n - 2
}

// nth is the pod address at an offset below size.
func (p *pool) nth(i uint32) netip.Addr {
	b := p.Prefix.Masked().Addr().AsSlice()
	low := b[len(b)-4:]
	binary.BigEndian.PutUint32(low, binary.BigEndian.Uint32(low)+2+i)
	a, _ := netip.AddrFromSlice(b)
	return a
}

// take gives an address that is not used.
func (p *pool) take(used map[netip.Addr]bool) (netip.Addr, error) {
	for p.Next < p.size() {
		a := p.nth(p.Next)
		p.Next++
		if !used[a] {
			return a, nil
		}
	}
	for i, a := range p.Freed {
		if !used[a] {
			p.Freed = slices.Delete(p.Freed, i, i+1)
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("pod CIDR %v: all %d addresses are in use", p.Prefix, p.size())
}

// give takes an address back.
func (p *pool) give(a netip.Addr) {
	if p.Prefix.Contains(a) && !slices.Contains(p.Freed, a) {
		p.Freed = append(p.Freed, a)
	}
}
