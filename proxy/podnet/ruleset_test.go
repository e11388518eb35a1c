package podnet

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/shoal-project/shoal/proxy/nettest"
)

// goldenCases are named after the rule that each shows.
var goldenCases = map[string]struct {
	cfg    Config
	pods   []lease
	former []netip.Prefix
}{
	"no-pods-only-ipv4": {cfg: Config{PodCIDRs: []netip.Prefix{cidr4}}},
	"other-hosts-pods-are-reached-unmasked-and-sealed-ranges-not-forged": {
		cfg: Config{PodCIDRs: []netip.Prefix{cidr4, cidr6}, LinkLocal: true, Reach: Reach{
			Cluster: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00::/16")},
			Sealed:  []netip.Prefix{netip.MustParsePrefix("10.244.9.0/24"), netip.MustParsePrefix("fd00:9::/64"), netip.MustParsePrefix("10.244.8.0/24")},
		}},
	},
	"pods-of-a-former-range-go-on-with-their-source-hidden": {
		cfg:    Config{PodCIDRs: []netip.Prefix{cidr4, cidr6}},
		former: []netip.Prefix{netip.MustParsePrefix("10.244.3.0/24"), netip.MustParsePrefix("fd00:3::/64")},
	},
	"no-masquerade-to-listed-destinations": {cfg: Config{
		PodCIDRs: []netip.Prefix{cidr6, cidr4},
		NonMasquerade: []netip.Prefix{
			netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("fd00::/16"),
			netip.MustParsePrefix("192.0.2.9/32"), cidr4,
		},
	}},
	"host-ports-of-two-dual-stack-pods": {
		cfg: Config{PodCIDRs: []netip.Prefix{cidr4, cidr6}},
		pods: []lease{
			{PodRef: pod("b"), Addrs: addrs("10.244.7.3", "fd00:7::3"), Ports: []HostPort{
				{HostIP: hostIP, HostPort: 443, ContainerPort: 8443, Protocol: TCP},
				{HostIP: hostIP6, HostPort: 443, ContainerPort: 8443, Protocol: TCP},
				{HostIP: netip.IPv4Unspecified(), HostPort: 444, ContainerPort: 444, Protocol: SCTP},
				{HostIP: netip.IPv6Unspecified(), HostPort: 445, ContainerPort: 445, Protocol: UDP},
			}},
			{PodRef: pod("a"), Addrs: addrs("10.244.7.2", "fd00:7::2"), Ports: []HostPort{
				{HostPort: 80, ContainerPort: 8080, Protocol: TCP},
				{HostPort: 80, ContainerPort: 8080, Protocol: UDP},
			}},
		},
	},
	"a-host-ip-of-the-other-family-leads-nowhere": {
		cfg: Config{PodCIDRs: []netip.Prefix{cidr4}},
		pods: []lease{{PodRef: pod("a"), Addrs: addrs("10.244.7.2"), Ports: []HostPort{
			{HostIP: hostIP6, HostPort: 443, ContainerPort: 8443, Protocol: TCP},
		}}},
	},
}

func addrs(text ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range text {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func rules(cfg Config, pods []lease, former []netip.Prefix) ruleset {
	byUID := map[string]lease{}
	for _, p := range pods {
		byUID[p.UID] = p
	}
	return rulesFor(cfg.withDefaults(), byUID, former)
}

func TestRulesets(t *testing.T) {
	for name, c := range goldenCases {
		t.Run(name, func(t *testing.T) {
			got := rules(c.cfg, c.pods, c.former).String()
			path := filepath.Join("testdata", name+".txtar")
			if *update {
				story := fmt.Sprintf("%s.\n", strings.ReplaceAll(name, "-", " "))
				file := txtar.Format(&txtar.Archive{Comment: []byte(story), Files: []txtar.File{{Name: "shoal.nft", Data: []byte(got)}}})
				if err := os.WriteFile(path, file, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want(t, "ruleset", got, string(ar.Files[0].Data))
		})
	}
}

// The golden text is only worth something if the kernel holds the same: nft
// reads the text, we write over netlink, and nft lists both.
func TestTheKernelHoldsWhatTheTextSays(t *testing.T) {
	nettest.Need(t)
	for name, c := range goldenCases {
		t.Run(name, func(t *testing.T) {
			r := rules(c.cfg, c.pods, c.former)
			script := filepath.Join(t.TempDir(), "shoal.nft")
			if err := os.WriteFile(script, []byte(r.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			runNFT(t, "-f", script)
			byText := runNFT(t, "list", "ruleset")
			table, err := openTable()
			if err != nil {
				t.Fatal(err)
			}
			defer table.close()
			if err := table.apply(r); err != nil {
				t.Fatal(err)
			}
			want(t, "table", sortedLines(runNFT(t, "list", "ruleset")), sortedLines(byText))
			if ok, err := table.intact(); !ok || err != nil {
				t.Error("intact after apply:", ok, err)
			}
			if err := table.remove(); err != nil {
				t.Fatal(err)
			}
			want(t, "removed", runNFT(t, "list", "ruleset"), "")
		})
	}
}

// sortedLines makes listings comparable: the kernel lists a set in the order of
// its hashes. The order of rules is in the golden files, and each is a line of
// its own chain here.
func sortedLines(listing string) string {
	chain := ""
	var out []string
	for _, line := range strings.Split(strings.ReplaceAll(listing, ", ", "\n"), "\n") {
		line = strings.Trim(strings.TrimPrefix(strings.TrimSpace(line), "elements = {"), " ,}")
		if strings.HasSuffix(line, "{") {
			chain = line
		}
		if line != "" {
			out = append(out, fmt.Sprintf("%s %s", chain, line))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}
