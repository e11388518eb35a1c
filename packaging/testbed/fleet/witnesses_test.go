package fleet

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/daemon/tenure"
	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// witnesses boots hosts that begin their witnesses together; extra is added to
// the last one's [lease].
func witnesses(t *testing.T, n int, extra string) (c cluster, hosts []string) {
	needs(t)
	c = newBed(t, bed.Config{Hosts: n})
	for i := range n {
		hosts = append(hosts, fmt.Sprintf("n%d", i+1))
	}
	c.install(hosts...)
	join, err := json.Marshal(hosts)
	if err != nil {
		t.Fatal(err)
	}
	key := c.sh("n1", "shoal keygen")
	c.each(hosts, func(h *bed.Host) error {
		text := fmt.Sprintf("join = %s\n[lease]\nbootstrap_expect = %d\n", join, n)
		if h.Name() == hosts[n-1] {
			text += extra
		}
		if err := h.WriteFile(t.Context(), "/etc/shoal/shoal.toml", []byte(text)); err != nil {
			return err
		}
		_, err := h.Shell(t.Context(), `umask 077; printf '%s\n' "$1" > /etc/shoal/cluster.key; systemctl restart shoald`, key)
		return err
	})
	c.seats(hosts[0], hosts...)
	for _, host := range hosts {
		c.until(host, `shoal status | grep -q "^Lease: *epoch"`)
	}
	return c, hosts
}

// lease is what `shoal lease` says on a host.
func (c cluster) lease(host string) (r tenure.Report, err error) {
	out, err := c.try(host, "shoal lease -o json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &r)
	}
	return r, err
}

// seats waits until the witnesses are those hosts, and answer their leader.
func (c cluster) seats(from string, want ...string) (r tenure.Report) {
	c.Helper()
	c.eventually("the witnesses "+strings.Join(want, " "), func() (err error) {
		if r, err = c.lease(from); err != nil {
			return err
		}
		var got []string
		for _, s := range r.Seats {
			if s.Votes && s.Answers {
				got = append(got, s.Node)
			}
		}
		if !slices.Equal(got, want) || r.Leader == "" {
			return fmt.Errorf("they are %v, led by %q: %s", got, r.Leader, r.Problem)
		}
		return nil
	})
	return r
}

func epochs(r tenure.Report) map[string]tenure.NodeLease {
	all := make(map[string]tenure.NodeLease)
	for _, n := range r.Nodes {
		all[n.Node] = n
	}
	return all
}

func TestLeasesOutliveTheDaemonsAndTheWitnessesLeader(t *testing.T) {
	long(t)
	c, hosts := witnesses(t, 3, "")
	before := c.seats("n1", hosts...)

	same := func(what string, hosts ...string) {
		t.Helper()
		is := epochs(c.seats(hosts[0], hosts...))
		for _, host := range hosts {
			if was, is := epochs(before)[host], is[host]; is.Over || is.Epoch != was.Epoch {
				t.Errorf("%s the lease of %s went from %+v to %+v", what, host, was, is)
			}
		}
	}
	c.sh(before.Leader, "systemctl kill -s KILL shoal-lease")
	same("when the leader's lease process was killed", hosts...)
	for _, host := range hosts {
		c.until(host, `shoal status | grep -q "^Lease: *epoch"`)
		c.sh(host, "systemctl stop shoald")
	}
	same("without daemons", hosts...)

	// The leader's host: the others go on, and its own lease runs out.
	lost := c.seats("n1", hosts...).Leader
	kept := slices.DeleteFunc(slices.Clone(hosts), func(host string) bool { return host == lost })
	if err := c.Host(lost).PowerCut(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.seats(kept[0], kept...)
	c.eventually("the lost host's lease to run out", func() error {
		r, err := c.lease(kept[0])
		if err != nil || !epochs(r)[lost].Over {
			return fmt.Errorf("%+v, %v", epochs(r)[lost], err)
		}
		return nil
	})
	same("when the leader's host was lost", kept...)
	for _, host := range kept {
		c.sh(host, "systemctl start shoald")
	}

	// Another one: no majority, and a person's way out.
	if err := c.Host(kept[1]).PowerCut(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := kept[0]
	c.until(last, `shoal status | grep "PROBLEM exclusive work waits: no majority of the witnesses can be reached: of 3, this host does not see" | grep `+lost+` | grep -q `+kept[1])
	if _, err := c.try(last, "echo no | shoal witness recover"); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("recovered without a yes: %v", err)
	}
	c.sh(last, "shoal witness recover --yes")
	if r := c.seats(last, last); !r.Closed {
		t.Error("it grants at once what the others may still hold")
	}
	for _, host := range []string{lost, kept[1]} {
		if err := c.Host(host).Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.seats(last, hosts...) // they have a majority of the old witnesses, and stand back
}

func TestAHostThatIsAWitnessAloneCompletesTwo(t *testing.T) {
	long(t)
	c, hosts := witnesses(t, 3, "only_witness = true\n")
	c.until("n1", `shoal get node n3 -o jsonpath='{.spec.taints[*].key} {.status.allocatable.pods}' | grep "shoal.io/only-witness" | grep -q " 0$"`)
	before := epochs(c.seats("n1", hosts...))
	if err := c.Host("n1").PowerCut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if is := epochs(c.seats("n2", "n2", "n3"))["n2"]; is.Over || is.Epoch != before["n2"].Epoch {
		t.Errorf("the lease of n2 went from %+v to %+v", before["n2"], is)
	}
}
