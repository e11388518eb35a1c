package fleet

import (
	"testing"

	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// TestAHostIsTheSameAfterADeadNetworkANewAddressAndACopy: it boots and runs what it is to run with nobody in reach, is found at
// another address, and keeps its pods to itself when a copy of its disk boots beside it.
func TestAHostIsTheSameAfterADeadNetworkANewAddressAndACopy(t *testing.T) {
	long(t)
	c := three(t)
	const running = "shoal get pod kept -o jsonpath='{.status.phase}'"
	c.show([]string{"n3"}, "False", `shoal get node n3 -o jsonpath='{.status.conditions[?(@.type=="DiskPressure")].status}'`)
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
	before := c.life("n3", "kept")

	const moved = "10.99.0.213"
	c.restore("n3", readdress+" "+c.Host("n3").Addr().String())
	c.sh("n3", readdress+" "+moved)
	c.until("n1", "shoal members | grep -w n3 | grep alive | grep -F "+moved)
	c.together(all...)
	c.until("n1", "shoal logs kept | grep 'started on'")

	c.install("n4")
	c.restore("n4", "systemctl stop shoald; rm -rf /var/lib/shoal/* /etc/shoal/cluster.key /run/shoal; systemctl disable -q shoald")
	c.sh("n4", "systemctl stop shoald; rm -rf /var/lib/shoal/*")
	disk := t.TempDir() + "/disk.tar"
	c.sh("n3", "systemctl stop shoald; tar -C / -cf /root/disk.tar var/lib/shoal/store.db var/lib/shoal/identity var/lib/shoal/members.json etc/shoal/shoal.toml etc/shoal/cluster.key; systemctl start shoald")
	must(c.Host("n3").CopyFrom(t.Context(), "/root/disk.tar", disk))
	c.together(all...)
	must(c.Host("n4").CopyTo(t.Context(), disk, "/root/disk.tar"))
	c.sh("n4", "tar -C / -xf /root/disk.tar; systemctl start shoald")
	c.until("n4", "journalctl -u shoald -b | grep 'this host is a copy of another one'")
	c.until("n4", "shoal status | grep 'with this host.s own key'")
	c.until("n4", "! systemctl --no-legend list-units 'shoal-default-*.scope' | grep -q running")
	c.until("n4", "shoal get events -A | grep NodeCloned")
	c.together(all...)
	if after := c.life("n3", "kept"); after != before {
		t.Errorf("the pod is %s, was %s", after, before)
	}
}

// readdress gives a host another address on the network that it has.
const readdress = `readdress() {
	now=$(ip -4 -o addr show | grep -F ' 10.99.0.' | head -n 1)
	dev=$(echo "$now" | awk '{print $2}')
	ip addr del "$(echo "$now" | awk '{print $4}')" dev "$dev"
	ip addr add "$1/24" dev "$dev"
	ip route replace default via 10.99.0.1
}
readdress`

// TestOneOfTwoHostsRunsAllWhenTheOtherLosesPower: of two, one is half.
func TestOneOfTwoHostsRunsAllWhenTheOtherLosesPower(t *testing.T) {
	long(t)
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
