package e2e

import (
	"strings"
	"testing"
)

// Another program's device has the bridge's name when the daemon starts: until
// it is gone, there is no pod network.
func TestAPodNetworkThatComesLateIsWaitedFor(t *testing.T) {
	h := newShoal(t)
	h.drop("early.yaml", named("early"))
	h.ready("early")
	life := h.life("early")
	h.sh("systemctl stop shoald && ip link delete shoal0 && ip link add shoal0 type veth peer name taken && systemctl start shoald")
	h.answers()
	const condition = `shoal get node n1 -o jsonpath='{.status.conditions[?(@.type=="shoal.io/PodNetworkReady")].status}'`
	h.shows("False", condition)
	h.until("shoal get events | grep PodNetworkFailed | grep -q 'there is a device of that name, of type veth'")

	h.drop("late.yaml", named("late"))
	h.drop("host.yaml", strings.Replace(named("host"), "spec:", "spec:\n  hostNetwork: true", 1))
	h.ready("host")
	h.until("shoal get events | grep late | grep -q 'this host has no pod network'")
	h.kill()
	h.shows("False", condition)
	h.shows("Pending", "shoal get pod late -o jsonpath='{.status.phase}'")

	h.sh("ip link delete taken")
	h.ready("late")
	h.shows("True", condition)
	h.until("shoal get events | grep -q PodNetworkReady")
	if after := h.life("early"); after != life {
		t.Errorf("the pod that ran before was %s, is %s", life, after)
	}
	for _, pod := range []string{"early", "late"} { // it has its address, and its questions are answered
		h.until(`ping -c1 -W2 $(shoal get pod ` + pod + ` -o jsonpath='{.status.podIP}')`)
		h.until("shoal exec " + pod + " -- getent hosts n1")
	}
}
