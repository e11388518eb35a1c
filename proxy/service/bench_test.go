package service

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/proxy/nettest"
)

const benchEndpoints = 10

func benchWish(i, endpoints int) (Key, Wish) {
	addr := func(a, b byte) netip.Addr { return netip.AddrFrom4([4]byte{a, b, byte(i >> 8), byte(i)}) }
	r := Rule{Frontend: Frontend{addr(10, 96), v1.ProtocolTCP, 80}, Cluster: true, Source: HideOutside}
	for j := range endpoints {
		r.Backends = append(r.Backends, netip.AddrPortFrom(addr(10, byte(100+j)), 8080))
	}
	return Key{"default", fmt.Sprintf("s%05d", i)}, Wish{Rules: []Rule{r}}
}

func benchProxy(b *testing.B, services int) *Proxy {
	nettest.Need(b)
	p, err := Open(Config{Inside: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := p.Remove(); err != nil {
			b.Error(err)
		}
		p.Close()
	})
	wishes := make(map[Key]Wish)
	for i := range services {
		key, w := benchWish(i, benchEndpoints)
		wishes[key] = w
	}
	if err := p.Apply(wishes); err != nil {
		b.Fatal(err)
	}
	return p
}

// BenchmarkServices is all services of a node written anew, and the kernel's
// share of it: BenchmarkFloor.
func BenchmarkServices(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := benchProxy(b, n)
			for b.Loop() {
				b.StopTimer()
				if err := p.remove(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := p.repair(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOneEndpoint is one endpoint that goes, or comes back, among so many
// services.
func BenchmarkOneEndpoint(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := benchProxy(b, n)
			for i := 0; b.Loop(); i++ {
				key, w := benchWish(n/2, benchEndpoints-i%2)
				if err := p.Apply(map[Key]Wish{key: w}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFloor is what the kernel needs for the same elements alone: one
// message that is made beforehand, for two maps without rules.
func BenchmarkFloor(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			nettest.Need(b)
			batch := floorBatch(n)
			fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER)
			if err != nil {
				b.Fatal(err)
			}
			defer unix.Close(fd)
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 64<<20); err != nil {
				b.Fatal(err)
			}
			to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
			answer := make([]byte, 1<<16)
			for b.Loop() {
				if err := unix.Sendto(fd, batch, 0, to); err != nil {
					b.Fatal(err)
				}
				got, _, err := unix.Recvfrom(fd, answer, 0)
				if err != nil || got < 20 || int32(binary.NativeEndian.Uint32(answer[16:])) != 0 {
					b.Fatalf("answer %x: %v", answer[:got], err)
				}
			}
		})
	}
}

// nlmsg and attr are netlink's layout by hand.
func nlmsg(b []byte, kind, flags uint16, family byte, attrs []byte) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(20+len(attrs)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, family, 0)
	id := uint16(0)
	if kind < 0x100 {
		id = unix.NFNL_SUBSYS_NFTABLES
	}
	return append(binary.BigEndian.AppendUint16(b, id), attrs...)
}

func attr(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	return append(b, make([]byte, -len(value)&3)...)
}

func number(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func floorBatch(count int) []byte {
	const nested, tables, inet = unix.NLA_F_NESTED, unix.NFNL_SUBSYS_NFTABLES << 8, 1
	table := []byte("floor\x00")
	b := nlmsg(nil, unix.NFNL_MSG_BATCH_BEGIN, 0, 0, nil)
	b = nlmsg(b, tables|unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, inet, attr(nil, unix.NFTA_TABLE_NAME, table))
	b = nlmsg(b, tables|unix.NFT_MSG_DELTABLE, 0, inet, attr(nil, unix.NFTA_TABLE_NAME, table))
	b = nlmsg(b, tables|unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, inet, attr(nil, unix.NFTA_TABLE_NAME, table))
	for i, m := range []struct {
		name                string
		key, value, valueOf uint32
	}{{"services\x00", 12, 4, 1}, {"endpoints\x00", 16, 8, 1}} {
		a := attr(nil, unix.NFTA_SET_TABLE, table)
		a = attr(a, unix.NFTA_SET_NAME, []byte(m.name))
		a = attr(a, unix.NFTA_SET_ID, number(uint32(i+1)))
		a = attr(a, unix.NFTA_SET_FLAGS, number(unix.NFT_SET_MAP))
		a = attr(a, unix.NFTA_SET_KEY_TYPE, number(1))
		a = attr(a, unix.NFTA_SET_KEY_LEN, number(m.key))
		a = attr(a, unix.NFTA_SET_DATA_TYPE, number(m.valueOf))
		a = attr(a, unix.NFTA_SET_DATA_LEN, number(m.value))
		b = nlmsg(b, tables|unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, inet, a)
		var list []byte
		held := 0
		send := func() {
			e := attr(nil, unix.NFTA_SET_ELEM_LIST_TABLE, table)
			e = attr(e, unix.NFTA_SET_ELEM_LIST_SET, []byte(m.name))
			e = attr(e, unix.NFTA_SET_ELEM_LIST_ELEMENTS|nested, list)
			b = nlmsg(b, tables|unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, inet, e)
			list, held = nil, 0
		}
		add := func(key, value []byte) {
			e := attr(nil, unix.NFTA_SET_ELEM_KEY|nested, attr(nil, unix.NFTA_DATA_VALUE, key))
			e = attr(e, unix.NFTA_SET_ELEM_DATA|nested, attr(nil, unix.NFTA_DATA_VALUE, value))
			list = attr(list, unix.NFTA_LIST_ELEM|nested, e)
			if held++; held == perMessage {
				send()
			}
		}
		for s := range count {
			_, w := benchWish(s, benchEndpoints)
			r := inForce{Rule: w.Rules[0], slots: w.Rules[0].Backends}
			r.elements(func(netip.Addr) bool { return false }, func(e element) {
				switch out := e.encode(); {
				case i == 0 && e.set == services:
					add([]byte(out.key), []byte{0, 0, 0, 1})
				case i == 1 && e.set == endpoints:
					add([]byte(out.key), []byte(out.value))
				}
			})
		}
		if held > 0 {
			send()
		}
	}
	return nlmsg(b, unix.NFNL_MSG_BATCH_END, unix.NLM_F_ACK, 0, nil)
}
