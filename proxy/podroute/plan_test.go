package podroute

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func key(b byte) wgtypes.Key { return wgtypes.Key{b} }

// The address plan: node N has 10.244.N.0/24 and fd00:N::/64, and 192.0.2.N and
// fd00:ee::N outside.
var (
	all  = []Backend{WireGuard, VXLAN}
	lan  = Host{Cluster: prefixes("10.244.0.0/16", "fd00::/16"), OnLink: prefixes("192.0.2.0/24", "fd00:ee::/64"), Networks: prefixes("192.0.2.0/24", "10.99.0.0/16"), MTU: 1400}
	self = Site{Node: "n1", CIDRs: prefixes("10.244.1.0/24", "fd00:1::/64"), Addresses: addrs("192.0.2.1", "fd00:ee::1"), Backends: all}
)

func site(node, n string, backends ...Backend) Site {
	return Site{Node: node, CIDRs: prefixes("10.244."+n+".0/24", "fd00:"+n+"::/64"), Addresses: addrs("192.0.2."+n, "fd00:ee::"+n),
		Backends: backends, WireGuardKey: key(n[0]).String(), WireGuardPort: 51871}
}

func with(s Site, change func(*Site)) Site { change(&s); return s }

func TestEachTwoNodesUseTheBestThatBothOffer(t *testing.T) {
	for _, c := range []struct {
		name, want string
		own        Site
		others     []Site
	}{
		{"wireguard where both have it, vxlan else", `10.244.2.0/24 dev shoal-wg src 10.244.1.1
10.244.3.0/24 via 10.244.3.1 dev shoal-vx src 10.244.1.1
fd00:2::/64 dev shoal-wg src fd00:1::1
fd00:3::/64 via fd00:3::1 dev shoal-vx src fd00:1::1
peer MgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= endpoint 192.0.2.2:51871 allowed-ips [10.244.2.0/24 fd00:2::/64]
fdb ` + hardwareAddr("n3").String() + ` dst 192.0.2.3
`, self, []Site{site("n3", "3", VXLAN), site("n2", "2", all...), self}},
		{"host-gw goes by each family's own address", `10.244.2.0/24 via 192.0.2.2
`, with(self, func(s *Site) { s.Backends = []Backend{HostGW} }), []Site{site("n2", "2", HostGW)}},
		{"nothing in common is said", `no way to the pods of node n2: it offers host-gw, this host wireguard and vxlan: set network.backend alike
`, self, []Site{site("n2", "2", HostGW)}},
		{"host-gw behind a router is said", `no way to the pods of node n2: host-gw needs both hosts in one network, and 198.51.100.2 is in none of this host's ([192.0.2.0/24 fd00:ee::/64]): use vxlan or wireguard
`, with(self, func(s *Site) { s.Backends = []Backend{HostGW} }), []Site{with(site("n2", "2", HostGW), func(s *Site) { s.Addresses = addrs("198.51.100.2") })}},
		{"no key is no way", `no way to the pods of node n2: it says no WireGuard key and port that can be read
`, self, []Site{with(site("n2", "2", all...), func(s *Site) { s.WireGuardKey = "x" })}},
		{"a range that nobody should have is not led there", `no way to the pods of node n2: its pod CIDR 0.0.0.0/0 is not in network.cluster_cidrs of this host ([10.244.0.0/16 fd00::/16]): set that alike on all hosts; its pod CIDR fd00:ee::/64 holds the address fd00:ee::1 of node n1
no way to the pods of node n3: its pod CIDR 10.244.1.0/25 overlaps this node's ([10.244.1.0/24 fd00:1::/64])
`, self, []Site{
			with(site("n2", "2", VXLAN), func(s *Site) { s.CIDRs = prefixes("0.0.0.0/0", "fd00:ee::/64") }),
			with(site("n3", "3", VXLAN), func(s *Site) { s.CIDRs = prefixes("10.244.1.0/25") })}},
		{"a node without a range needs no way", "", self, []Site{with(site("n2", "2", VXLAN), func(s *Site) { s.CIDRs = nil })}},
	} {
		if got := Decide(c.own, c.others, lan).String(); got != c.want {
			t.Errorf("%s: got\n%swant\n%s", c.name, got, c.want)
		}
	}
}

func TestARangeOverTheHostsOwnNetworkIsSaid(t *testing.T) {
	h := lan
	h.Cluster = prefixes("10.0.0.0/8")
	got := Decide(self, []Site{with(site("n2", "2", VXLAN), func(s *Site) { s.CIDRs = prefixes("10.99.7.0/24") })}, h).String()
	if want := "no way to the pods of node n2: its pod CIDR 10.99.7.0/24 overlaps this host's own network 10.99.0.0/16: choose other cluster_cidrs\n"; got != want {
		t.Errorf("got %swant %s", got, want)
	}
}

func TestTheMTUIsWhatGoesThrough(t *testing.T) {
	for _, c := range []struct {
		underlay, configured int
		backends             []Backend
		outer6, pods6        bool
		mtu                  int
		says                 string
	}{
		{1500, 0, []Backend{HostGW}, false, false, 1500, ""},
		{1500, 0, []Backend{VXLAN}, false, false, 1450, ""},
		{1500, 0, []Backend{VXLAN}, true, false, 1430, ""},
		{1500, 0, all, false, true, 1440, ""},
		{1500, 0, all, true, true, 1420, ""},
		{1500, 1400, all, true, true, 1400, ""},
		{1500, 1500, all, false, true, 1500, "network.mtu = 1500 is more than the 1440 bytes that go through between hosts (wireguard and vxlan over 1500): larger packets are lost or cut in pieces"},
		{1300, 0, all, false, true, 1280, "between hosts only packets of 1240 bytes go through (wireguard and vxlan over 1300), and pods need 1280: larger ones are lost or cut in pieces"},
	} {
		mtu, says := MTU(c.underlay, c.backends, c.outer6, c.pods6, c.configured)
		if mtu != c.mtu || says != c.says {
			t.Errorf("%+v: got %d %q", c, mtu, says)
		}
	}
}

func TestAKeyIsKeptUntilItIsOld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wireguard.key")
	now := time.Unix(1_700_000_000, 0)
	first, err := OpenKey(path, now)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v %v", info.Mode(), err)
	}
	if again, err := OpenKey(path, now.Add(KeyLife-time.Second)); err != nil || again != first {
		t.Errorf("before its time: %v, another key: %v", err, again != first)
	}
	next, err := OpenKey(path, now.Add(KeyLife))
	if err != nil || next == first {
		t.Errorf("when it is old: %v, the same key: %v", err, next == first)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKey(path, now.Add(KeyLife)); err == nil || !strings.Contains(err.Error(), "can be read by others") {
		t.Errorf("a key for all to read: %v", err)
	}
}
