package service

import (
	"cmp"
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/proxy/nft"
)

// perMessage is how many elements one netlink message has: a list of them has at
// most 64 KiB.
const perMessage = 400

// encoded is an element as the kernel has it: the key, its end where it is a
// range, and what a map has for it: a value or, of services, a chain.
type encoded struct{ key, end, value string }

func (e element) encode() encoded {
	var out encoded
	switch e.set {
	case cluster:
		return encoded{key: string(e.f.Addr.AsSlice())}
	case hairpin:
		a := string(e.to.Addr().AsSlice())
		return encoded{key: a + a}
	}
	key := nft.Key(e.f.Addr, protocols[e.f.Protocol], e.f.Port)
	switch e.set {
	case services, insiders:
		out.value = e.chain.String()
	case endpoints:
		key = binary.NativeEndian.AppendUint32(key, e.slot)
		out.value = string(nft.Key(e.to.Addr(), 0, e.to.Port()))
	case choices:
		key = binary.NativeEndian.AppendUint32(key, e.slot)
		out.value = string(binary.NativeEndian.AppendUint32(nil, e.id))
	case members:
		key = binary.NativeEndian.AppendUint32(key, e.id)
		out.value = string(nft.Key(e.to.Addr(), 0, e.to.Port()))
	case allowed:
		out.end = string(append(key[:len(key):len(key)], last(e.from).AsSlice()...))
		key = append(key, e.from.Addr().AsSlice()...)
	}
	out.key = string(key)
	return out
}

// decode is encode for what the library read.
func decode(s set, e nftables.SetElement) encoded {
	out := encoded{string(e.Key), string(e.KeyEnd), string(e.Val)}
	if s == services || s == insiders { // the library leaves a verdict's attributes as they came
		out.value = ""
		if ad, err := netlink.NewAttributeDecoder(e.Val); err == nil {
			for ad.Next() {
				if ad.Type() == unix.NFTA_VERDICT_CHAIN {
					out.value = ad.String()
				}
			}
		}
	}
	return out
}

// batch gathers changes of elements for one transaction. The library's own
// encoding costs as much as the kernel's part of it.
type batch struct {
	kind uint16 // NFT_MSG_NEWSETELEM or NFT_MSG_DELSETELEM
	list [numSets][2][]byte
	held [numSets][2]int
	done []netlink.Message
}

func (b *batch) add(s set, is4 bool, e encoded) {
	list, held := &b.list[s][six(is4)], &b.held[s][six(is4)]
	var item []byte
	item = nested(item, unix.NFTA_SET_ELEM_KEY, attribute(nil, unix.NFTA_DATA_VALUE, e.key))
	if e.end != "" {
		item = nested(item, nftables.NFTA_SET_ELEM_KEY_END, attribute(nil, unix.NFTA_DATA_VALUE, e.end))
	}
	switch {
	case e.value == "" || b.kind == unix.NFT_MSG_DELSETELEM:
	case s == services || s == insiders:
		kind := int32(expr.VerdictGoto)
		verdict := attribute(nil, unix.NFTA_VERDICT_CODE, string(binary.BigEndian.AppendUint32(nil, uint32(kind))))
		verdict = attribute(verdict, unix.NFTA_VERDICT_CHAIN, e.value+"\x00")
		item = nested(item, unix.NFTA_SET_ELEM_DATA, nested(nil, unix.NFTA_DATA_VERDICT, verdict))
	default:
		item = nested(item, unix.NFTA_SET_ELEM_DATA, attribute(nil, unix.NFTA_DATA_VALUE, e.value))
	}
	*list = nested(*list, unix.NFTA_LIST_ELEM, item)
	if *held++; *held == perMessage {
		b.close(s, six(is4))
	}
}

func (b *batch) close(s set, f int) {
	if b.held[s][f] == 0 {
		return
	}
	data := []byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}
	data = attribute(data, unix.NFTA_SET_ELEM_LIST_TABLE, tableName+"\x00")
	data = attribute(data, unix.NFTA_SET_ELEM_LIST_SET, setNames[s]+family(f == 0)+"\x00")
	data = nested(data, unix.NFTA_SET_ELEM_LIST_ELEMENTS, b.list[s][f])
	flags := netlink.Request | netlink.Acknowledge
	if b.kind == unix.NFT_MSG_NEWSETELEM {
		flags |= netlink.Create
	}
	b.done = append(b.done, netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | b.kind), Flags: flags}, Data: data})
	b.list[s][f], b.held[s][f] = b.list[s][f][:0], 0
}

func (b *batch) messages() []netlink.Message {
	for s := range b.list {
		for f := range b.list[s] {
			b.close(set(s), f)
		}
	}
	return b.done
}

func attribute(b []byte, kind uint16, value string) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.NLA_HDRLEN+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	return append(b, "\x00\x00\x00"[:-len(value)&3]...)
}

func nested(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.NLA_HDRLEN+len(value)))
	return append(binary.NativeEndian.AppendUint16(b, kind|unix.NLA_F_NESTED), value...)
}

// send carries out what goes and what is new, in one transaction.
func send(conn *netlink.Conn, gone, fresh *batch) error {
	messages := append(gone.messages(), fresh.messages()...)
	if len(messages) == 0 {
		return nil
	}
	mark := func(kind netlink.HeaderType) netlink.Message {
		return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request}, Data: []byte{0, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}}
	}
	whole := append(append([]netlink.Message{mark(unix.NFNL_MSG_BATCH_BEGIN)}, messages...), mark(unix.NFNL_MSG_BATCH_END))
	if _, err := conn.SendMessages(whole); err != nil {
		return err
	}
	var failed error
	for range messages {
		if _, err := conn.Receive(); err != nil {
			failed = cmp.Or(failed, err)
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM) {
				break // the one answer to all of it
			}
		}
	}
	return failed
}

// enlarge makes room for a transaction, which is one message of up to some 20 MB,
// and for the answers to its parts.
func enlarge(conn *netlink.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 64<<20),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20))
	})
	return cmp.Or(err, failed)
}

// last is a prefix's last address.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
