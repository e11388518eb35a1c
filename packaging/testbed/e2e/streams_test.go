package e2e

import (
	"strings"
	"testing"
)

// listener is a pod that echoes on port 8000, reads its input and answers on both outputs.
const listener = `apiVersion: v1
kind: Pod
metadata: {name: @@}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  containers:
  - {name: main, image: "rootfs:///", stdin: true, command: [sh, -c, "while read -r line; do echo out $line; echo err $line >&2; done; echo over"]}
  - {name: echo, image: "rootfs:///", command: [systemd-socket-activate, --inetd, --accept, --listen=8000, cat]}
`

func TestAttachIsForSeveralAndEndsNothing(t *testing.T) {
	h := newShoal(t)
	h.drop("one.yaml", strings.ReplaceAll(listener, "@@", "one"))
	h.drop("once.yaml", strings.Replace(strings.ReplaceAll(listener, "@@", "once"), "stdin: true", "stdin: true, stdinOnce: true", 1))
	h.ready("one")
	h.ready("once")
	before := h.life("one")
	// Two watch, a third one gives input: all see the answer, each stream on its own.
	h.sh(`for n in 1 2; do systemd-run -q --unit=watch$n -p StandardOutput=file:/tmp/out$n -p StandardError=file:/tmp/err$n shoal attach -q one -c main; done`)
	h.until(`(echo hello; sleep 1) | timeout 2 shoal attach -q -i one -c main >/tmp/out3 2>/tmp/err3 || true; grep -q 'out hello' /tmp/out1`)
	h.until(`for n in 1 2 3; do grep -qx 'out hello' /tmp/out$n && grep -qx 'err hello' /tmp/err$n; done`)
	h.sh("systemctl stop watch1 watch2")
	if after := h.life("one"); after != before {
		t.Errorf("after all have left the pod was %s, is %s", before, after)
	}
	h.sh(`(echo again; sleep 1) | timeout 2 shoal attach -q -i one -c main >/tmp/out4 || true; grep -qx 'out again' /tmp/out4`)
	// With stdinOnce the input ends with the first who gives some.
	if got := h.sh("echo bye | timeout 20 shoal attach -q -i once -c main 2>/dev/null"); got != "out bye\nover" {
		t.Errorf("stdinOnce: got %q", got)
	}
	h.shows("0", "shoal get pod once -o jsonpath='{.status.containerStatuses[?(@.name==\"main\")].state.terminated.exitCode}'")
}

func TestPortForwardReachesPodsWhereverTheyListen(t *testing.T) {
	h := newShoal(t)
	h.drop("one.yaml", strings.ReplaceAll(listener, "@@", "one"))
	h.drop("host.yaml", strings.NewReplacer("@@", "host", "spec:", "spec:\n  hostNetwork: true", "8000", "8001", "--listen=", "--listen=127.0.0.1:").Replace(listener))
	h.drop("six.yaml", strings.NewReplacer("@@", "six", "--listen=8000", "'--listen=[::1]:8000'").Replace(listener))
	for port, pod := range map[string]string{"9000:8000": "one", "9001:8001": "host", "9002:8000": "six"} {
		h.ready(pod)
		h.sh(`systemd-run -q --unit="$1" shoal port-forward --address=127.0.0.1 "pod/$1" "$2"`, pod, port)
		local, _, _ := strings.Cut(port, ":")
		h.until(`bash -euc 'for i in 1 2 3 4 5; do (exec 3<>/dev/tcp/127.0.0.1/` + local + `; echo hello $i >&3; read -r line <&3; test "$line" = "hello $i") & done; for i in 1 2 3 4 5; do wait -n; done'`)
	}
	h.sh("systemctl stop one host six")
	h.shows("", "ss -Htn state established '( dport = :8000 or dport = :8001 )'")
}

func TestFilesAreCopiedBothWays(t *testing.T) {
	h := newShoal(t)
	h.drop("one.yaml", named("one"))
	h.ready("one")
	h.sh(`mkdir /tmp/tree && head -c 30000000 /dev/urandom > /tmp/tree/big && printf 'a\0b\r\n' > "/tmp/tree/odd name" && : > /tmp/tree/empty`)
	h.sh("shoal cp /tmp/tree one:/tmp/copied && shoal cp one:/tmp/copied /tmp/back && diff -r /tmp/tree /tmp/back")
}

func TestDebugLooksIntoARunningPod(t *testing.T) {
	h := newShoal(t)
	h.drop("one.yaml", named("one"))
	h.ready("one")
	before := h.sh("shoal get pod one -o jsonpath='{.metadata.uid} {.status.containerStatuses[0].containerID}'")
	add := func(container string) string { // shoal debug -i gives its input no end, as kubectl's
		return `shoal patch pod one --subresource=ephemeralcontainers -p '{"spec":{"ephemeralContainers":[` + container + `]}}'`
	}
	h.sh("shoal debug one --image=rootfs:/// --image-pull-policy=Never --target=main -c look -- sh -c 'tr \"\\0\" \" \" </proc/1/cmdline; exec sleep infinity'")
	h.shows("sleep infinity", "shoal logs one -c look")
	h.shows("running", `shoal get pod one -o jsonpath='{.status.ephemeralContainerStatuses[?(@.name=="look")].state}' | grep -o running`)
	h.sh("systemctl kill --signal=KILL --kill-whom=main shoald")
	h.answers()
	if got := h.sh("shoal exec one -c look -- cat /proc/1/comm"); got != "sleep" {
		t.Errorf("after a kill of the daemon, process 1 is %q", got)
	}
	h.sh(add(`{"name":"talk","image":"rootfs:///","stdin":true,"stdinOnce":true,"command":["cat"]}`))
	h.until(`test "$(echo hello | timeout 20 shoal attach one -q -i -c talk)" = hello`)
	h.shows("Completed", `shoal get pod one -o jsonpath='{.status.ephemeralContainerStatuses[?(@.name=="talk")].state.terminated.reason}'`)
	h.sh("shoal label pod one color=blue")
	if got := h.get("pod/one", ".spec.ephemeralContainers[*].name"); got != "talk look" { // as Kubernetes' strategic merge has it
		t.Errorf("after another change the ephemeral containers are %q", got)
	}
	out := h.fails(`shoal patch pod one --subresource=ephemeralcontainers --type=json -p '[{"op":"remove","path":"/spec/ephemeralContainers/1"}]'`)
	if want := `existing ephemeral containers "look" may not be removed`; !strings.Contains(out, want) {
		t.Errorf("removing one: want %q in %q", want, out)
	}
	if after := h.sh("shoal get pod one -o jsonpath='{.metadata.uid} {.status.containerStatuses[0].containerID}'"); after != before {
		t.Errorf("the pod was %s, is %s", before, after)
	}
	h.sh("rm /etc/shoal/manifests/one.yaml")
	h.noPods()
}
