package fleet

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// writers are two pods of one identity, on two hosts. The one that runs writes the time since boot, which light hosts share,
// and its token to its host's disk, ten times a second.
const writers = `apiVersion: apps/v1
kind: Deployment
metadata: {name: writer}
spec:
  replicas: 2
  selector: {matchLabels: {app: writer}}
  template:
    metadata:
      labels: {app: writer}
      annotations: {shoal.io/exclusive: writer}
    spec:
      terminationGracePeriodSeconds: 2
      affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [
        {labelSelector: {matchLabels: {app: writer}}, topologyKey: kubernetes.io/hostname}]}}
      containers:
      - name: app
        image: rootfs:///
        command: [sh, -c, 'trap "exit 0" TERM; while read up idle < /proc/uptime; do echo $SHOAL_FENCING_TOKEN $up >> /log/writer; sleep 0.1; done']
        volumeMounts: [{name: log, mountPath: /log}]
      volumes: [{name: log, hostPath: {path: /var/log/writer, type: DirectoryOrCreate}}]
`

// stretch is when one token was written with, in seconds since boot.
type stretch struct {
	host       string
	token      int
	begin, end float64
}

// stretches is what was written on all hosts, in the order of the tokens.
func (c cluster) stretches(hosts ...string) (list []stretch) {
	c.Helper()
	for _, host := range hosts {
		for line := range strings.Lines(c.sh(host, "cat /var/log/writer/writer 2>/dev/null || true")) {
			f := strings.Fields(line)
			if len(f) != 2 {
				continue // the power was cut amid a line
			}
			token, bad := strconv.Atoi(f[0])
			at, err := strconv.ParseFloat(f[1], 64)
			if bad != nil || err != nil {
				continue
			}
			i := slices.IndexFunc(list, func(s stretch) bool { return s.token == token && s.host == host })
			if i < 0 {
				list = append(list, stretch{host, token, at, at})
				continue
			}
			list[i].end = at
		}
	}
	slices.SortFunc(list, func(a, b stretch) int { return a.token - b.token })
	return list
}

// overlap is an error where two wrote at a time, or a smaller token was written with after a larger one.
func overlap(list []stretch) error {
	for i := 1; i < len(list); i++ {
		if a, b := list[i-1], list[i]; a.token == b.token || b.begin <= a.end {
			return fmt.Errorf("token %d wrote on %s until %.2f, token %d on %s from %.2f", a.token, a.host, a.end, b.token, b.host, b.begin)
		}
	}
	return nil
}

func TestTheCheckerSeesTwoWriters(t *testing.T) {
	good := []stretch{{"n1", 3, 10, 12}, {"n2", 5, 12.5, 20}, {"n1", 8, 21, 22}}
	if err := overlap(good); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]stretch{
		{{"n1", 3, 10, 13}, {"n2", 5, 12.5, 20}},
		{{"n1", 3, 30, 31}, {"n2", 5, 12.5, 20}},
		{{"n1", 3, 10, 13}, {"n2", 3, 13.5, 20}},
	} {
		if overlap(bad) == nil {
			t.Errorf("%v passes", bad)
		}
	}
}

// TestAnExclusivePodRunsOnceWhateverBecomesOfItsHost takes the network and then the power from the host that has it, drains the
// next one and shuts the last one down.
func TestAnExclusivePodRunsOnceWhateverBecomesOfItsHost(t *testing.T) {
	needs(t)
	c := newBed(t, bed.Config{Hosts: 3})
	hosts := c.HostNames()
	c.install(hosts...)
	c.configure(c.sh("n1", "shoal keygen"), hosts, hosts...)
	c.each(hosts, func(h *bed.Host) error {
		_, err := h.Shell(c.Context(), `printf '[lease]\nbootstrap_expect = 3\n' >> /etc/shoal/shoal.toml; systemctl restart shoald`)
		return err
	})
	c.together(hosts...)
	c.drop("n1", "writer.yaml", writers)

	holder := c.writes("n1", "", 0)
	if err := c.Cut(c.Context(), holder); err != nil {
		t.Fatal(err)
	}
	next := c.writes(other(holder), holder, 0)
	if err := c.Heal(c.Context()); err != nil {
		t.Fatal(err)
	}
	c.together(hosts...)
	c.log("the network was cut", hosts)

	before := c.newest(hosts)
	if err := c.Host(next).PowerCut(c.Context()); err != nil {
		t.Fatal(err)
	}
	holder = c.writes(other(next), next, before)
	if err := c.Host(next).Start(c.Context()); err != nil {
		t.Fatal(err)
	}
	c.together(hosts...)
	c.log("the power was cut", hosts)

	before = c.newest(hosts)
	c.sh(other(holder), `shoal drain "$1" --ignore-daemonsets --timeout=30s; shoal uncordon "$1"`, holder)
	next = c.writes(other(holder), "", before)
	c.log("a host was drained", hosts)

	before = c.newest(hosts)
	c.sh(next, "systemctl poweroff --no-block")
	c.writes(other(next), next, before)
	if err := c.Host(next).AwaitOff(c.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Host(next).Start(c.Context()); err != nil {
		t.Fatal(err)
	}
	c.log("a host was shut down", hosts)
}

// other is a host that is not that one.
func other(host string) string {
	if host == "n1" {
		return "n2"
	}
	return "n1"
}

// newest is the largest token that was written with.
func (c cluster) newest(hosts []string) (token int) {
	c.Helper()
	for _, s := range c.stretches(hosts...) {
		token = max(token, s.token)
	}
	return token
}

// writes waits, asking one host, until another than gone writes with a larger token than before, and returns who.
func (c cluster) writes(observer, gone string, before int) (holder string) {
	c.Helper()
	c.eventually("a writer other than on "+gone, func() error {
		out, err := c.try(observer, `shoal get pods -l app=writer -o jsonpath='{range .items[?(@.status.phase=="Running")]}{.spec.nodeName} {.status.conditions[?(@.type=="shoal.io/Exclusive")].message}{"\n"}{end}'`)
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			if len(f) < 2 || f[0] == gone || !strings.Contains(line, " with token ") {
				continue
			}
			if token, err := strconv.Atoi(f[len(f)-1]); err == nil && token > before {
				holder = f[0]
				return nil
			}
		}
		return fmt.Errorf("%q", out)
	})
	return holder
}

// log tells how long nobody wrote after the last event, and fails the test where two did.
func (c cluster) log(event string, hosts []string) {
	c.Helper()
	list := c.stretches(hosts...)
	if err := overlap(list); err != nil {
		c.Errorf("after %s: %v", event, err)
	}
	if n := len(list); n > 1 {
		c.Logf("%s: %s wrote again %.1f s after the last line of %s", event, list[n-1].host, list[n-1].begin-list[n-2].end, list[n-2].host)
	}
}
