package fleet

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// crowd is a Deployment of so many pods that run anywhere.
func crowd(name string, replicas int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: "rootfs:///", command: [sleep, "100000"]}]
`, name, replicas)
}

// planned is what a plan says, as far as the test looks at it.
type planned struct {
	Plans []struct {
		OK   bool
		Pods []struct{ Name, Fate, To string }
	}
}

func (c cluster) plan(host, args string) (p planned) {
	c.Helper()
	out := c.sh(host, "shoal plan "+args+" -o json || test $? = 3")
	if err := json.Unmarshal([]byte(out), &p); err != nil || len(p.Plans) == 0 {
		c.Fatalf("plan %s: %v: %s", args, err, out)
	}
	return p
}

// moves are the names of the pods that a plan moves.
func (p planned) moves() (names []string) {
	for _, pod := range p.Plans[0].Pods {
		if pod.Fate == "moves" {
			names = append(names, pod.Name)
		}
	}
	slices.Sort(names)
	return names
}

// TestAPlanComesTrue: what is said of the loss of a host changes nothing, and is
// what becomes of it when its power is cut.
func TestAPlanComesTrue(t *testing.T) {
	long(t)
	c := three(t)
	c.drop("n1", "crowd.yaml", crowd("crowd", 6))
	c.drop("n1", "bound.yaml", pinned("bound", "n3"))
	const ready = `shoal get pods -o jsonpath='{range .items[*]}{.spec.nodeName} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' | grep -c True`
	c.show([]string{"n1", "n2"}, "7", ready)
	there := "shoal get pods -o name --field-selector spec.nodeName=n3 | sed s,pod/,, | sort"
	before := strings.Fields(c.sh("n1", there))

	p := c.plan("n2", "lose n3")
	if p.Plans[0].OK {
		t.Error("the pod that its file binds to n3 is not missed")
	}
	if got := append(p.moves(), "bound"); !slices.Equal(sorted(got), before) {
		t.Errorf("the plan moves %v and leaves bound; on n3 are %v", p.moves(), before)
	}
	if each := c.plan("n1", "lose"); len(each.Plans) != 3 || !each.Plans[0].OK || each.Plans[2].OK {
		t.Errorf("at a glance: %+v", each)
	}
	if after := strings.Fields(c.sh("n1", there)); !slices.Equal(after, before) {
		t.Errorf("after the plan on n3 are %v, before it were %v", after, before)
	}

	if err := c.Host("n3").PowerCut(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.show([]string{"n1", "n2"}, "6", ready)
	c.until("n1", "shoal why node n3 | grep -q 'n3 is lost: nobody hears of it since'")
	c.until("n1", "shoal why bound | grep -q 'it tolerates the loss of its node for ever'")
	c.until("n2", fmt.Sprintf("shoal why %s | grep -q 'has made another one in its place'", p.moves()[0]))
	if err := c.Host("n3").Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.together(all...)
	c.until("n1", "shoal why node n3 | grep -q 'node n3 is ready'")
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

const rotateAndDie = `n=0; shoal key rotate "$2" 2>&1 | while read -r line; do
	n=$((n + 1)); echo "$line"; test $n != "$1" || systemctl kill --signal=KILL --kill-whom=main shoald; done`

// TestAnotherKeyWithNoDowntime: all hosts go over to another key while clients
// write on all of them and pods run, and the daemon that leads is killed amid it.
func TestAnotherKeyWithNoDowntime(t *testing.T) {
	long(t)
	c := three(t)
	c.drop("n1", "pod.yaml", pinned("calm", "n2"))
	c.drop("n1", "secret.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: word}\nstringData: {word: hush}\n")
	c.show(all, "Running", "shoal get pod calm -o jsonpath='{.status.phase}'")
	pod, old := c.life("n2", "calm"), c.sh("n1", "cat /etc/shoal/cluster.key")
	keys := func() string { return c.sh("n1", "cat /etc/shoal/cluster.key") }

	// Nobody who writes notices.
	for _, host := range all {
		c.sh(host, `rm -f /run/enough /run/wrote; cat > /run/write <<'END'
i=0; while ! test -e /run/enough; do i=$((i + 1)); shoal create configmap "$1-$i" --from-literal=i=$i || echo "$i failed"; done > /run/wrote 2>&1
END
systemd-run -q -u writer sh /run/write "$1"`, host)
	}
	c.until("n3", "test $(grep -c created /run/wrote) -ge 2")
	c.sh("n1", "shoal key rotate")
	c.sh("n3", "shoal key rotate --finish")
	for _, host := range all {
		c.sh(host, "touch /run/enough")
		c.until(host, "! systemctl is-active -q writer")
		if wrote := c.sh(host, "cat /run/wrote"); strings.Count(wrote, " created") != len(strings.Split(wrote, "\n")) {
			t.Errorf("%s: not all writes were done:\n%s", host, wrote)
		}
	}
	c.sh("n1", "shoal delete configmap --all --ignore-not-found")

	// Who leads is killed after each step; another one goes on.
	for n := 1; n <= 4; n++ {
		lead, other := all[n%3], all[(n+1)%3]
		c.sh(lead, rotateAndDie, fmt.Sprint(n), "--finish=false")
		c.until(other, "shoal key rotate --finish || shoal key rotate")
		c.together(all...)
		c.until(other, "shoal key rotate --finish || shoal key rotate --finish 2>&1 | grep -q 'no rotation is under way'")
	}
	now := keys()
	if strings.Contains(now, old) || strings.Count(now, "\n") != 1 {
		t.Errorf("the key file is\n%s", strings.ReplaceAll(now, old, "(the old key)"))
	}
	key := "grep -v '^#' /etc/shoal/cluster.key"
	c.show(all, c.sh("n1", key), key)
	c.show(all, "600", "stat -c %a /etc/shoal/cluster.key")
	c.show(all, "hush", "shoal get secret word -o jsonpath='{.data.word}' | base64 -d")
	c.drop("n3", "note.yaml", note("note", "first"))
	c.show(all, "first", fmt.Sprintf(word, "note"))
	if after := c.life("n2", "calm"); after != pod {
		t.Errorf("the pod is %s, was %s", after, pod)
	}
}
