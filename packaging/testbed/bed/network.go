package bed

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Every bed has the same addresses, each in a network namespace of its own:
//
//	10.99.0.1    the bed itself: gateway, name server, registry
//	10.99.0.11   host n1, 10.99.0.12 host n2, ...
var (
	gateway = netip.MustParseAddr("10.99.0.1")
	subnet  = netip.MustParsePrefix("10.99.0.0/24")
)

// maxHosts is how many addresses the plan has.
const maxHosts = 200

const bridge = "bed0"

// hostAddr is the address of the host with a number, counted from 1.
func hostAddr(number int) netip.Addr {
	a := subnet.Addr().As4()
	a[3] = byte(10 + number)
	return netip.AddrFrom4(a)
}

// networkScript is what a host runs to join the bed's network.
func networkScript(addr netip.Addr) string {
	return fmt.Sprintf(`set -e
for path in /sys/class/net/host0 /sys/class/net/en* /sys/class/net/eth*; do
	test -e "$path" || continue
	link=${path##*/}
	ip link set "$link" up
	ip addr add %s/%d brd + dev "$link"
	ip route add default via %s dev "$link"
	break
done
`, addr, subnet.Bits(), gateway)
}

// port is the name of a host's interface on the bridge, for which systemd-nspawn sets the pattern.
func port(host string) string { return "vb-" + host }

// cutRules is the ruleset, for nft -f, that drops what hosts in different parts send each other. The parts are those
// named and the rest. Everyone still reaches the bed's own address.
func cutRules(hosts []string, parts [][]string) string {
	part := map[string]int{}
	for i, names := range parts {
		for _, name := range names {
			part[name] = i + 1
		}
	}
	var pairs []string
	for _, a := range slices.Sorted(slices.Values(hosts)) {
		for _, b := range slices.Sorted(slices.Values(hosts)) {
			if part[a] != part[b] {
				pairs = append(pairs, fmt.Sprintf("%q . %q", port(a), port(b)))
			}
		}
	}
	rules := "table bridge bed\ndelete table bridge bed\n"
	if len(pairs) == 0 {
		return rules
	}
	return rules + `table bridge bed {
	set cut {
		type ifname . ifname
		elements = { ` + strings.Join(pairs, ",\n\t\t\t") + ` }
	}
	chain forward {
		type filter hook forward priority 0
		iifname . oifname @cut drop
	}
}
`
}
