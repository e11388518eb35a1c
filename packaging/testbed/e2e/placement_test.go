package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// asking is a pod that asks for as many processors, with more of its spec.
func asking(name, cpus, more string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: "rootfs:///", command: [sleep, "100000"], resources: {requests: {cpu: "%s"}}}]
%s---
`, name, cpus, more)
}

func (h host) cpus() string { return h.get("node/n1", ".status.allocatable.cpu") }

func TestAPodWaitsForRoomAndTheMostImportantGoesFirst(t *testing.T) {
	h := newShoal(t)
	all := h.cpus()
	h.drop("classes.yaml", "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: high}\nvalue: 1000\npreemptionPolicy: Never\n")
	h.drop("first.yaml", asking("first", all, ""))
	h.ready("first")
	before := h.life("first")
	h.drop("old.yaml", asking("old", all, ""))
	h.until("shoal get events | grep FailedScheduling | grep -q pod/old")
	h.drop("polite.yaml", asking("polite", all, "  priorityClassName: high\n")+asking("modest", "0", ""))
	h.ready("modest") // who asks for nothing fits
	want := "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
	h.shows("False Unschedulable "+want, `shoal get pod old -o jsonpath='{.status.conditions[?(@.type=="PodScheduled")].status} {.status.conditions[?(@.type=="PodScheduled")].reason} {.status.conditions[?(@.type=="PodScheduled")].message}'`)
	h.until("shoal get events | grep FailedScheduling | grep pod/polite | grep -q 'preemption: not eligible due to preemptionPolicy=Never.'")
	for _, name := range []string{"old", "polite"} {
		if got := h.get("pod/"+name, ".spec.nodeName") + h.get("pod/"+name, ".status.startTime"); got != "" {
			t.Errorf("%s waits, and has %q", name, got)
		}
	}
	if got := h.sh("shoal get events"); strings.Contains(got, "assigned default/old") || !strings.Contains(got, "assigned default/first to n1") {
		t.Errorf("who was assigned?\n%s", got)
	}
	h.sh("systemctl kill --signal=KILL --kill-whom=main shoald")
	h.answers()
	if after := h.life("first"); after != before {
		t.Errorf("the pod was %s, is %s", before, after)
	}
	if got := h.get("pod/old", ".spec.nodeName"); got != "" {
		t.Errorf("a restart made room on %s", got)
	}
	h.sh("rm /etc/shoal/manifests/first.yaml")
	h.ready("polite")
	if got := h.get("pod/old", ".spec.nodeName"); got != "" {
		t.Errorf("the less important one is on %s", got)
	}
	h.sh("rm /etc/shoal/manifests/polite.yaml")
	h.ready("old")
	h.drop("gated.yaml", asking("gated", "0", "  schedulingGates: [{name: example.com/wait}]\n"))
	h.shows("SchedulingGated", `shoal get pod gated -o jsonpath='{.status.conditions[0].reason}'`)
	h.drop("gated.yaml", asking("gated", "0", ""))
	h.ready("gated")
}

func TestTheLessImportantGiveWay(t *testing.T) {
	h := newShoal(t)
	all := h.cpus()
	h.drop("classes.yaml", "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: high}\nvalue: 1000\n")
	slow := strings.Replace(asking("low", all, ""), "terminationGracePeriodSeconds: 0", "terminationGracePeriodSeconds: 20", 1)
	h.drop("low.yaml", slow+asking("modest", "0", ""))
	h.ready("low")
	h.ready("modest")
	uid, modest := h.get("pod/low", ".metadata.uid"), h.life("modest")
	h.drop("vip.yaml", asking("vip", all, "  priorityClassName: high\n"))
	h.until("shoal get pod low -o jsonpath='{.metadata.deletionTimestamp}' | grep -q .")
	target := `shoal get pod low -o jsonpath='{.status.conditions[?(@.type=="DisruptionTarget")].reason} {.status.conditions[?(@.type=="DisruptionTarget")].message}'`
	h.shows("PreemptionByScheduler default-scheduler: preempting to accommodate a higher priority pod", target)
	h.until("shoal get events | grep Preempted | grep pod/low | grep -q 'Preempted by pod " + h.get("pod/vip", ".metadata.uid") + " on node n1'")
	h.shows("n1", "shoal get pod vip -o jsonpath='{.status.nominatedNodeName}'")
	h.sh("systemctl kill --signal=KILL --kill-whom=main shoald") // it goes on where it was
	h.answers()
	h.ready("vip")
	// Its file brings another of the victim, which waits; who was in nobody's way runs on.
	h.until("shoal get pod low -o jsonpath='{.metadata.uid} {.status.phase}' | grep Pending | grep -v " + uid)
	if got := h.get("pod/vip", ".status.nominatedNodeName"); got != "" {
		t.Errorf("the pod runs, and %q is kept for it", got)
	}
	if after := h.life("modest"); after != modest {
		t.Errorf("the pod was %s, is %s", modest, after)
	}
	// The journal, since an event of the second before a kill may be lost.
	if got := h.sh("journalctl -u shoald -o cat | grep -c reason=Preempted"); strings.TrimSpace(got) != "1" {
		t.Errorf("preempted %s times", got)
	}
	h.sh("rm /etc/shoal/manifests/vip.yaml")
	h.ready("low")
}

func TestANodeTellsOfItsImages(t *testing.T) {
	h := newShoal(t)
	img, err := random.Image(1<<20, 1)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("example.org/app:1")
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, img, &archive); err != nil {
		t.Fatal(err)
	}
	if err := h.WriteFile(t.Context(), "/root/app.tar", archive.Bytes()); err != nil {
		t.Fatal(err)
	}
	h.sh("shoal image load /root/app.tar")
	h.until("shoal get node n1 -o jsonpath='{.status.images[*].names}' | grep -q example.org/app:1")
	h.until("test $(shoal get node n1 -o jsonpath='{.status.images[0].sizeBytes}') -ge 1000000")
	h.sh("systemctl kill --signal=KILL --kill-whom=main shoald")
	h.answers()
	h.until("shoal get node n1 -o jsonpath='{.status.images[*].names}' | grep -q example.org/app:1")
	h.sh("shoal image rm example.org/app:1")
	h.until("! shoal get node n1 -o jsonpath='{.status.images[*].names}' | grep -q example.org")
}

func TestANodeRefusesAPodThatWasPutThere(t *testing.T) {
	h := newShoal(t)
	all := h.cpus()
	h.drop("a.yaml", asking("first", all, "  nodeName: n1\n"))
	h.ready("first")
	before := h.life("first")
	h.drop("b.yaml", asking("second", all, "  nodeName: n1\n")+asking("third", "0", "  nodeName: n1\n  nodeSelector: {disk: ssd}\n"))
	h.shows("Failed OutOfcpu", "shoal get pod second -o jsonpath='{.status.phase} {.status.reason}'")
	h.shows("Failed NodeAffinity", "shoal get pod third -o jsonpath='{.status.phase} {.status.reason}'")
	want := fmt.Sprintf("Pod was rejected: Node didn't have enough resource: cpu, requested: %s000, used: %s000, capacity: %s000", all, all, all)
	if got := h.get("pod/second", ".status.message"); !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// What runs is never thrown out for sums that no longer come out.
	h.sh("sed -i '1i [runtime]\\nmax_pods = 1' /etc/shoal/shoal.toml")
	h.sh("systemctl kill --signal=KILL --kill-whom=main shoald")
	h.answers()
	h.shows("1", "shoal get node n1 -o jsonpath='{.status.allocatable.pods}'")
	if after := h.life("first"); after != before {
		t.Errorf("the pod was %s, is %s", before, after)
	}
	h.drop("c.yaml", asking("fourth", "0", "  nodeName: n1\n"))
	h.shows("Failed OutOfpods", "shoal get pod fourth -o jsonpath='{.status.phase} {.status.reason}'")
}

func TestTaintsDriveOutAndCordonKeepsOut(t *testing.T) {
	h := newShoal(t)
	h.drop("a.yaml", asking("web", "0", "")+
		asking("stays", "0", "  tolerations: [{key: out, operator: Exists, effect: NoExecute}]\n")+
		asking("patient", "0", "  tolerations: [{key: out, operator: Exists, effect: NoExecute, tolerationSeconds: 3}]\n"))
	for _, name := range []string{"web", "stays", "patient"} {
		h.ready(name)
	}
	stays := h.life("stays")
	driven := map[string]string{} // its UID at first
	for _, name := range []string{"web", "patient"} {
		driven[name] = h.get("pod/"+name, ".metadata.uid")
	}
	h.sh("shoal label node n1 disk=ssd; shoal annotate node n1 note=old; shoal taint node n1 out=now:NoExecute")
	h.sh("systemctl kill --signal=KILL --kill-whom=main shoald")
	h.answers()
	h.shows("ssd old out", "shoal get node n1 -o jsonpath='{.metadata.labels.disk} {.metadata.annotations.note} {.spec.taints[0].key}'")
	for name, uid := range driven { // their file brings others: web's waits, patient's is let in for 3 s each time
		h.until("shoal get pod " + name + " -o jsonpath='{.metadata.uid}' | grep -v " + uid)
	}
	h.until("test -z \"$(shoal get pod web -o jsonpath='{.spec.nodeName}')\"")
	h.until("shoal get events | grep TaintManagerEviction | grep -q pod/patient")
	if got := h.life("stays"); got != stays {
		t.Errorf("the pod that tolerates it was %s, is %s", stays, got)
	}
	if got := h.fails("shoal label node n1 --overwrite kubernetes.io/hostname=other"); !strings.Contains(got, "the label kubernetes.io/hostname is the node's own") {
		t.Errorf("got %q", got)
	}
	h.sh("shoal taint node n1 out-")
	h.ready("web")
	h.ready("patient")

	h.sh("shoal drain n1 --force --timeout=60s")
	h.shows("true", "shoal get node n1 -o jsonpath='{.spec.unschedulable}'")
	for _, name := range []string{"web", "stays", "patient"} {
		h.shows("Pending", "shoal get pod "+name+" -o jsonpath='{.status.phase}{.spec.nodeName}'")
	}
	h.until("shoal get events | grep FailedScheduling | grep -q '1 node(s) were unschedulable'")
	h.sh("shoal uncordon n1")
	h.ready("web")
	h.drop("picky.yaml", asking("picky", "0", "  nodeSelector: {disk: ssd}\n"))
	h.ready("picky")
}
