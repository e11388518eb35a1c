package podnet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAddressesOfAPool(t *testing.T) {
	for _, c := range []struct {
		cidr, gateway, first, last string
		size                       uint32
	}{
		{"10.244.0.0/24", "10.244.0.1", "10.244.0.2", "10.244.0.254", 253},
		{"10.244.255.0/30", "10.244.255.1", "10.244.255.2", "10.244.255.2", 1},
		{"10.0.0.0/8", "10.0.0.1", "10.0.0.2", "10.0.255.254", 65533},
		{"fd00:7::/64", "fd00:7::1", "fd00:7::2", "fd00:7::ffff", 65534},
		{"fd00::f0/124", "fd00::f1", "fd00::f2", "fd00::ff", 14},
	} {
		p := pool{Prefix: netip.MustParsePrefix(c.cidr)}
		got := fmt.Sprint(gateway(p.Prefix), p.nth(0), p.nth(p.size()-1), p.size())
		want(t, c.cidr, got, fmt.Sprint(c.gateway, " ", c.first, " ", c.last, " ", c.size))
	}
}

// A model that is too simple to be wrong stands beside the ledger.
func TestALedgerNeverGivesOneAddressTwiceAndReusesTheOldestLast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cidrs := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/28"), netip.MustParsePrefix("fd00::/123")}
		dir, err := os.MkdirTemp("", "podnet")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		l := newLedger(cidrs)
		holder := map[netip.Addr]string{}
		freedAt, clock := map[netip.Addr]int{}, 1 // never used counts as 0
		t.Repeat(map[string]func(*rapid.T){
			"attach": func(t *rapid.T) {
				uid := rapid.StringMatching(`[a-t]`).Draw(t, "uid")
				had := l.Pods[uid].Addrs
				got, err := l.reserve(PodRef{UID: uid}, nil)
				if err != nil {
					if len(l.Pods) < 13 { // a /28 has room for 13
						t.Fatal(err)
					}
					return
				}
				if had != nil && !reflect.DeepEqual(got.Addrs, had) {
					t.Fatalf("%s had %v, got %v", uid, had, got.Addrs)
				}
				for i, a := range got.Addrs {
					if holder[a] != "" && holder[a] != uid || !cidrs[i].Contains(a) || a == gateway(cidrs[i]) {
						t.Fatalf("%v for %s, held by %q", a, uid, holder[a])
					}
					for other, at := range freedAt {
						if had == nil && other.Is4() == a.Is4() && holder[other] == "" && at < freedAt[a] {
							t.Fatalf("%v reused before %v, which was released earlier", a, other)
						}
					}
					holder[a] = uid
				}
			},
			"detach": func(t *rapid.T) {
				uid := rapid.StringMatching(`[a-t]`).Draw(t, "uid")
				for _, a := range l.Pods[uid].Addrs {
					delete(holder, a)
					freedAt[a] = clock
				}
				clock++
				l.release(uid)
			},
			"restart": func(t *rapid.T) {
				if err := l.write(dir); err != nil {
					t.Fatal(err)
				}
				again, err := readLedger(dir)
				if err != nil || !reflect.DeepEqual(again.Pods, l.Pods) {
					t.Fatalf("got %v %v, want %v", again, err, l.Pods)
				}
				again.setPools(cidrs)
				l = again
			},
		})
	})
}

func TestHostPortsThatConflict(t *testing.T) {
	port := func(ip string, number uint16, proto Protocol) HostPort {
		h := HostPort{HostPort: number, ContainerPort: 1, Protocol: proto}
		if ip != "" {
			h.HostIP = netip.MustParseAddr(ip)
		}
		return h
	}
	for _, c := range []struct {
		a, b HostPort
		want bool
	}{
		{port("", 80, TCP), port("", 80, TCP), true},
		{port("", 80, TCP), port("", 80, UDP), false},
		{port("", 80, TCP), port("", 81, TCP), false},
		{port("", 80, TCP), port("192.0.2.1", 80, TCP), true},
		{port("0.0.0.0", 80, TCP), port("192.0.2.1", 80, TCP), true},
		{port("192.0.2.2", 80, TCP), port("192.0.2.1", 80, TCP), false},
		{port("192.0.2.1", 80, TCP), port("192.0.2.1", 80, TCP), true},
		{port("0.0.0.0", 80, TCP), port("::", 80, TCP), false},
		{port("::", 80, TCP), port("fd00::1", 80, TCP), true},
		{port("0.0.0.0", 80, TCP), port("", 80, TCP), true},
	} {
		for _, ports := range [][2]HostPort{{c.a, c.b}, {c.b, c.a}} {
			l := newLedger([]netip.Prefix{cidr4})
			if _, err := l.reserve(pod("first"), ports[:1]); err != nil {
				t.Fatal(err)
			}
			_, err := l.reserve(pod("second"), ports[1:])
			if got := errors.As(err, new(*PortTakenError)); got != c.want {
				t.Errorf("%v and %v: got %v, want %v", ports[0], ports[1], got, c.want)
			}
		}
	}
}

func TestAFullPoolSaysSo(t *testing.T) {
	l := newLedger([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/30"), netip.MustParsePrefix("fd00::/64")})
	if _, err := l.reserve(pod("a"), nil); err != nil {
		t.Fatal(err)
	}
	_, err := l.reserve(pod("b"), nil)
	want(t, "error", fmt.Sprint(err), "pod CIDR 10.0.0.0/30: all 1 addresses are in use")
	if len(l.Pods) != 1 {
		t.Error("the refused pod holds something:", l.Pods)
	}
}

func TestAPodOfAnEarlierCIDRKeepsItsAddressesUntilItIsReleased(t *testing.T) {
	earlier := netip.MustParsePrefix("10.0.0.0/24")
	l := newLedger([]netip.Prefix{earlier})
	if _, err := l.reserve(pod("a"), nil); err != nil {
		t.Fatal(err)
	}
	l.setPools([]netip.Prefix{cidr4, cidr6})
	got, err := l.reserve(pod("a"), nil)
	want(t, "addresses", fmt.Sprint(got.Addrs, err, l.Former, l.fits(got.Addrs)), "[10.0.0.2] <nil> [10.0.0.0/24] false")
	b, err := l.reserve(pod("b"), nil)
	want(t, "a new pod's", fmt.Sprint(b.Addrs, err, l.fits(b.Addrs)), "[10.244.7.2 fd00:7::2] <nil> true")
	l.release(got.UID)
	got, err = l.reserve(pod("a"), nil)
	want(t, "after its release", fmt.Sprint(got.Addrs, err, l.Former), "[10.244.7.3 fd00:7::3] <nil> []")
}

func TestAConfigThatMakesNoSense(t *testing.T) {
	for problem, c := range map[string]Config{
		"no pod CIDR":                         {},
		"has no room":                         {PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/31")}},
		"more than one pod CIDR of the same":  {PodCIDRs: []netip.Prefix{cidr4, netip.MustParsePrefix("10.0.0.0/24")}},
		"is not a prefix":                     {PodCIDRs: []netip.Prefix{{}}},
		"want 576 (1280 with IPv6) to 65535":  {PodCIDRs: []netip.Prefix{cidr6}, MTU: 1000},
		`bridge name "../all": want 1 to 15 `: {PodCIDRs: []netip.Prefix{cidr4}, Bridge: "../all"},
	} {
		if err := c.withDefaults().validate(); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("got %v, want %q", err, problem)
		}
	}
}

func TestAnAliasKeepsThePodAndItsAddresses(t *testing.T) {
	long := lease{PodRef: PodRef{UID: "0f5d5c52-1bd1-4e4f-8d6b-111111111111", Namespace: "default", Name: strings.Repeat("n", 253)},
		Addrs: addrs("10.244.7.2", "fd00:7::2")}
	got, ok := parseAlias(long.alias())
	if !ok || got.UID != long.UID || !reflect.DeepEqual(got.Addrs, long.Addrs) || len(long.alias()) > 255 {
		t.Errorf("got %v %v from %q", got, ok, long.alias())
	}
	for _, other := range []string{"", "shoal", "shoal x", "uplink to 10.0.0.1"} {
		if got, ok := parseAlias(other); ok {
			t.Errorf("%q: got %v", other, got)
		}
	}
}
