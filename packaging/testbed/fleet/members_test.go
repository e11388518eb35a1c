package fleet

import (
	"fmt"
	"strings"
	"testing"
)

// hosts of the shared cluster.
var all = []string{"n1", "n2", "n3"}

const word = "shoal get configmap %s -o jsonpath='{.data.word}'"

// note is a ConfigMap with a word in it.
func note(name, text string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {word: %s}\n", name, text)
}

func TestWhatAFileSaysIsSoOnAllHosts(t *testing.T) {
	c := three(t)
	c.drop("n1", "note.yaml", note("note", "first"))
	c.show(all, "first", fmt.Sprintf(word, "note"))
	uid := c.sh("n1", "shoal get configmap note -o jsonpath='{.metadata.uid}'")
	c.show(all, uid, "shoal get configmap note -o jsonpath='{.metadata.uid}'")

	c.drop("n1", "note.yaml", note("note", "second"))
	c.show(all, "second", fmt.Sprintf(word, "note"))
	// A copy is no edit; what is written into it later is.
	c.drop("n2", "copy.yaml", note("note", "second"))
	c.until("n2", "shoal manifests | grep -q copy.yaml")
	c.drop("n2", "copy.yaml", note("note", "third"))
	c.show(all, "third", fmt.Sprintf(word, "note"))
	c.until("n1", "shoal manifests | grep note.yaml | grep -i stale")
	c.drop("n1", "note.yaml", note("note", "fourth"))
	c.show(all, "fourth", fmt.Sprintf(word, "note"))

	// It is there as long as one of its files is.
	c.sh("n1", "rm /etc/shoal/manifests/note.yaml")
	c.show(all, "third", fmt.Sprintf(word, "note"))
	c.sh("n2", "rm /etc/shoal/manifests/copy.yaml")
	c.show(all, "", "shoal get configmap note -o name --ignore-not-found")
}

func TestHostsThatDieAndReturnKnowWhatTheyMissed(t *testing.T) {
	c := three(t)
	c.drop("n1", "note.yaml", note("note", "first"))
	c.show(all, "first", fmt.Sprintf(word, "note"))

	c.sh("n2", "systemctl kill --signal=KILL --kill-whom=main shoald")
	c.drop("n1", "note.yaml", note("note", "second"))
	c.show(all, "second", fmt.Sprintf(word, "note"))

	c.sh("n2", "systemctl stop shoald")
	c.drop("n1", "note.yaml", note("note", "third"))
	c.drop("n1", "new.yaml", note("new", "first"))
	c.show([]string{"n1", "n3"}, "third", fmt.Sprintf(word, "note"))
	c.sh("n2", "systemctl start shoald")
	c.show(all, "third", fmt.Sprintf(word, "note"))
	c.show(all, "first", fmt.Sprintf(word, "new"))

	// The host whose file it is loses power, and boots with nobody else there.
	if err := c.Host("n1").PowerCut(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.show([]string{"n2", "n3"}, "third", fmt.Sprintf(word, "note"))
	for _, name := range []string{"n2", "n3"} {
		if err := c.Host(name).PowerCut(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Host("n2").Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.show([]string{"n2"}, "third", fmt.Sprintf(word, "note"))
	for _, name := range []string{"n1", "n3"} {
		if err := c.Host(name).Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.together(all...)
	c.drop("n1", "note.yaml", note("note", "fourth"))
	c.show(all, "fourth", fmt.Sprintf(word, "note"))
}

// pinned is a pod of one host that is never moved.
func pinned(name, node string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  nodeName: %s
  terminationGracePeriodSeconds: 0
  tolerations: [{operator: Exists}]
  containers: [{name: main, image: "rootfs:///", command: [sh, -c, "echo started on $(hostname); sleep 100000"]}]
`, name, node)
}

// life is what changes when a host's pod is not the same any more, or was restarted.
func (c cluster) life(host, pod string) string {
	c.Helper()
	return c.sh(host, `scope=$(systemctl show "shoal-default-$1-*.scope" -p ControlGroup --value); cat /sys/fs/cgroup"$scope"/*/cgroup.procs | sort -n
shoal get pod "$1" -o jsonpath='{.metadata.uid} {.status.containerStatuses[*].restartCount} {.status.containerStatuses[*].containerID}'`, pod)
}

func TestAHostThatIsCutOffRunsOnAndCatchesUp(t *testing.T) {
	c := three(t)
	c.drop("n1", "note.yaml", note("note", "first"))
	c.drop("n3", "pod.yaml", pinned("lonely", "n3"))
	c.show(all, "first", fmt.Sprintf(word, "note"))
	c.show(all, "Running", "shoal get pod lonely -o jsonpath='{.status.phase}'")
	before := c.life("n3", "lonely")

	if err := c.Cut(t.Context(), "n3"); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"n1", "n2"} {
		c.until(host, "shoal members | grep -w n3 | grep -q failed")
	}
	c.until("n3", "test $(shoal members | grep -c failed) = 2")
	c.drop("n1", "note.yaml", note("note", "second"))
	c.drop("n3", "own.yaml", note("own", "first"))
	c.show([]string{"n1", "n2"}, "second", fmt.Sprintf(word, "note"))
	c.show([]string{"n3"}, "first", fmt.Sprintf(word, "own"))
	c.show([]string{"n3"}, "first", fmt.Sprintf(word, "note"))
	c.sh("n3", "systemctl kill --signal=KILL --kill-whom=main shoald")
	c.until("n3", "shoal get pod lonely")
	if after := c.life("n3", "lonely"); after != before {
		t.Errorf("cut off, the pod is %s, was %s", after, before)
	}

	if err := c.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.together(all...)
	c.show(all, "second", fmt.Sprintf(word, "note"))
	c.show(all, "first", fmt.Sprintf(word, "own"))
	c.show(all, "Running", "shoal get pod lonely -o jsonpath='{.status.phase}'")
	if after := c.life("n3", "lonely"); after != before {
		t.Errorf("healed, the pod is %s, was %s", after, before)
	}
}

func TestAHostWithAnotherKeyGetsNothing(t *testing.T) {
	c := three(t)
	c.drop("n1", "note.yaml", note("note", "first"))
	c.show(all, "first", fmt.Sprintf(word, "note"))
	c.install("n4")
	right := c.sh("n1", "cat /etc/shoal/cluster.key")
	c.configure(c.sh("n4", "shoal keygen"), append(all, "n4"), "n4")
	c.drop("n4", "foreign.yaml", note("foreign", "first"))
	c.show([]string{"n4"}, "first", fmt.Sprintf(word, "foreign"))
	c.until("n4", "shoal status | grep -i key")
	c.until("n1", "journalctl -u shoald -b | grep -F \"none of the cluster's keys opens\" | grep -F 'from=10.99.0.14:'")
	if got := c.sh("n4", "shoal get configmap note -o name --ignore-not-found"); got != "" {
		t.Errorf("it got %s", got)
	}
	c.show(all, "", "shoal get configmap foreign -o name --ignore-not-found")

	c.configure(right, append(all, "n4"), "n4")
	c.together(append(all, "n4")...)
	c.show([]string{"n4"}, "first", fmt.Sprintf(word, "note"))
	c.show(all, "first", fmt.Sprintf(word, "foreign"))

	// It leaves for good, and nothing of it stays.
	if out, err := c.try("n1", "shoal node forget n4"); err == nil || !strings.Contains(err.Error(), "n4") {
		t.Errorf("a host that is alive was forgotten: %s%v", out, err)
	}
	c.sh("n4", "shoal leave; systemctl disable -q --now shoald")
	c.until("n1", "shoal node forget n4")
	c.show(all, "", "shoal get configmap foreign -o name --ignore-not-found")
	c.show(all, "0", "shoal members | grep -c -w n4 || true")
}
