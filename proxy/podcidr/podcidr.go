// Package podcidr decides which range of pod addresses each node has. It is
// pure: the clock is passed in.
//
// The cluster's range is cut into equal ones. A node claims the one that the
// hash of its name leads to, or the next that is free, and says so to the
// others. Of two claims that overlap the older counts; a range that a node's
// configuration names comes before all that were claimed. Whoever loses claims
// anew, after all claims that it knows: so a claim that counts today is not
// beaten by a later one, whatever clocks say.
package podcidr

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// MaxRanges is how many ranges a cluster's may be cut into, as the difference
// of 16 bits that kube-controller-manager allows.
const MaxRanges = 1 << 16

// Space is a cluster's range of one family and the prefix length of each node's.
type Space struct {
	Prefix netip.Prefix
	Mask   int
}

// Validate says what keeps a space from being cut.
func (s Space) Validate() error {
	bits := s.Prefix.Addr().BitLen()
	switch {
	case !s.Prefix.IsValid() || s.Prefix.Addr().Is4In6():
		return fmt.Errorf("%v is not a prefix", s.Prefix)
	case s.Mask > bits-2:
		return fmt.Errorf("a node's range of /%d has no room for a gateway and a pod: want at most /%d", s.Mask, bits-2)
	case s.Mask < s.Prefix.Bits():
		return fmt.Errorf("%v is too small for even one node's /%d: give it a shorter prefix, or nodes a longer one", s.Prefix, s.Mask)
	case s.Mask-s.Prefix.Bits() > 16:
		return fmt.Errorf("%v has more than %d ranges of /%d: want /%d at most for a node", s.Prefix, MaxRanges, s.Mask, s.Prefix.Bits()+16)
	}
	return nil
}

// Ranges is how many nodes have room.
func (s Space) Ranges() int { return 1 << (s.Mask - s.Prefix.Bits()) }

// nth is the range with that number.
func (s Space) nth(i int) netip.Prefix {
	b := s.Prefix.Masked().Addr().AsSlice()
	// The number stands in the bits before the mask: at most 16, in three bytes.
	shift := (8 - s.Mask%8) % 8
	last := (s.Mask+7)/8 - 1
	for v := i << shift; v > 0; v >>= 8 {
		b[last] |= byte(v)
		last--
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, s.Mask)
}

// Holds says whether p is one of the ranges.
func (s Space) Holds(p netip.Prefix) bool {
	return p == p.Masked() && p.Bits() == s.Mask && s.Prefix.Overlaps(p)
}

// Claim is what one node says that it has.
type Claim struct {
	Node  string
	CIDR  netip.Prefix
	Since int64 // Unix ms by the clock of who claimed; greater than that of all claims it knew
	Fixed bool  // the node's configuration names it
}

// Before says whether of two claims that overlap c is the one that counts.
func (c Claim) Before(o Claim) bool {
	if c.Fixed != o.Fixed {
		return c.Fixed
	}
	return cmp.Or(cmp.Compare(c.Since, o.Since), cmp.Compare(c.Node, o.Node)) < 0
}

// TakenError says that a range, which the node can't do without, is another's.
type TakenError struct {
	CIDR netip.Prefix
	By   Claim
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("pod CIDR %v is node %s's (%v)", e.CIDR, e.By.Node, e.By.CIDR)
}

// FullError says that no range is free.
type FullError struct {
	Space Space
	Own   bool // the host's own networks take some of it
}

func (e *FullError) Error() string {
	text := fmt.Sprintf("cluster CIDR %v: all %d ranges of /%d are taken by other nodes", e.Space.Prefix, e.Space.Ranges(), e.Space.Mask)
	if e.Own {
		text += " or overlap this host's own networks"
	}
	return text + "; set a larger one, or a longer prefix for each node, or forget nodes that are gone"
}

// Loses is the claim of another node that own gives way to, if there is one.
func Loses(own Claim, others []Claim) (to Claim, loses bool) {
	for _, o := range others {
		if o.Node != own.Node && o.CIDR.Overlaps(own.CIDR) && o.Before(own) && (!loses || o.Before(to)) {
			to, loses = o, true
		}
	}
	return to, loses
}

// Next is a new claim of node, of a range that overlaps no other's, whether it
// counts or not, and none of avoid, which are the host's own networks.
func Next(s Space, node string, others []Claim, avoid []netip.Prefix, now int64) (Claim, error) {
	c := Claim{Node: node, Since: Since(others, now)}
	first := int(hash(node) % uint64(s.Ranges()))
	own := false
	for i := range s.Ranges() {
		c.CIDR = s.nth((first + i) % s.Ranges())
		if slices.ContainsFunc(avoid, c.CIDR.Overlaps) {
			own = true
			continue
		}
		if !slices.ContainsFunc(others, func(o Claim) bool { return o.Node != node && o.CIDR.Overlaps(c.CIDR) }) {
			return c, nil
		}
	}
	return Claim{}, &FullError{Space: s, Own: own}
}

// Since is the time of a claim that is made now: after all that are known.
func Since(others []Claim, now int64) int64 {
	for _, o := range others {
		now = max(now, o.Since+1)
	}
	return now
}

func hash(node string) uint64 {
	sum := sha256.Sum256([]byte(node))
	return binary.BigEndian.Uint64(sum[:])
}
