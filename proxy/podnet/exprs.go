package podnet

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/proxy/nft"
)

func device(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return []expr.Any{
		&expr.Meta{Key: key, Register: nft.Reg},
		&expr.Cmp{Op: op, Register: nft.Reg, Data: padded},
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
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: nft.Reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: nft.Reg, Data: []byte(TunnelDevices)},
	}
}

// within compares an address with a prefix; it checks the family first.
func within(load func(bool, uint32) expr.Any, op expr.CmpOp, p netip.Prefix) []expr.Any {
	addr := p.Masked().Addr()
	out := append(nft.Family(addr.Is4()), load(addr.Is4(), nft.Reg))
	if !p.IsSingleIP() {
		out = append(out, &expr.Bitwise{
			SourceRegister: nft.Reg, DestRegister: nft.Reg, Len: uint32(addr.BitLen() / 8),
			Mask: net.CIDRMask(p.Bits(), addr.BitLen()), Xor: make([]byte, addr.BitLen()/8),
		})
	}
	return append(out, &expr.Cmp{Op: op, Register: nft.Reg, Data: addr.AsSlice()})
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// icmpType matches one type of the family's ICMP.
func icmpType(is4 bool, icmp byte) []expr.Any {
	proto := byte(unix.IPPROTO_ICMPV6)
	if is4 {
		proto = unix.IPPROTO_ICMP
	}
	return nft.Rule(nft.Family(is4), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: nft.Reg},
		&expr.Cmp{Op: expr.CmpOpEq, Register: nft.Reg, Data: []byte{proto}},
		&expr.Payload{DestRegister: nft.Reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: nft.Reg, Data: []byte{icmp}},
	})
}

// hostAddr matches packets for one of the host's own addresses.
func hostAddr() []expr.Any {
	local := binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)
	return []expr.Any{
		&expr.Fib{Register: nft.Reg, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: nft.Reg, Data: local},
	}
}

// dnatByMap sends a packet to where the map says; the key stands in the first
// registers.
func dnatByMap(is4 bool, name string) []expr.Any {
	return []expr.Any{nft.Map(name, nft.Reg, nft.Reg), nft.DNAT(is4, nft.Reg)}
}
