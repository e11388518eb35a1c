package podnet

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/proxy/nettest"
)

// BenchmarkAttach is one pod's way into the network and out of it.
func BenchmarkAttach(b *testing.B) {
	for name, ports := range map[string][]HostPort{
		"plain":     nil,
		"host-port": {{HostPort: 8080, ContainerPort: 80, Protocol: TCP}},
	} {
		b.Run(name, func(b *testing.B) {
			h := newHost(b, nil)
			ns := nettest.Namespace(b)
			for b.Loop() {
				if _, err := h.Attach(b.Context(), pod("bench"), ns, ports); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := h.Detach(b.Context(), pod("bench").UID); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkCheck is what an idle host with 50 pods pays for each look.
func BenchmarkCheck(b *testing.B) {
	h := newHost(b, nil)
	for i := range 50 {
		h.attach(b, fmt.Sprint("pod", i))
	}
	for b.Loop() {
		if _, err := h.Check(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func benchRules(n int) ruleset {
	r := ruleset{Bridge: "shoal0", CIDRs: []netip.Prefix{cidr4, cidr6}, Keep: []netip.Prefix{cidr4, cidr6}}
	for i := range n {
		r.Ports = append(r.Ports, portRule{Protocol: TCP, HostPort: uint16(1024 + i),
			To: netip.AddrPortFrom(netip.MustParseAddr("10.244.7.2"), 80)})
	}
	return r
}

func BenchmarkRules(b *testing.B) {
	nettest.Need(b)
	for _, n := range []int{0, 50, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table, err := openTable()
			if err != nil {
				b.Fatal(err)
			}
			defer table.close()
			defer table.remove()
			r := benchRules(n)
			for b.Loop() {
				if err := table.apply(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRulesByNft is the same through nft(8), as knftables does it.
func BenchmarkRulesByNft(b *testing.B) {
	nettest.Need(b)
	for _, n := range []int{0, 50, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			script := "add table inet shoal\ndelete table inet shoal\n" + benchRules(n).String()
			defer exec.Command("nft", "delete", "table", "inet", "shoal").Run()
			for b.Loop() {
				cmd := exec.Command("nft", "-f", "-")
				cmd.Stdin = strings.NewReader(script)
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
			}
		})
	}
}
