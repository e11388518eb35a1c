package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// deployment is one whose pods say which version they are of, and heed TERM.
func deployment(replicas int, version string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: %d
  revisionHistoryLimit: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - {name: main, image: "rootfs:///", command: [sh, -c, "trap exit TERM; echo %s; while :; do sleep 0.2; done"]}
`, replicas, version)
}

const rolledOut = "shoal rollout status deploy/web --timeout=60s"

// versions are those of the pods that run, with how many there are of each.
func (h host) versions() string {
	h.Helper()
	return strings.Join(strings.Fields(h.sh(`for p in $(shoal get pods -l app=web --field-selector status.phase=Running -o name); do shoal logs $p | head -n1; done | sort | uniq -c`)), " ")
}

func TestADeploymentFollowsItsFile(t *testing.T) {
	h := newShoal(t)
	h.drop("web.yaml", deployment(3, "v1"))
	h.until(rolledOut)
	if got := h.versions(); got != "3 v1" {
		t.Fatalf("pods: %s", got)
	}
	h.drop("web.yaml", deployment(4, "v2"))
	h.shows("4 4 4", `shoal get deploy web -o jsonpath='{.status.replicas} {.status.updatedReplicas} {.status.availableReplicas}'`)
	h.until(rolledOut)
	if got := h.versions(); got != "4 v2" {
		t.Errorf("after the edit: %s", got)
	}

	out := h.sh("shoal rollout undo deploy/web 2>&1")
	if !strings.Contains(out, "/etc/shoal/manifests/web.yaml on node n1 declares this object: the change holds until that file is edited") {
		t.Errorf("undo does not say that a file declares the deployment: %s", out)
	}
	h.until(rolledOut)
	if got := h.versions(); got != "4 v1" {
		t.Errorf("after the rollback: %s", got)
	}
	if got := h.sh(`shoal rollout history deploy/web | awk '$1 ~ /^[0-9]/ {print $1}' | tr '\n' ' '`); got != "2 3 " {
		t.Errorf("history: %q", got)
	}
	h.sh("shoal scale deploy/web --replicas=2 && " + rolledOut)
	h.shows("2", "shoal get pods -l app=web -o name | wc -l")
	h.drop("web.yaml", deployment(1, "v3"))
	h.shows("1 1", `shoal get deploy web -o jsonpath='{.status.replicas} {.status.updatedReplicas}'`)
	h.until(rolledOut)
	if got := h.versions(); got != "1 v3" {
		t.Errorf("the file was edited, and its word counts again: %s", got)
	}

	pod := h.sh("shoal get pods -l app=web -o name")
	h.sh("shoal delete " + pod)
	h.shows("1", `shoal get deploy web -o jsonpath='{.status.availableReplicas}'`)
	if again := h.sh("shoal get pods -l app=web -o name"); again == pod || again == "" {
		t.Errorf("the pod that was deleted is %s, was %s", again, pod)
	}
	if out := h.fails("shoal delete deploy web"); !strings.Contains(out, "delete that file") {
		t.Errorf("deleting what a file declares: %s", out)
	}
	h.sh("rm /etc/shoal/manifests/web.yaml")
	h.noPods()
	h.shows("", "shoal get deploy,rs -o name")
}

// A daemon that is killed amid rollouts ends with the pods that were asked for:
// none twice, none lost, nothing left of others.
func TestRolloutsSurviveTheDaemonsDeath(t *testing.T) {
	h := newShoal(t)
	h.drop("web.yaml", deployment(4, "v0"))
	h.until(rolledOut)
	for i := 1; i <= 6; i++ {
		version := fmt.Sprint("v", i)
		h.drop("web.yaml", deployment(4, version))
		// Killed at different moments: as soon as 1, 2, ... of the new pods are there.
		h.until(fmt.Sprintf("test $(shoal get deploy web -o jsonpath='{.status.updatedReplicas}') -ge %d", i%4+1))
		h.sh("systemctl kill --signal=KILL --kill-whom=main shoald")
		h.answers()
		h.shows("4 4 4 0", `shoal get deploy web -o jsonpath='{.status.replicas} {.status.updatedReplicas} {.status.availableReplicas} {.status.terminatingReplicas}'`)
		h.until(rolledOut)
		h.shows("4", "systemctl list-units --no-legend 'shoal-*.scope' | wc -l")
		if got, want := h.versions(), "4 "+version; got != want {
			t.Errorf("round %d: pods %s, want %s", i, got, want)
		}
	}
}

func TestADaemonSetRollsOnItsNode(t *testing.T) {
	h := newShoal(t)
	set := func(version, selector string) string {
		return strings.NewReplacer("kind: Deployment", "kind: DaemonSet", "  replicas: 1\n", "", "    spec:\n", "    spec:\n      nodeSelector: "+selector+"\n").
			Replace(deployment(1, version))
	}
	h.drop("web.yaml", set("v1", "{kubernetes.io/os: linux}"))
	h.until("shoal rollout status ds/web --timeout=60s")
	h.drop("web.yaml", set("v2", "{kubernetes.io/os: linux}"))
	h.shows("1", `shoal get ds web -o jsonpath='{.status.updatedNumberScheduled}'`)
	h.until("shoal rollout status ds/web --timeout=60s")
	if got := h.versions(); got != "1 v2" {
		t.Errorf("after the edit: %s", got)
	}
	h.sh("shoal rollout undo ds/web && shoal rollout status ds/web --timeout=60s")
	h.shows("1 v1", `for p in $(shoal get pods -l app=web --field-selector status.phase=Running -o name); do shoal logs $p | head -n1; done | sort | uniq -c | xargs`)
	h.drop("web.yaml", set("v2", "{disk: ssd}"))
	h.shows("0", `shoal get ds web -o jsonpath='{.status.desiredNumberScheduled}'`)
	h.noPods()
}

func TestABudgetHoldsBackEvictions(t *testing.T) {
	h := newShoal(t)
	h.drop("web.yaml", deployment(2, "v1"))
	h.drop("budget.yaml", `apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}
`)
	h.until(rolledOut)
	h.shows("0 2", `shoal get pdb web -o jsonpath='{.status.disruptionsAllowed} {.status.currentHealthy}'`)
	evict := `p=$(shoal get pods -l app=web -o jsonpath='{.items[0].metadata.name}')
printf '{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"%s"}}' $p > /root/eviction.json
shoal create --raw /api/v1/namespaces/default/pods/$p/eviction -f /root/eviction.json`
	if out := h.fails(evict); !strings.Contains(out, "Cannot evict pod as it would violate the pod's disruption budget.") {
		t.Errorf("got %s", out)
	}
	h.drop("web.yaml", deployment(3, "v1"))
	h.shows("1", `shoal get pdb web -o jsonpath='{.status.disruptionsAllowed}'`)
	h.sh(evict)
	h.until(rolledOut)
	h.shows("3", "shoal get pods -l app=web -o name | wc -l")
}
