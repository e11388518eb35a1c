package e2e

import (
	"strings"
	"testing"
)

// sleeper is a pod that says something and then waits, with its name in the place of @@.
const sleeper = `apiVersion: v1
kind: Pod
metadata:
  name: @@
  labels: {tier: one}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: rootfs:///
    command: [/bin/sh, -c, "echo I am $HOSTNAME; exec sleep infinity"]
`

func named(name string) string { return strings.ReplaceAll(sleeper, "@@", name) }

func TestAFileIsAPodAndTheScopeOfItsProcesses(t *testing.T) {
	h := newShoal(t)
	h.drop("one.yaml", named("one"))
	h.ready("one")
	h.shows("I am one", "shoal logs one")
	if got := h.sh("shoal exec one -- cat /proc/1/comm"); got != "sleep" {
		t.Errorf("the container's first process is %q, want sleep", got)
	}
	scope := h.sh("systemctl show 'shoal-default-one-*.scope' -p ControlGroup --value")
	if got := h.sh(`cat $(printf '/proc/%s/comm ' $(cat "/sys/fs/cgroup$1/main/cgroup.procs"))`, scope); got != "sleep" {
		t.Errorf("the scope %s has %q, want sleep", scope, got)
	}
	h.sh("rm /etc/shoal/manifests/one.yaml")
	h.noPods()
}

func TestAnEditThatKubernetesAllowsKeepsThePodAndOthersReplaceIt(t *testing.T) {
	h := newShoal(t)
	h.drop("one.yaml", named("one"))
	h.ready("one")
	before := h.life("one")

	h.drop("one.yaml", strings.Replace(named("one"), "tier: one", "tier: two", 1))
	h.shows("two", "shoal get pod one -o jsonpath='{.metadata.labels.tier}'")
	if after := h.life("one"); after != before {
		t.Errorf("a new label: the pod was %s, is %s", before, after)
	}

	uid := h.get("pod/one", ".metadata.uid")
	h.drop("one.yaml", strings.Replace(named("one"), "I am", "Now I am", 1))
	h.shows("Now I am one", "shoal logs one")
	if now := h.get("pod/one", ".metadata.uid"); now == uid {
		t.Errorf("a new command: the pod has its old UID")
	}
}

func TestAPodMovesWithItsObjectToAnotherFile(t *testing.T) {
	h := newShoal(t)
	h.drop("one.yaml", named("one"))
	h.ready("one")
	before := h.life("one")
	h.sh("cd /etc/shoal/manifests && mkdir sub && mv one.yaml sub/other.yaml")
	h.until("shoal manifests | grep -q sub/other.yaml")
	h.shows("", "shoal manifests | grep /one.yaml || true")
	if after := h.life("one"); after != before {
		t.Errorf("the pod was %s, is %s", before, after)
	}
}

func TestABrokenFileChangesNothingAndIsPointedOut(t *testing.T) {
	h := newShoal(t)
	h.drop("one.yaml", named("one"))
	h.ready("one")
	before := h.life("one")
	h.drop("one.yaml", strings.Replace(named("one"), "    image:", "    imgae:", 1))
	const want = `/etc/shoal/manifests/one.yaml:10:5:`
	h.until("shoal manifests | grep -q " + want)
	h.until("journalctl -u shoald | grep -q " + want)
	if got := h.fails("shoal validate /etc/shoal/manifests"); !strings.Contains(got, want) || !strings.Contains(got, "did you mean image?") {
		t.Errorf("shoal validate: want %s and a suggestion, got %s", want, got)
	}
	if after := h.life("one"); after != before {
		t.Errorf("the pod was %s, is %s", before, after)
	}
	h.drop("one.yaml", strings.Replace(named("one"), "tier: one", "tier: two", 1))
	h.shows("two", "shoal get pod one -o jsonpath='{.metadata.labels.tier}'")
}

func TestPodsGetTheirConfigurationFromObjects(t *testing.T) {
	h := newShoal(t)
	h.drop("conf.yaml", `apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {color: blue, motto.txt: slow and steady}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {token: s3same}
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: rootfs:///
    command: [/bin/sh, -c, 'echo $COLOR $TOKEN $(cat /conf/motto.txt) $(cat /key/token) $(stat -Lc %a /key/token)']
    env:
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: conf, key: color}}}
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: key, key: token}}}
    volumeMounts:
    - {name: conf, mountPath: /conf}
    - {name: key, mountPath: /key}
  volumes:
  - {name: conf, configMap: {name: conf}}
  - {name: key, secret: {secretName: key, defaultMode: 0400}}
`)
	h.shows("Succeeded", "shoal get pod reader -o jsonpath='{.status.phase}'")
	h.shows("blue s3same slow and steady s3same 400", "shoal logs reader")
	if leaked := h.sh("journalctl | grep s3same || true"); leaked != "" {
		t.Errorf("the secret is in the journal: %s", leaked)
	}
}

func TestAHostPortLeadsToThePod(t *testing.T) {
	h := newShoal(t)
	h.drop("port.yaml", `apiVersion: v1
kind: Pod
metadata: {name: port}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: rootfs:///
    command: [/bin/sh, -c, 'while :; do echo hi from $HOSTNAME | nc -N -l 9000; done']
    ports: [{containerPort: 9000, hostPort: 8000}]
`)
	h.ready("port")
	addr := h.Addr().String()
	h.shows("hi from port", "nc -w 5 "+addr+" 8000 </dev/null")
	h.sh("rm /etc/shoal/manifests/port.yaml")
	h.noPods()
	h.fails("nc -z -w 2 " + addr + " 8000")
}

func TestACrashingContainerIsStartedAgainEverLater(t *testing.T) {
	h := newShoal(t)
	h.drop("crash.yaml", strings.Replace(named("crash"), "exec sleep infinity", "exit 3", 1))
	h.shows("CrashLoopBackOff", "shoal get pod crash -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}'")
	if got := h.get("pod/crash", ".status.containerStatuses[0].lastState.terminated.exitCode"); got != "3" {
		t.Errorf("the last exit code is %q, want 3", got)
	}
	h.until("shoal get pods | grep -q CrashLoopBackOff")
	h.until(`test "$(shoal get pod crash -o jsonpath='{.status.containerStatuses[0].restartCount}')" -ge 2`)
}
