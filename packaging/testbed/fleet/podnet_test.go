package fleet

import (
	"fmt"
	"strings"
	"testing"
)

// echo is a pod that says from which address it is asked.
func echo(host string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: echo-%[1]s, labels: {app: echo}}
spec:
  nodeName: %[1]s
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: rootfs:///
    command: ["perl", "-MIO::Socket::INET", "-e", %[2]q]
`, host, `$SIG{CHLD} = "IGNORE"; $l = IO::Socket::INET->new(LocalPort => 80, Listen => 50, ReuseAddr => 1) or die $!;
while ($c = $l->accept) { if (fork) { close $c; next } while (<$c>) { last if /^\r?$/ } print $c "HTTP/1.0 200 OK\r\n\r\n", $c->peerhost; exit }`)
}

// ask prints what an address answers.
const ask = "curl -sf -m 4 http://"

// stream connects, and asks when it is told to.
const stream = `use IO::Socket::INET; $s = IO::Socket::INET->new(PeerAddr => "$ARGV[0]:80") or die $!; $s->autoflush(1);
open F, ">/run/stream.open"; close F; while (! -e "/run/stream.ask") { select undef, undef, undef, 0.1 }
alarm 20; print $s "GET / HTTP/1.0\r\n\r\n"; print scalar <$s>;`

func (c cluster) podIP(host string) string {
	c.Helper()
	var ip string
	c.eventually("echo-"+host+" is ready", func() (err error) {
		ip, err = c.try(host, "shoal wait --for=condition=Ready --timeout=1s pod/echo-"+host+" >/dev/null; shoal get pod echo-"+host+" -o jsonpath={.status.podIP}")
		if err == nil && ip == "" {
			err = fmt.Errorf("it has no address")
		}
		return err
	})
	return ip
}

// meet has each host's pod reach all pods, seen with its own address, and each host reach all pods.
func (c cluster) meet(hosts ...string) {
	c.Helper()
	for _, from := range hosts {
		for _, to := range hosts {
			c.eventually("echo-"+from+" reaches echo-"+to, func() error {
				own, other := c.podIP(from), c.podIP(to) // a pod that gives way has another one soon
				got, err := c.try(from, "shoal exec echo-"+from+" -- "+ask+other)
				if err == nil && got != own {
					err = fmt.Errorf("%s is seen as %q, want %q", from, got, own)
				}
				if err == nil {
					_, err = c.try(from, ask+other)
				}
				return err
			})
		}
	}
}

func TestPodsOfAllHostsReachEachOther(t *testing.T) {
	c := three(t)
	hosts := []string{"n1", "n2", "n3"}
	for _, h := range hosts {
		c.drop(h, "echo.yaml", echo(h))
	}
	c.meet(hosts...)

	// An open connection outlives the daemons at both of its ends.
	c.sh("n2", `rm -f /run/stream.*; systemd-run -q -u stream -p StandardOutput=file:/run/stream.said perl -e "$1" "$2"
while [ ! -e /run/stream.open ]; do sleep 0.1; done`, stream, c.podIP("n1"))
	for _, h := range []string{"n1", "n2"} {
		c.sh(h, "systemctl kill -s KILL shoald; systemctl reset-failed shoald; systemctl start shoald")
	}
	c.together(hosts...)
	c.sh("n2", "touch /run/stream.ask")
	c.until("n2", "grep '200 OK' /run/stream.said")

	// What somebody removes by hand is there again after a start at the latest, and so are the ways to a host that died.
	c.sh("n1", "ip route flush proto 83; ip link del shoal-vx || ip link del shoal-wg; systemctl restart shoald")
	if err := c.Host("n3").PowerCut(c.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Host("n3").Start(c.Context()); err != nil {
		t.Fatal(err)
	}
	c.together(hosts...)
	c.meet(hosts...)
}

func TestANodeThatLosesItsRangeMovesItsPods(t *testing.T) {
	long(t)
	c := three(t)
	hosts := []string{"n1", "n2", "n3"}
	for _, h := range hosts {
		c.drop(h, "echo.yaml", echo(h))
	}
	c.meet(hosts...)
	former := c.sh("n1", "shoal get node n1 -o jsonpath={.spec.podCIDR}")
	c.sh("n3", `cp /etc/shoal/shoal.toml /run/shoal.toml; printf '[network]\npod_cidrs = ["%s"]\n' "$1" >> /etc/shoal/shoal.toml; systemctl restart shoald`, former)
	defer c.sh("n3", "cp /run/shoal.toml /etc/shoal/shoal.toml; systemctl restart shoald")
	c.show(hosts, former, "shoal get node n3 -o jsonpath={.spec.podCIDR}")
	c.until("n2", `[ "$(shoal get node n1 -o jsonpath={.spec.podCIDR})" != "`+former+`" ]`)
	for _, h := range []string{"n1", "n3"} {
		c.until(h, `! grep -q '"Former"' /run/shoal/net/leases.json`)
	}
	c.meet(hosts...)
	if said := c.sh("n1", "shoal get events"); !strings.Contains(said, "PodCIDRChanged") || !strings.Contains(said, "node n3 has "+former) {
		t.Errorf("nobody was told why: %s", said)
	}
}
