// Package nft has what Shoal's tables share when they are written over netlink
// with github.com/google/nftables: expressions by the names that nft(8) gives
// them, and the number of the ruleset that the kernel holds.
package nft

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Reg is the first of nf_tables' sixteen registers of 4 bytes. A key of several
// parts is laid out from one register on, each part in whole registers, and so is
// what a map gives back.
const Reg uint32 = unix.NFT_REG32_00

// Words is how many registers an address takes.
func Words(is4 bool) uint32 {
	if is4 {
		return 1
	}
	return 4
}

// Rule joins parts of a rule.
func Rule(parts ...[]expr.Any) []expr.Any { return slices.Concat(parts...) }

// Family matches IPv4 or IPv6.
func Family(is4 bool) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: Reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: []byte{byte(nfproto(is4))}},
	}
}

func nfproto(is4 bool) uint32 {
	if is4 {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

// Offsets of RFC 791 and RFC 8200 headers.

// Source loads a packet's source address.
func Source(is4 bool, register uint32) expr.Any { return address(is4, 12, 8, register) }

// Destination loads a packet's destination address.
func Destination(is4 bool, register uint32) expr.Any { return address(is4, 16, 24, register) }

func address(is4 bool, offset4, offset6, register uint32) expr.Any {
	p := &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset6, Len: net.IPv6len}
	if is4 {
		p.Offset, p.Len = offset4, net.IPv4len
	}
	return p
}

// Port loads protocol and destination port into two registers.
func Port(register uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Payload{DestRegister: register + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// Frontend loads destination address, protocol and destination port.
func Frontend(is4 bool, register uint32) []expr.Any {
	return append([]expr.Any{Destination(is4, register)}, Port(register+Words(is4))...)
}

// DNAT sends a packet to the address and port that stand in registers.
func DNAT(is4 bool, register uint32) expr.Any {
	return &expr.NAT{Type: expr.NATTypeDestNAT, Family: nfproto(is4), RegAddrMin: register, RegProtoMin: register + Words(is4), Specified: true}
}

// SNAT gives packets that source.
func SNAT(a netip.Addr) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: Reg, Data: a.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: nfproto(a.Is4()), RegAddrMin: Reg},
	}
}

// In matches if the set has the key that begins in a register.
func In(set string, register uint32) expr.Any {
	return &expr.Lookup{SourceRegister: register, SetName: set}
}

// NotIn matches if it has not.
func NotIn(set string, register uint32) expr.Any {
	return &expr.Lookup{SourceRegister: register, SetName: set, Invert: true}
}

// Map puts what a map has for the key into registers; it matches if there is
// something.
func Map(name string, key, to uint32) expr.Any {
	return &expr.Lookup{SourceRegister: key, DestRegister: to, IsDestRegSet: true, SetName: name}
}

// VerdictMap goes where a map of verdicts says.
func VerdictMap(name string, key uint32) expr.Any {
	return &expr.Lookup{SourceRegister: key, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: name}
}

// Verdict ends a rule.
func Verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}

// DNATed matches connections whose destination was changed.
func DNATed() []expr.Any {
	const ipsDstNAT = 1 << 5 // IPS_DST_NAT, linux/netfilter/nf_conntrack_common.h
	return bits(&expr.Ct{Key: expr.CtKeySTATUS, Register: Reg}, ipsDstNAT)
}

// New matches the first packets of connections.
func New() []expr.Any {
	return bits(&expr.Ct{Key: expr.CtKeySTATE, Register: Reg}, expr.CtStateBitNEW)
}

// Marked matches packets whose mark has a bit.
func Marked(bit uint32) []expr.Any {
	return bits(&expr.Meta{Key: expr.MetaKeyMARK, Register: Reg}, bit)
}

func bits(load expr.Any, mask uint32) []expr.Any {
	return []expr.Any{
		load,
		&expr.Bitwise{SourceRegister: Reg, DestRegister: Reg, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: Reg, Data: make([]byte, 4)},
	}
}

// Mark sets a bit of the packet's mark, or clears it.
func Mark(bit uint32, set bool) []expr.Any {
	xor := uint32(0)
	if set {
		xor = bit
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: Reg},
		&expr.Bitwise{SourceRegister: Reg, DestRegister: Reg, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(^bit), Xor: binaryutil.NativeEndian.PutUint32(xor)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: Reg},
	}
}

// Reset ends a connection of TCP that begins.
func Reset() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: Reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: Reg, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
	}
}

// Reject answers that the port can't be reached. The kernel limits how often it
// does so.
func Reject() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}}
}

// Key is address, protocol and port as a set's key or a map's value has them:
// each part padded to whole registers. The zero Addr and protocol are left out.
func Key(addr netip.Addr, protocol uint8, port uint16) []byte {
	b := addr.AsSlice()
	if protocol != 0 {
		b = append(b, protocol, 0, 0, 0)
	}
	return append(binary.BigEndian.AppendUint16(b, port), 0, 0)
}
