package fleet

import (
	"testing"

	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// TestAHostBootsIntoADeadNetwork: it runs what it is to run with nobody in reach.
func TestAHostBootsIntoADeadNetwork(t *testing.T) {
	c := three(t)
	const running = "shoal get pod kept -o jsonpath='{.status.phase}'"
	c.show([]string{"n3"}, "False", `shoal get node n3 -o jsonpath='{.status.conditions[?(@.type=="DiskPressure")].status}'`) // from before it was configured
	c.drop("n1", "kept.yaml", pinned("kept", "n3"))
	c.show(all, "Running", running)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	must(c.Cut(t.Context(), "n3"))
	must(c.Host("n3").PowerCut(t.Context()))
	must(c.Host("n3").Start(t.Context()))
	c.until("n3", "systemctl --no-legend list-units 'shoal-default-kept-*.scope' | grep running")
	c.show([]string{"n3"}, "Running", running)
	must(c.Heal(t.Context()))
	c.together(all...)
}

// TestOneOfTwoHostsRunsAllWhenTheOtherLosesPower: of two, one is half.
func TestOneOfTwoHostsRunsAllWhenTheOtherLosesPower(t *testing.T) {
	needs(t)
	c := newBed(t, bed.Config{Hosts: 2})
	hosts := c.HostNames()
	c.install(hosts...)
	c.configure(c.sh("n1", "shoal keygen"), hosts, hosts...)
	c.together(hosts...)
	const replicas = 4
	for _, host := range hosts {
		c.drop(host, "web.yaml", workloads(replicas))
	}
	c.spread(replicas, hosts...)
	c.lose("n2", "n1", replicas)
	c.comesBack("n2", replicas, hosts)
}
