package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// exclusive is a pod of the identity one. Its command line has its name, for pgrep.
func exclusive(name string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, annotations: {shoal.io/exclusive: one}}
spec:
  terminationGracePeriodSeconds: 3
  containers:
  - name: app
    image: rootfs:///
    command: [sh, -c, 'echo token $SHOAL_FENCING_TOKEN; trap "exit 0" TERM; sleep 1000 & wait # %[1]s-works']
`, name)
}

// token is the fencing token that a pod was started with.
func (h host) token(pod string) int {
	h.Helper()
	said := h.sh(`shoal logs "$1"`, pod)
	n, err := strconv.Atoi(strings.TrimPrefix(said, "token "))
	if err != nil {
		h.Fatalf("%s said %q", pod, said)
	}
	return n
}

func TestAnExclusivePodEndsWithTheLease(t *testing.T) {
	h := newShoal(t)
	h.drop("a.yaml", exclusive("a"))
	h.ready("a")
	h.drop("b.yaml", exclusive("b"))
	h.shows("WaitingForClaim", `shoal get pod b -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}'`)
	h.until(`shoal why b | grep "another pod on this node has it"`)
	before, token, process := h.life("a"), h.token("a"), h.sh("systemctl show shoal-lease -p MainPID --value")

	h.sh("systemctl kill --signal=KILL --kill-whom=main shoald")
	h.answers()
	h.install() // the same version over itself
	h.ready("a")
	if after := h.life("a"); after != before {
		t.Errorf("over a kill and an upgrade of shoald the pod was %s, is %s", before, after)
	}
	if now := h.sh("systemctl show shoal-lease -p MainPID --value"); now != process {
		t.Errorf("an upgrade started another lease process: %s, was %s", now, process)
	}

	h.sh("systemctl kill --signal=KILL --kill-whom=main shoal-lease")
	h.until("! pgrep -f [a]-works")
	h.ready("a")
	if now := h.token("a"); now <= token {
		t.Errorf("after the lease was lost the token is %d, was %d", now, token)
	}
	token = h.token("a")

	h.sh("systemctl stop shoal-lease; ! pgrep -f [a]-works") // scopes stop before it does
	h.ready("a")                                             // shoald starts it again
	if now := h.token("a"); now <= token {
		t.Errorf("after the lease process was stopped the token is %d, was %d", now, token)
	}
	token = h.token("a")

	h.sh("rm /etc/shoal/manifests/a.yaml")
	h.ready("b")
	if now := h.token("b"); now <= token {
		t.Errorf("the next pod's token is %d, the one before had %d", now, token)
	}
	h.sh("rm /etc/shoal/manifests/b.yaml")
	h.noPods()
}
