package podnet

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers of nf_tables in units of 4 bytes; reg1 is the first of them. A key
// of several parts is laid out from the first register on, each part in whole
// registers, and so is what a map gives back.
const reg32 = unix.NFT_REG32_00

// words is how many registers an address takes.
func words(is4 bool) uint32 {
	if is4 {
		return 1
	}
	return 4
}

func exprs(parts ...[]expr.Any) []expr.Any {
	var out []expr.Any
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func device(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{
		&expr.Meta{Key: key, Register: reg32},
		&expr.Cmp{Op: op, Register: reg32, Data: padded},
	}
}

func from(bridge string) []expr.Any { return device(expr.MetaKeyIIFNAME, expr.CmpOpEq, bridge) }
func to(bridge string) []expr.Any   { return device(expr.MetaKeyOIFNAME, expr.CmpOpEq, bridge) }
func notTo(bridge string) []expr.Any {
	return device(expr.MetaKeyOIFNAME, expr.CmpOpNeq, bridge)
}

// toTunnel matches devices to other hosts by how their names begin: without the
// closing zero a shorter comparison is one of beginnings.
func toTunnel() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg32},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg32, Data: []byte(TunnelDevices)},
	}
}

// snat gives packets the source a.
func snat(a netip.Addr) []expr.Any {
	nfproto := uint32(unix.NFPROTO_IPV6)
	if a.Is4() {
		nfproto = unix.NFPROTO_IPV4
	}
	return []expr.Any{
		&expr.Immediate{Register: reg32, Data: a.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: nfproto, RegAddrMin: reg32, Specified: false},
	}
}

func family(is4 bool) []expr.Any {
	proto := byte(unix.NFPROTO_IPV6)
	if is4 {
		proto = unix.NFPROTO_IPV4
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg32},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg32, Data: []byte{proto}},
	}
}

func loadAddr(is4 bool, offset4, offset6, register uint32) expr.Any {
	p := &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset6, Len: net.IPv6len}
	if is4 {
		p.Offset, p.Len = offset4, net.IPv4len
	}
	return p
}

// Offsets of RFC 791 and RFC 8200 headers.
func loadSource(is4 bool, register uint32) expr.Any { return loadAddr(is4, 12, 8, register) }
func loadDest(is4 bool, register uint32) expr.Any   { return loadAddr(is4, 16, 24, register) }

// within compares an address with a prefix; it checks the family first.
func within(load func(bool, uint32) expr.Any, op expr.CmpOp, p netip.Prefix) []expr.Any {
	addr := p.Masked().Addr()
	out := append(family(addr.Is4()), load(addr.Is4(), reg32))
	if !p.IsSingleIP() {
		out = append(out, &expr.Bitwise{
			SourceRegister: reg32, DestRegister: reg32, Len: uint32(addr.BitLen() / 8),
			Mask: net.CIDRMask(p.Bits(), addr.BitLen()), Xor: make([]byte, addr.BitLen()/8),
		})
	}
	return append(out, &expr.Cmp{Op: op, Register: reg32, Data: addr.AsSlice()})
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// icmpType matches one type of the family's ICMP.
func icmpType(is4 bool, icmp byte) []expr.Any {
	proto := byte(unix.IPPROTO_ICMPV6)
	if is4 {
		proto = unix.IPPROTO_ICMP
	}
	return exprs(family(is4), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg32},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg32, Data: []byte{proto}},
		&expr.Payload{DestRegister: reg32, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg32, Data: []byte{icmp}},
	})
}

// loadPort puts protocol and destination port into two registers.
func loadPort(register uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Payload{DestRegister: register + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// hostAddr matches packets for one of the host's own addresses.
func hostAddr() []expr.Any {
	local := binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)
	return []expr.Any{
		&expr.Fib{Register: reg32, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg32, Data: local},
	}
}

// dnatByMap sends a packet to where the map says; the key stands in the first
// registers.
func dnatByMap(is4 bool, name string) []expr.Any {
	nfproto := uint32(unix.NFPROTO_IPV6)
	if is4 {
		nfproto = unix.NFPROTO_IPV4
	}
	return []expr.Any{
		&expr.Lookup{SourceRegister: reg32, DestRegister: reg32, IsDestRegSet: true, SetName: name},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: nfproto, RegAddrMin: reg32, RegProtoMin: reg32 + words(is4), Specified: true},
	}
}

// wasDNATed matches connections whose destination was changed.
func wasDNATed() []expr.Any {
	const ipsDstNAT = 1 << 5 // IPS_DST_NAT, linux/netfilter/nf_conntrack_common.h
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: reg32},
		&expr.Bitwise{SourceRegister: reg32, DestRegister: reg32, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(ipsDstNAT), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg32, Data: make([]byte, 4)},
	}
}

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}
