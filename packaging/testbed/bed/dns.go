package bed

import (
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// Domain is what the bed's name server, the hosts' upstream, knows about: n1.bed.test, registry.bed.test. Every other
// name does not exist, which tests rely on: nothing in a bed reaches the world.
const Domain = "bed.test."

const ttl = 5 // seconds: what a test asks for twice it wants fresh

// zone is the addresses behind complete names.
func zone(hosts []hostSpec) map[string]netip.Addr {
	z := map[string]netip.Addr{"registry." + Domain: gateway}
	for _, h := range hosts {
		z[h.Name+"."+Domain] = h.Addr
	}
	return z
}

// reply answers one question from a zone.
func reply(question *dns.Msg, z map[string]netip.Addr) *dns.Msg {
	m := new(dns.Msg).SetReply(question)
	m.Authoritative = true
	for _, q := range question.Question {
		addr, known := z[strings.ToLower(q.Name)]
		switch {
		case !known:
			m.Rcode = dns.RcodeNameError
		case q.Qtype == dns.TypeA:
			header := dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
			m.Answer = append(m.Answer, &dns.A{Hdr: header, A: net.IP(addr.AsSlice())})
		}
	}
	return m
}

// serveNames answers on the bed's address, over UDP and TCP.
func (w *world) serveNames() error {
	z := zone(w.spec.Hosts)
	answer := dns.HandlerFunc(func(rw dns.ResponseWriter, m *dns.Msg) { _ = rw.WriteMsg(reply(m, z)) })
	addr := netip.AddrPortFrom(gateway, 53)
	packets, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return err
	}
	streams, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(addr))
	if err != nil {
		return err
	}
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: answer}, {Listener: streams, Handler: answer}} {
		go func() { w.log.Error("name server ended", "error", server.ActivateAndServe()) }()
	}
	return nil
}
