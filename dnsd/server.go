package dnsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// Forwarded questions and TCP connections at one time. A pod's resolver has
	// two or three under way; a crawler some hundred.
	questionsEach, questionsAll     = 256, 2048
	connectionsEach, connectionsAll = 32, 512
	rebindEvery                     = time.Second
	quiet                           = time.Hour // may pass between two questions
)

// Config says where the server listens, whom it serves and whom it asks.
type Config struct {
	Domain    string                  // for people reading the log; names come from the Zone
	Listen    []netip.AddrPort        // may be bound before the address exists
	Upstreams func() []netip.AddrPort // called for each forwarded question: must be quick; nil: none
	Stubs     func() []Stub           // likewise; who is asked for names in some domains instead
	Clients   []netip.Prefix          // others are refused; loopback is always served
}

// Stub is a domain whose names have name servers of their own.
type Stub struct {
	Domain  string
	Servers []netip.AddrPort
}

// Server answers DNS queries. SetZone may be called at any time.
type Server struct {
	cfg         Config
	log         *slog.Logger
	zone        atomic.Pointer[Zone]
	forward     *forwarder
	questions   *limit
	connections *limit
	turn        atomic.Uint32 // which of several addresses comes first
	tally       tally
}

// New makes a server that knows no names yet.
func New(cfg Config, log *slog.Logger) *Server {
	if cfg.Upstreams == nil {
		cfg.Upstreams = func() []netip.AddrPort { return nil }
	}
	if cfg.Stubs == nil {
		cfg.Stubs = func() []Stub { return nil }
	}
	s := &Server{
		cfg: cfg, log: log,
		forward: &forwarder{
			upstreams: cfg.Upstreams, stubs: cfg.Stubs, own: cfg.Listen, log: log, now: time.Now,
			cache: newCache(), down: map[netip.AddrPort]bool{},
		},
		questions:   newLimit(questionsEach, questionsAll),
		connections: newLimit(connectionsEach, connectionsAll),
	}
	s.zone.Store(&Zone{})
	return s
}

// SetZone makes z what the server answers from. Later changes of z count at
// once.
func (s *Server) SetZone(z *Zone) { s.zone.Store(z) }

// Serve answers until ctx ends and returns nil then. An address that another
// program holds is tried again each second; that is logged once.
func (s *Server) Serve(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { s.forward.probe(ctx); return nil })
	for _, at := range s.cfg.Listen {
		g.Go(func() error { s.serveAlways(ctx, at); return nil })
	}
	return g.Wait()
}

func (s *Server) serveAlways(ctx context.Context, at netip.AddrPort) {
	var last string
	for {
		err := s.serve(ctx, at)
		if ctx.Err() != nil {
			return
		}
		if text := fmt.Sprint(err); text != last {
			s.log.Error("dns cannot listen, trying again", "address", at, "err", err)
			last = text
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rebindEvery):
		}
	}
}

// serve listens on one address, UDP and TCP, until ctx ends or either fails.
func (s *Server) serve(ctx context.Context, at netip.AddrPort) error {
	lc := net.ListenConfig{Control: freeBind}
	pc, err := lc.ListenPacket(ctx, "udp", at.String())
	if err != nil {
		return err
	}
	defer pc.Close()
	l, err := lc.Listen(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	defer l.Close()
	s.log.Info("dns is listening", "address", at, "domain", s.cfg.Domain)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) { s.handle(ctx, w, req) })
	// By default it wakes every two seconds to find that nobody asks.
	udp := &dns.Server{PacketConn: pc, Handler: handler, UDPSize: dns.DefaultMsgSize, ReadTimeout: quiet}
	tcp := &dns.Server{Listener: limitedListener{l, s.connections, s.allowed}, Handler: handler}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ended(udp.ActivateAndServe()) })
	g.Go(func() error { return ended(tcp.ActivateAndServe()) })
	<-ctx.Done()
	// Closing ends a server even in the moment before it counts as started,
	// which Shutdown does not.
	_ = pc.Close()
	_ = l.Close()
	_ = tcp.Shutdown()
	return g.Wait()
}

// ended makes an orderly end an error too, so that the group sees it.
func ended(err error) error {
	if err == nil {
		return net.ErrClosed
	}
	return err
}

// freeBind lets the server start before the bridge has its addresses
// (IP_FREEBIND, ip(7)).
func freeBind(network, _ string, c syscall.RawConn) error {
	var err error
	ctl := c.Control(func(fd uintptr) {
		if network[len(network)-1] == '6' {
			err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
		}
	})
	return errors.Join(ctl, err)
}

func (s *Server) allowed(client netip.Addr) bool {
	return client.IsLoopback() || slices.ContainsFunc(s.cfg.Clients, func(p netip.Prefix) bool { return p.Contains(client) })
}

// handle answers one query.
func (s *Server) handle(ctx context.Context, w dns.ResponseWriter, req *dns.Msg) {
	_, overUDP := w.RemoteAddr().(*net.UDPAddr)
	m, source := s.reply(ctx, addrOf(w.RemoteAddr()), req)
	s.tally.add(source, m.Rcode)
	finish(m, req, overUDP)
	if err := w.WriteMsg(m); err != nil {
		s.log.Debug("dns answer not sent", "client", w.RemoteAddr(), "err", err)
	}
}

// reply decides what the answer is, apart from header, EDNS0 and size, and
// tells where it is from.
func (s *Server) reply(ctx context.Context, client netip.Addr, req *dns.Msg) (m *dns.Msg, source string) {
	if !s.allowed(client) {
		return refusal(dns.RcodeRefused, dns.ExtendedErrorCodeProhibited, "not a pod of this host"), fromNobody
	}
	if req.Opcode != dns.OpcodeQuery {
		return rcode(dns.RcodeNotImplemented), fromNobody
	}
	if len(req.Question) != 1 {
		return rcode(dns.RcodeFormatError), fromNobody
	}
	if opt := req.IsEdns0(); opt != nil && opt.Version() != 0 {
		return rcode(dns.RcodeBadVers), fromNobody
	}
	q := req.Question[0]
	if q.Qclass != dns.ClassINET || isMeta(q.Qtype) {
		return rcode(dns.RcodeRefused), fromNobody
	}
	return s.complete(ctx, client, req)
}

// look answers q, which need not be what req asks, as it stands.
func (s *Server) look(ctx context.Context, client netip.Addr, req *dns.Msg, q dns.Question) (m *dns.Msg, source string) {
	if m, ok := s.zone.Load().Answer(q); ok {
		return s.follow(ctx, client, req, q, m), fromZone
	}
	if q.Qtype == dns.TypeANY {
		return &dns.Msg{Answer: []dns.RR{minimalANY(q.Name)}}, fromNobody
	}
	if !req.RecursionDesired {
		return rcode(dns.RcodeRefused), fromNobody
	}
	return s.recurse(ctx, client, req, q), fromForward
}

// follow adds to the zone's answer what its last CNAME record leads to, where
// that is a name elsewhere, and gives several addresses in turn the first place.
func (s *Server) follow(ctx context.Context, client netip.Addr, req *dns.Msg, q dns.Question, m *dns.Msg) *dns.Msg {
	s.rotate(m.Answer)
	if len(m.Answer) == 0 || q.Qtype == dns.TypeCNAME || m.Rcode != dns.RcodeSuccess || !req.RecursionDesired {
		return m
	}
	last, ok := m.Answer[len(m.Answer)-1].(*dns.CNAME)
	if !ok || s.zone.Load().has(last.Target) {
		return m
	}
	q.Name = last.Target
	there := s.recurse(ctx, client, req, q)
	if there.Rcode != dns.RcodeSuccess && there.Rcode != dns.RcodeNameError {
		return there
	}
	there.Answer = append(m.Answer, there.Answer...)
	there.AuthenticatedData = false
	return there
}

// rotate turns the addresses at the end of an answer, since many clients take
// the first alone.
func (s *Server) rotate(answer []dns.RR) {
	from := slices.IndexFunc(answer, func(rr dns.RR) bool {
		t := rr.Header().Rrtype
		return t == dns.TypeA || t == dns.TypeAAAA
	})
	if from < 0 || len(answer)-from < 2 {
		return
	}
	addrs := answer[from:]
	n := int(s.turn.Add(1) % uint32(len(addrs)))
	copy(addrs, append(slices.Clone(addrs[n:]), addrs[:n]...))
}

func (s *Server) recurse(ctx context.Context, client netip.Addr, req *dns.Msg, q dns.Question) *dns.Msg {
	k := key{name: dns.CanonicalName(q.Name), qtype: q.Qtype, cd: req.CheckingDisabled}
	if opt := req.IsEdns0(); opt != nil {
		k.do = opt.Do()
	}
	if !s.questions.enter(client) {
		return refusal(dns.RcodeRefused, dns.ExtendedErrorCodeProhibited, "too many questions at one time")
	}
	defer s.questions.leave(client)
	m := s.forward.resolve(ctx, k)
	m.Authoritative = false
	m.AuthenticatedData = m.AuthenticatedData && (req.AuthenticatedData || k.do)
	return m
}

// isMeta are the types that ask for more than records: transfers and the like
// (RFC 6895, section 3.1), other than ANY.
func isMeta(t uint16) bool { return t >= 128 && t < dns.TypeANY || t == dns.TypeOPT }

func rcode(code int) *dns.Msg { return &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: code}} }

func refusal(code int, ede uint16, text string) *dns.Msg {
	m := rcode(code)
	explain(m, ede, text)
	return m
}

// isHopByHop are records that belong to one message, not to the answer in it.
func isHopByHop(rr dns.RR) bool {
	t := rr.Header().Rrtype
	return t == dns.TypeOPT || t == dns.TypeTSIG || t == dns.TypeSIG
}

// finish makes m the reply to req: its id and question, EDNS0 if the client
// speaks it, no longer than the client takes.
func finish(m, req *dns.Msg, overUDP bool) {
	m.Id, m.Opcode, m.Question = req.Id, req.Opcode, req.Question
	m.Response, m.RecursionDesired, m.RecursionAvailable = true, req.RecursionDesired, true
	m.CheckingDisabled, m.Zero, m.Truncated, m.Compress = req.CheckingDisabled, false, false, true
	var reasons []dns.EDNS0
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if _, ok := o.(*dns.EDNS0_EDE); ok {
				reasons = append(reasons, o)
			}
		}
	}
	m.Extra = slices.DeleteFunc(slices.Clone(m.Extra), isHopByHop)
	size := dns.MinMsgSize
	if opt := req.IsEdns0(); opt != nil {
		size = max(size, min(int(opt.UDPSize()), udpSize))
		m.SetEdns0(udpSize, opt.Do())
		m.IsEdns0().Option = reasons
	} else if m.Rcode > 0xf {
		m.Rcode = dns.RcodeServerFailure // the extended bits live in the OPT record
	}
	if !overUDP {
		size = dns.MaxMsgSize
	}
	if m.Len() > size {
		m.Extra = slices.DeleteFunc(m.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype != dns.TypeOPT }) // no reason to ask again over TCP (RFC 2181, section 9)
	}
	m.Truncate(size)
}
