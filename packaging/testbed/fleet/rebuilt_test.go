package fleet

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

var trio = []string{"n1", "n2", "n3"}

// mine shows what the memo of that name says.
const mine = "shoal get configmap mine -o jsonpath='{.data.text}'"

func memo(name, text string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {text: %s}\n", name, text)
}

// restore runs a script on a host when the test has ended.
func (c cluster) restore(host, script string) {
	c.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := c.Host(host).Shell(ctx, script); err != nil {
			c.Error(err)
		}
	})
}

func TestAHostThatLosesItsStoreTakesItsRecordBack(t *testing.T) {
	c := three(t)
	c.drop("n3", "mine.yaml", memo("mine", "first"))
	c.show(trio, "first", mine)
	uid := c.sh("n1", "shoal get configmap mine -o jsonpath='{.metadata.uid}'")

	c.sh("n3", "systemctl kill --signal=KILL --kill-whom=main shoald; systemctl stop shoald; rm /var/lib/shoal/store.db; systemctl start shoald")
	c.together(trio...)
	c.show(trio, "first", mine)
	c.show(trio, uid, "shoal get configmap mine -o jsonpath='{.metadata.uid}'")
	c.drop("n3", "mine.yaml", memo("mine", "second"))
	c.show(trio, "second", mine)
}

// Between the start of a host and its first word to others a container ends. What it takes back then, since its store is
// an old one, says that it runs on as before.
func TestWhatRunsOnAHostIsNewerThanWhatItTakesBack(t *testing.T) {
	c := three(t)
	c.sh("n3", "systemctl stop shoald; cp /var/lib/shoal/store.db /root/old.db; systemctl start shoald")
	c.drop("n3", "pinned.yaml", pinned("restarted", "n3"))
	const restarts = "shoal get pod restarted -o jsonpath='{.status.containerStatuses[0].restartCount} {.status.conditions[?(@.type==\"Ready\")].status}'"
	c.show(trio, "0 True", restarts)

	if err := c.Cut(t.Context(), "n3"); err != nil {
		t.Fatal(err)
	}
	c.sh("n3", `systemctl kill --signal=KILL --kill-whom=main shoald; systemctl stop shoald; cp /root/old.db /var/lib/shoal/store.db
kill -9 $(cat /sys/fs/cgroup/shoal.slice/*/shoal-default-restarted-*.scope/main/cgroup.procs); systemctl start shoald`)
	c.show([]string{"n3"}, "1 True", restarts)
	if err := c.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.together(trio...)
	c.show(trio, "1 True", restarts)
}

// TestAHostThatIsSetUpAnewIsAStrangerUntilItIsForgotten, and one that is alive is
// not.
func TestAHostThatIsSetUpAnewIsAStrangerUntilItIsForgotten(t *testing.T) {
	c := three(t)
	c.drop("n3", "mine.yaml", memo("mine", "first"))
	c.show(trio, "first", mine)
	if _, err := c.try("n1", "shoal node forget n3"); err == nil || !strings.Contains(err.Error(), "it is alive") {
		t.Fatalf("a host that is alive is forgotten: %v", err)
	}

	c.sh("n3", "systemctl stop shoald; rm -rf /var/lib/shoal/store.db /var/lib/shoal/identity /etc/shoal/manifests/*; systemctl start shoald")
	for _, host := range []string{"n1", "n2"} {
		c.until(host, "shoal members | grep -q 'shoal node forget n3'")
	}
	c.show(trio[:2], "first", mine) // the old host's word counts
	c.sh("n1", "shoal node forget n3")
	c.together(trio...)
	c.show(trio, "", "shoal get configmap mine -o name --ignore-not-found")
	c.show(trio, "3", "shoal get nodes --no-headers | wc -l")
	for _, host := range trio {
		if out := c.sh(host, "shoal members"); strings.Contains(out, "PROBLEM") {
			c.until(host, "! shoal members | grep PROBLEM")
		}
	}
}

func TestAHostThatLeavesIsForgottenAndComesBack(t *testing.T) {
	c := three(t)
	c.drop("n3", "mine.yaml", memo("mine", "first"))
	c.show(trio, "first", mine)
	c.restore("n3", "systemctl restart shoald") // or it stays away
	c.sh("n3", "shoal leave")
	c.until("n1", "shoal members | grep -E '^n3 +left'")
	c.sh("n2", "shoal node forget n3")
	c.show(trio[:2], "", "shoal get configmap mine -o name --ignore-not-found")
	c.show(trio[:2], "2", "shoal get nodes --no-headers | wc -l")
	c.sh("n3", "shoal get configmap mine") // its own files are its own

	c.sh("n3", "shoal join n1")
	c.together(trio...)
	c.show(trio, "first", mine)
	c.show(trio, "3", "shoal get nodes --no-headers | wc -l")
}

func TestAKeyThatOthersMayReadIsNotUsed(t *testing.T) {
	c := three(t)
	c.restore("n3", "chmod 600 /etc/shoal/cluster.key; systemctl restart shoald")
	c.sh("n3", "chmod 644 /etc/shoal/cluster.key; systemctl restart shoald")
	c.until("n3", "shoal status | grep -q 'PROBLEM.*chmod 0600 /etc/shoal/cluster.key'")
	c.drop("n3", "mine.yaml", memo("mine", "first"))
	c.show([]string{"n3"}, "first", mine)
	c.sh("n3", "chmod 600 /etc/shoal/cluster.key") // and no restart
	c.together(trio...)
	c.show(trio, "first", mine)
}
