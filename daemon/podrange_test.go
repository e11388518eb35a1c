package daemon

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/proxy/podcidr"
)

func networkOf(t *testing.T, text string) config.Network {
	t.Helper()
	c, err := config.Parse("shoal.toml", []byte("[network]\n"+text), "me")
	if err != nil {
		t.Fatal(err)
	}
	return c.Network
}

func claimOf(node, cidr string, since int64) podcidr.Claim {
	return podcidr.Claim{Node: node, CIDR: netip.MustParsePrefix(cidr), Since: since}
}

func TestWhoLosesItsRangeTakesAnother(t *testing.T) {
	mine := claimOf("me", "10.244.3.0/24", 100)
	l := rangeLook{node: "me", network: networkOf(t, ""), have: []podcidr.Claim{mine}, now: 500}
	for _, c := range []struct {
		name   string
		others []podcidr.Claim
		keeps  bool
	}{
		{"nobody else", nil, true},
		{"a younger claim", []podcidr.Claim{claimOf("b", "10.244.3.0/24", 101)}, true},
		{"an older one", []podcidr.Claim{claimOf("b", "10.244.3.0/24", 99)}, false},
		{"an older one over it", []podcidr.Claim{claimOf("b", "10.244.0.0/22", 99)}, false},
	} {
		l.others = c.others
		got, problems, err := l.claims()
		if err != nil || len(problems) > 0 || len(got) != 1 {
			t.Fatalf("%s: %v %v %v", c.name, got, problems, err)
		}
		if keeps := got[0] == mine; keeps != c.keeps {
			t.Errorf("%s: got %v", c.name, got[0])
		}
		for _, o := range c.others {
			if !c.keeps && (got[0].CIDR.Overlaps(o.CIDR) || got[0].Since != 500) {
				t.Errorf("%s: got %v", c.name, got[0])
			}
		}
	}
}

func TestARangeIsKeptWherePodsHaveAddresses(t *testing.T) {
	l := rangeLook{node: "me", network: networkOf(t, ""), leased: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}, now: 500}
	got, _, err := l.claims()
	if err != nil || len(got) != 1 || got[0] != claimOf("me", "10.244.0.0/24", 500) {
		t.Errorf("got %v %v", got, err)
	}
	l.network = networkOf(t, `cluster_cidrs = ["10.8.0.0/16"]`)
	if got, _, err = l.claims(); err != nil || !strings.HasPrefix(got[0].CIDR.String(), "10.8.") {
		t.Errorf("in another cluster: %v %v", got, err)
	}
}

func TestWhatIsWrongWithRangesIsSaid(t *testing.T) {
	avoid := []netip.Prefix{netip.MustParsePrefix("10.244.7.0/24")}
	for _, c := range []struct {
		name, config, want string
		have, others       []podcidr.Claim
	}{
		{"a fixed range that another has by its configuration", `pod_cidrs = ["10.244.3.0/24"]`,
			"network.pod_cidrs = 10.244.3.0/24 is taken by node b (10.244.3.0/24), which was first: this node uses 10.244.", nil,
			[]podcidr.Claim{{Node: "b", CIDR: netip.MustParsePrefix("10.244.3.0/24"), Since: 1, Fixed: true}}},
		{"a fixed range over the host's network", `pod_cidrs = ["10.244.7.0/24"]`,
			"the pod CIDR 10.244.7.0/24 overlaps this host's own network 10.244.7.0/24", nil, nil},
		{"no range is left", `cluster_cidrs = ["10.9.0.0/24"]`,
			"cluster CIDR 10.9.0.0/24: all 1 ranges of /24 are taken by other nodes", nil, []podcidr.Claim{claimOf("b", "10.9.0.0/24", 1)}},
	} {
		l := rangeLook{node: "me", network: networkOf(t, c.config), have: c.have, others: c.others, avoid: avoid, now: 500}
		got, problems, err := l.claims()
		text := strings.Join(problems, "\n")
		if err != nil {
			text += err.Error()
		}
		if !strings.Contains(text, c.want) {
			t.Errorf("%s: got %v, %q", c.name, got, text)
		}
	}
}

func TestSitesHaveOnlyTheRangesThatCount(t *testing.T) {
	said := func(node, cidr string, since int64) networkSaid {
		s := networkSaid{Claims: written([]podcidr.Claim{claimOf(node, cidr, since)})}
		s.Node = node
		return s
	}
	sites := sitesOf([]networkSaid{said("a", "10.244.1.0/24", 5), said("b", "10.244.1.0/24", 6), said("c", "10.244.9.0/24", 9)},
		[]podcidr.Claim{claimOf("me", "10.244.9.0/24", 8)})
	for i, want := range []int{1, 0, 0} {
		if len(sites[i].CIDRs) != want {
			t.Errorf("%s has %v, want %d", sites[i].Node, sites[i].CIDRs, want)
		}
	}
}
