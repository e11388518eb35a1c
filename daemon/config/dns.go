package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// DNS is how names outside the cluster are resolved.
type DNS struct {
	// Upstreams replace the host's own resolvers, "ADDRESS" or "ADDRESS:PORT".
	Upstreams []string `toml:"upstreams"`
	// StubDomains are domains whose names are asked of servers of their own,
	// written as Upstreams are.
	StubDomains map[string][]string `toml:"stub_domains"`
}

func (d DNS) validate(domain string, bad func(key, value, want string, args ...any)) {
	addresses := func(key string, list []string) {
		for _, u := range list {
			if _, err := Upstream(u); err != nil {
				bad(key, u, `want "ADDRESS" or "ADDRESS:PORT"`)
			}
		}
	}
	addresses("dns.upstreams", d.Upstreams)
	for _, stub := range slices.Sorted(maps.Keys(d.StubDomains)) {
		key := fmt.Sprintf("dns.stub_domains.%q", stub)
		switch msgs := validation.IsDNS1123Subdomain(stub); {
		case len(msgs) > 0:
			bad(key, stub, "want a domain: %s", strings.Join(msgs, "; "))
		case stub == domain || strings.HasSuffix(stub, "."+domain):
			bad(key, stub, "names below %s are the cluster's own, and asked of nobody", domain)
		case len(d.StubDomains[stub]) == 0:
			bad(key, "[]", "want at least one server")
		}
		addresses(key, d.StubDomains[stub])
	}
}

// Upstream reads a resolver's address; the port is 53 unless given.
func Upstream(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	return netip.ParseAddrPort(s)
}
