package dnsd

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const (
	etcResolv = "/etc/resolv.conf"
	// resolvedUpstreams is where systemd-resolved lists the servers that it
	// asks itself (systemd-resolved.service(8), FILES).
	resolvedUpstreams = "/run/systemd/resolve/resolv.conf"
)

// Resolv is what a resolv.conf says.
type Resolv struct {
	Nameservers []netip.Addr // in order; an IPv6 one may carry a zone
	Searches    []string     // without closing dots
	Options     []string     // as written, later ones replacing earlier ones of the same name
}

// ParseResolv reads resolv.conf(5). Like the C library it skips what it does
// not understand. The last of several search and domain lines counts.
func ParseResolv(text []byte) Resolv {
	var r Resolv
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 || strings.HasPrefix(words[0], "#") || strings.HasPrefix(words[0], ";") {
			continue
		}
		switch words[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(words[1]); err == nil {
				r.Nameservers = append(r.Nameservers, a.Unmap())
			}
		case "domain":
			r.Searches = searches(words[1:2])
		case "search":
			r.Searches = searches(words[1:])
		case "options":
			for _, o := range words[1:] {
				r.Options = setOption(r.Options, o)
			}
		}
	}
	return r
}

func searches(words []string) []string {
	var out []string
	for _, w := range words {
		if w = strings.TrimSuffix(w, "."); w != "" && !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}

// setOption replaces the option of the same name, or adds one at the end.
func setOption(options []string, o string) []string {
	name, _, _ := strings.Cut(o, ":")
	for i, have := range options {
		if n, _, _ := strings.Cut(have, ":"); n == name {
			options[i] = o
			return options
		}
	}
	return append(options, o)
}

// stub tells whether a is systemd-resolved's own listener. Asking it would run
// in a circle once resolved asks this server for the cluster's names.
func stub(a netip.Addr) bool {
	return a == netip.AddrFrom4([4]byte{127, 0, 0, 53}) || a == netip.AddrFrom4([4]byte{127, 0, 0, 54})
}

// HostResolv tells how the host resolves names: /etc/resolv.conf, where
// systemd-resolved's stub is replaced by the servers behind it. Other resolvers
// on loopback (dnsmasq, unbound) stay, as this server shares the host's network
// namespace and they may know more than the servers behind them.
//
// An error says which file was unreadable; what could be read is returned with
// it.
func HostResolv(readFile func(string) ([]byte, error)) (Resolv, error) {
	b, err := readFile(etcResolv)
	if err != nil {
		return Resolv{}, fmt.Errorf("how the host resolves names: %w", err)
	}
	r := ParseResolv(b)
	others := slices.DeleteFunc(slices.Clone(r.Nameservers), stub)
	if len(others) == len(r.Nameservers) {
		return r, nil
	}
	onlyStubs := len(others) == 0
	r.Nameservers = others
	b, err = readFile(resolvedUpstreams)
	if err != nil {
		return r, fmt.Errorf("the name servers behind systemd-resolved: %w", err)
	}
	behind := ParseResolv(b)
	behind.Nameservers = slices.DeleteFunc(behind.Nameservers, stub)
	if onlyStubs {
		return behind, nil
	}
	for _, a := range behind.Nameservers {
		if !slices.Contains(r.Nameservers, a) {
			r.Nameservers = append(r.Nameservers, a)
		}
	}
	return r, nil
}

// Upstreams gives the name servers to forward to and the host's search list;
// see HostResolv, whose errors it returns. That there is none is an error too.
func Upstreams(readFile func(string) ([]byte, error)) (servers []netip.AddrPort, search []string, err error) {
	const domain = 53
	r, err := HostResolv(readFile)
	for _, a := range r.Nameservers {
		servers = append(servers, netip.AddrPortFrom(a, domain))
	}
	if err == nil && len(servers) == 0 {
		err = errors.New("the host has no name server")
	}
	return servers, r.Searches, err
}
