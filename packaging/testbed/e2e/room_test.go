package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// TestAResizeIsBesideWhatOthersWereGiven: an edit that the node could give the
// pod if it were alone waits until the other has gone, also over the daemon's
// death; one that the node never could is said to be infeasible.
func TestAResizeIsBesideWhatOthersWereGiven(t *testing.T) {
	h := newShoal(t)
	n, err := strconv.Atoi(h.cpus())
	if err != nil {
		t.Fatal(err)
	}
	milli := func(m int) string { return fmt.Sprintf("%dm", m) }
	h.drop("other.yaml", asking("other", milli(1000*n-1000), ""))
	h.drop("web.yaml", asking("web", "500m", ""))
	h.drop("third.yaml", asking("third", "100m", ""))
	h.ready("other")
	h.ready("web")
	h.ready("third")
	life := h.life("web")
	pending := `shoal get pod web -o jsonpath='{.status.conditions[?(@.type=="PodResizePending")].reason} {.status.conditions[?(@.type=="PodResizePending")].message}'`
	given := `shoal get pod web -o jsonpath='{.status.containerStatuses[0].allocatedResources.cpu} {.status.containerStatuses[0].resources.requests.cpu}'`
	h.drop("web.yaml", asking("web", "1200m", ""))
	want := fmt.Sprintf("Deferred Node didn't have enough resource: cpu, requested: 1200, used: %d, capacity: %d", 1000*n-900, 1000*n)
	h.shows(want, pending)
	h.shows("500m 500m", given)
	h.sh("systemctl kill --signal=KILL --kill-whom=main shoald")
	h.answers()
	h.shows(want, pending)
	// Two that wait do not keep each other waiting: what was given counts.
	h.drop("third.yaml", asking("third", "600m", ""))
	h.shows("Deferred", `shoal get pod third -o jsonpath='{.status.conditions[?(@.type=="PodResizePending")].reason}'`)
	h.sh("rm /etc/shoal/manifests/other.yaml")
	h.shows("1200m 1200m", given)
	h.shows("600m", `shoal get pod third -o jsonpath='{.status.containerStatuses[0].allocatedResources.cpu}'`)
	h.shows("", `shoal get pod web -o jsonpath='{.status.conditions[?(@.type=="PodResizePending")].reason}'`)
	if after := h.life("web"); after != life {
		t.Errorf("the pod was %s, is %s", life, after)
	}
	h.drop("web.yaml", asking("web", milli(1000*n+500), ""))
	h.until(pending + " | grep -q '^Infeasible '")
	h.drop("web.yaml", asking("web", "200m", ""))
	h.shows("200m 200m", given)
}

// TestWhyAPodHasToGoIsSaidBeforeItEnds: the condition DisruptionTarget.
func TestWhyAPodHasToGoIsSaidBeforeItEnds(t *testing.T) {
	h := newShoal(t)
	slow := func(name string) string { // its first process takes no notice of TERM
		return strings.Replace(asking(name, "0", ""), "terminationGracePeriodSeconds: 0", "terminationGracePeriodSeconds: 30", 1)
	}
	why := func(name string) string {
		return `shoal get pod ` + name + ` -o jsonpath='{.metadata.deletionGracePeriodSeconds} {.status.phase} {.status.conditions[?(@.type=="DisruptionTarget")].reason} {.status.conditions[?(@.type=="DisruptionTarget")].message}'`
	}
	h.drop("a.yaml", slow("drained"))
	h.ready("drained")
	h.fails("shoal drain n1 --force --timeout=1s")
	h.shows("30 Running EvictionByEvictionAPI Eviction API: evicting", why("drained"))
	h.sh("shoal uncordon n1")
	h.drop("b.yaml", slow("driven"))
	h.ready("driven")
	h.sh("shoal taint node n1 out=now:NoExecute")
	h.shows("30 Running DeletionByTaintManager Taint manager: deleting due to NoExecute taint", why("driven"))
	h.sh("systemctl kill --signal=KILL --kill-whom=main shoald")
	h.answers()
	h.shows("30 Running DeletionByTaintManager Taint manager: deleting due to NoExecute taint", why("driven"))
	h.sh("shoal taint node n1 out-; rm /etc/shoal/manifests/*.yaml")
	h.until("test -z \"$(shoal get pods -o name)\"")
}

// TestACommandThatCanNotBeStartedEndsAsInAShell: scripts branch on it.
func TestACommandThatCanNotBeStartedEndsAsInAShell(t *testing.T) {
	h := newShoal(t)
	h.drop("a.yaml", asking("web", "0", ""))
	h.ready("web")
	for command, want := range map[string]string{
		"/no/such": "code 127", "nosuch": "code 127", "/etc/hostname": "code 126", "sh -c 'exit 3'": "code 3", "true": "code 0",
	} {
		got := h.sh("shoal exec web -- " + command + " 2>&1 && echo code 0 || echo code $?")
		lines := strings.Split(strings.TrimSpace(got), "\n")
		if lines[len(lines)-1] != want {
			t.Errorf("%s: got %q, want %s", command, got, want)
		}
		if want == "code 127" && strings.Count(got, "executable file `"+command+"` not found") != 1 {
			t.Errorf("%s: got %q, want it named once", command, got)
		}
	}
}
