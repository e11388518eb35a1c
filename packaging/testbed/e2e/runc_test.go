package e2e

import "testing"

func TestRuncRunsPodsToo(t *testing.T) {
	h := newShoal(t)
	h.sh(`printf '[runtime]\noci = "runc"\n' > /etc/shoal/shoal.toml && systemctl restart shoald`)
	h.answers()
	// What would run pods in runc's place is not there.
	h.sh("mv /usr/bin/crun /usr/bin/no-crun")
	h.drop("one.yaml", named("one"))
	h.ready("one")
	h.shows("I am one", "shoal logs one")
	h.sh("runc --root=/run/shoal/crun list | grep -q running")
	if got := h.sh("shoal exec one -- cat /proc/1/comm"); got != "sleep" {
		t.Errorf("the container's first process is %q, want sleep", got)
	}
	if r, err := h.Exec(h.Context(), nil, "shoal", "exec", "one", "--", "sh", "-c", "exit 7"); err != nil || r.Exit != 7 {
		t.Errorf("exec of exit 7 ends with %d (%v)", r.Exit, err)
	}

	before := h.life("one")
	h.sh("systemctl kill --signal=KILL --kill-whom=main shoald")
	h.until("test $(systemctl show shoald -p NRestarts --value) = 1")
	h.answers()
	h.ready("one")
	if after := h.life("one"); after != before {
		t.Errorf("kill -9 of shoald: the pod was %s, is %s", before, after)
	}

	h.sh("pkill -9 -x sleep")
	h.shows("1", "shoal get pod one -o jsonpath='{.status.containerStatuses[0].restartCount}'")
	h.ready("one")
	if got := h.get("pod/one", ".status.containerStatuses[0].lastState.terminated.exitCode"); got != "137" {
		t.Errorf("after KILL the exit code is %q, want 137", got)
	}

	h.sh("rm /etc/shoal/manifests/one.yaml")
	h.noPods()
	h.shows("", "runc --root=/run/shoal/crun list -q; pgrep -a 'conmon|catatonit' || true")
}
