package e2e

import (
	"strings"
	"testing"
)

// hooked is a pod, its name in the place of @@, that writes into /root/out/log what becomes of it. Its preStop hook waits
// for /root/out/go.
const hooked = `apiVersion: v1
kind: Pod
metadata: {name: @@}
spec:
  terminationGracePeriodSeconds: 60
  containers:
  - name: main
    image: rootfs:///
    command: [/bin/sh, -c, "trap 'echo @@ ends >> /out/log; exit 0' TERM; echo @@ starts >> /out/log; while :; do sleep 0.1; done"]
    lifecycle:
      preStop: {exec: {command: [/bin/sh, -c, "until [ -e /out/go ]; do sleep 0.1; done; echo @@ was told >> /out/log"]}}
    volumeMounts: [{name: out, mountPath: /out}]
  volumes: [{name: out, hostPath: {path: /root/out}}]
`

func hook(name string, spec ...string) string {
	text := strings.ReplaceAll(hooked, "@@", name)
	return strings.Replace(text, "spec:\n", "spec:\n"+strings.Join(spec, ""), 1)
}

// newPatient is a host whose shutdown waits for its pods.
func newPatient(t *testing.T) host {
	t.Helper()
	h := newShoal(t)
	h.sh(`mkdir -p /root/out && printf '[shutdown]\ngrace_period = "80s"\ncritical_grace_period = "40s"\n' > /etc/shoal/shoal.toml && systemctl restart shoald`)
	h.answers()
	h.shows("t 80000000", "busctl get-property org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager InhibitDelayMaxUSec")
	h.until("systemd-inhibit --list --no-legend | grep -q '^shoald .*shutdown .*delay'")
	return h
}

func TestAShutdownEndsPodsInOrder(t *testing.T) {
	h := newPatient(t)
	h.sh("touch /root/out/go")
	h.drop("first.yaml", hook("first"))
	h.drop("last.yaml", hook("last", "  priorityClassName: system-node-critical\n"))
	h.drop("once.yaml", hook("once", "  restartPolicy: Never\n"))
	if err := h.WriteFile(t.Context(), "/etc/shoal/static-pods/static.yaml", []byte(hook("static"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"first", "last", "once", "static-n1"} {
		h.ready(name)
	}
	h.shows("4", "wc -l < /root/out/log") // each traps TERM by now
	uid := h.get("pod/first", ".metadata.uid")

	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.answers()
	for _, name := range []string{"first", "last", "static-n1"} {
		h.ready(name)
	}
	h.shows("15", "wc -l < /root/out/log")
	log := h.sh("sed -n 5,100p /root/out/log")
	told := make(map[string]int)
	for i, line := range strings.Split(log, "\n") {
		if _, twice := told[line]; twice {
			t.Errorf("%s, twice", line)
		}
		told[line] = i + 1
	}
	for _, name := range []string{"first", "once", "static"} {
		if a, b, c := told[name+" was told"], told[name+" ends"], told["last was told"]; a == 0 || a > b || b > c {
			t.Errorf("%s: want its hook, its end, and then the hook of the critical pod, got\n%s", name, log)
		}
	}
	if told["last was told"] > told["last ends"] || told["once starts"] != 0 {
		t.Errorf("got\n%s", log)
	}
	if now := h.get("pod/first", ".metadata.uid"); now == uid {
		t.Error("a pod that has failed is the same pod again")
	}
	const path = `{.status.phase} {.status.reason}: {.status.message} {.status.conditions[?(@.type=="DisruptionTarget")].reason}`
	const want = "Failed Terminated: Pod was terminated in response to imminent node shutdown. TerminationByKubelet"
	if got := h.sh(`shoal get pod once -o jsonpath="$1"`, path); got != want {
		t.Errorf("a pod that never restarts: got %s, want %s", got, want)
	}
}

func TestAShutdownThatIsCalledOff(t *testing.T) {
	h := newPatient(t)
	h.drop("one.yaml", hook("one"))
	h.drop("last.yaml", hook("last", "  priorityClassName: system-cluster-critical\n"))
	h.ready("one")
	h.ready("last")
	h.shows("2", "wc -l < /root/out/log")
	last := h.life("last")

	const node = `shoal get node n1 -o jsonpath='{.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].message}'`
	h.sh("systemctl poweroff")
	h.shows("False node is shutting down", node)
	h.drop("late.yaml", hook("late"))
	h.shows("Pending Unschedulable", `shoal get pod late -o jsonpath='{.status.phase} {.status.conditions[?(@.type=="PodScheduled")].reason}'`)
	h.drop("bound.yaml", hook("bound", "  nodeName: n1\n"))
	h.shows("Failed NodeShutdown Pod was rejected: Pod was rejected as the node is shutting down.",
		"shoal get pod bound -o jsonpath='{.status.phase} {.status.reason} {.status.message}'")

	// What logind is about to start is refused: so it calls the shutdown off.
	h.sh("systemctl mask --runtime poweroff.target")
	h.sh("touch /root/out/go")
	h.shows("True shoald is running pods", node)
	for _, name := range []string{"one", "last", "late", "bound"} {
		h.ready(name)
	}
	if now := h.life("last"); now == last {
		t.Error("the critical pod was not ended: this test can't fail")
	}
	h.until("systemd-inhibit --list --no-legend | grep -q '^shoald '")
	h.shows("1", "grep -c 'one ends' /root/out/log")
}

// TestALogindThatStartsAnewHasForgottenTheShutdown: nobody says that it was
// called off, and nobody will shut the host down.
func TestALogindThatStartsAnewHasForgottenTheShutdown(t *testing.T) {
	h := newPatient(t)
	h.drop("one.yaml", hook("one"))
	h.ready("one")
	h.shows("1", "wc -l < /root/out/log")
	const node = `shoal get node n1 -o jsonpath='{.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].message}'`
	for range 2 { // as well after the first time
		h.sh("rm -f /root/out/go; systemctl poweroff")
		h.shows("False node is shutting down", node)
		h.sh("systemctl kill --signal=KILL systemd-logind")
		h.shows("True shoald is running pods", node)
		h.sh("touch /root/out/go")
		h.until("systemd-inhibit --list --no-legend | grep -q '^shoald '")
		h.until("shoal get pod one -o jsonpath='{.status.phase} {.metadata.deletionTimestamp}' | grep -q '^Running $'")
		h.ready("one")
	}
}
