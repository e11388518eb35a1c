package daemon

import (
	"net/netip"

	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/dnsd"
)

// setUpstreams replaces the configured resolvers.
func (h *host) setUpstreams(c config.DNS) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.d.Config.DNS = c
}

// upstreams are the resolvers to forward to.
func (h *host) upstreams() []netip.AddrPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := resolverAddrs(h.d.Config.DNS.Upstreams)
	if len(list) > 0 {
		return list
	}
	for _, a := range h.resolv.Nameservers {
		list = append(list, netip.AddrPortFrom(a, 53))
	}
	return list
}

// stubs are the domains with resolvers of their own.
func (h *host) stubs() (list []dnsd.Stub) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for domain, servers := range h.d.Config.DNS.StubDomains {
		list = append(list, dnsd.Stub{Domain: domain, Servers: resolverAddrs(servers)})
	}
	return list
}

// resolverAddrs reads addresses, which were validated before.
func resolverAddrs(words []string) (list []netip.AddrPort) {
	for _, w := range words {
		if a, err := config.Upstream(w); err == nil {
			list = append(list, a)
		}
	}
	return list
}
