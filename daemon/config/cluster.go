package config

import (
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// Cluster is how this host and others are one. Without a key file and without
// join, a host is a cluster of its own and listens to nobody.
type Cluster struct {
	// KeyFile holds the cluster's keys, mode 0600; default
	// "/etc/shoal/cluster.key".
	KeyFile string `toml:"key_file"`
	// Bind is the address to listen on; default: all.
	Bind string `toml:"bind"`
	// Advertise is the address at which the others reach this host; default: the
	// one that the default route uses.
	Advertise string `toml:"advertise"`
	// GossipPort is for UDP and TCP; default 7946, as Serf's.
	GossipPort int `toml:"gossip_port"`
	// PeerPort is for TCP; default 7947.
	PeerPort int `toml:"peer_port"`

	BindAddr      netip.Addr `toml:"-"` // zero: all
	AdvertiseAddr netip.Addr `toml:"-"` // zero: to be found out
}

func (c *Cluster) setDefaults() {
	if c.KeyFile == "" {
		c.KeyFile = "/etc/shoal/cluster.key"
	}
	if c.GossipPort == 0 {
		c.GossipPort = 7946
	}
	if c.PeerPort == 0 {
		c.PeerPort = 7947
	}
}

func (c *Cluster) validate(join []string, bad func(key, value, want string, args ...any)) {
	for _, entry := range join {
		if !validJoin(entry) {
			bad("join", entry, `want a host or an address of another host, with or without a port: "web2", "web2:7946", "[2001:db8::2]:7946"`)
		}
	}
	if !filepath.IsAbs(c.KeyFile) {
		bad("cluster.key_file", c.KeyFile, "want an absolute path")
	}
	var err error
	if c.Bind != "" {
		if c.BindAddr, err = netip.ParseAddr(c.Bind); err != nil || c.BindAddr.Zone() != "" {
			bad("cluster.bind", c.Bind, "want an address of this host, without a port")
		}
	}
	if c.Advertise != "" {
		c.AdvertiseAddr, err = netip.ParseAddr(c.Advertise)
		if err != nil || c.AdvertiseAddr.IsUnspecified() || c.AdvertiseAddr.IsMulticast() || c.AdvertiseAddr.Zone() != "" {
			bad("cluster.advertise", c.Advertise, "want the address, without a port, at which other hosts reach this one")
		}
	}
	for _, p := range []struct {
		key string
		is  int
	}{{"cluster.gossip_port", c.GossipPort}, {"cluster.peer_port", c.PeerPort}} {
		if p.is < 1 || p.is > 65535 {
			bad(p.key, strconv.Itoa(p.is), "want 1 to 65535")
		}
	}
	if c.GossipPort == c.PeerPort {
		bad("cluster.peer_port", strconv.Itoa(c.PeerPort), "want another port than gossip_port: both use TCP")
	}
}

// validJoin says whether an entry is a host name or an address, with or without
// a port.
func validJoin(entry string) bool {
	host := entry
	if _, err := netip.ParseAddr(strings.Trim(entry, "[]")); err == nil {
		return true
	}
	if strings.Contains(entry, ":") {
		h, port, err := net.SplitHostPort(entry)
		n, bad := strconv.ParseUint(port, 10, 16)
		if err != nil || bad != nil || n == 0 {
			return false
		}
		host = h
	}
	return host != "" && !strings.ContainsAny(host, "/ \t\"")
}
