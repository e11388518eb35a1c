package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

// ownUsers is a pod with a user namespace of its own, with its name in the place of @@. /tree is what it runs from.
const ownUsers = `apiVersion: v1
kind: Pod
metadata: {name: @@}
spec:
  hostUsers: false
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: rootfs:///srv/tree
    securityContext: {procMount: Unmasked}
    command: [/bin/sh, -c, 'touch /data/mine /host/mine /part/mine && echo wrote; cat /conf/k /key/k; exec sleep 1000000']
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: data, mountPath: /part, subPath: a/b}
    - {name: host, mountPath: /host}
    - {name: conf, mountPath: /conf}
    - {name: key, mountPath: /key}
  volumes:
  - {name: data, emptyDir: {}}
  - {name: host, hostPath: {path: /srv/given, type: DirectoryOrCreate}}
  - {name: conf, configMap: {name: conf}}
  - {name: key, secret: {secretName: key, defaultMode: 0400}}
`

const ownUsersObjects = `apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {k: "conf\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {k: "key\n"}
`

// newShoalOnTmpfs is a host whose /srv and /var/lib/shoal can be ID-mapped, which a light host's root can't.
func newShoalOnTmpfs(t *testing.T) host {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox-static")
	}
	h := newHost(t)
	h.sh("mkdir -p /var/lib/shoal; for d in /srv /var/lib/shoal; do mount -t tmpfs -o mode=755 tmpfs $d; done; mkdir -p /srv/tree/bin")
	if err := h.CopyTo(h.Context(), busybox, "/srv/tree/bin/busybox"); err != nil {
		t.Fatal(err)
	}
	h.sh("chmod 755 /srv/tree/bin/busybox; /srv/tree/bin/busybox --install -s /srv/tree/bin; for f in /srv/tree/bin/*; do test $f = /srv/tree/bin/busybox || ln -sf busybox $f; done")
	h.install()
	return h
}

// first is the host's ID that is 0 in a pod, as the kernel has it.
func (h host) first(pod string) string {
	h.Helper()
	return strings.Fields(h.sh("shoal exec $1 -- cat /proc/self/uid_map", pod))[1]
}

func TestPodsHaveUsersOfTheirOwn(t *testing.T) {
	h := newShoalOnTmpfs(t)
	null := h.sh("stat -c '%u %a' /dev/null")
	h.drop("objects.yaml", ownUsersObjects)
	h.drop("one.yaml", strings.ReplaceAll(ownUsers, "@@", "one"))
	h.drop("two.yaml", strings.ReplaceAll(ownUsers, "@@", "two"))
	h.ready("one")
	h.ready("two")
	h.shows("wrote\nconf\nkey", "shoal logs one")

	one, two := h.first("one"), h.first("two")
	if one == two || one == "0" || two == "0" {
		t.Fatalf("the pods' IDs begin at %s and %s", one, two)
	}
	// Root inside is nobody's root outside, in each of the pod's processes.
	scope := h.sh("systemctl show 'shoal-default-one-*.scope' -p ControlGroup --value")
	uids := h.sh(`for p in $(cat /sys/fs/cgroup"$1"/main/cgroup.procs); do sed -n 's/^Uid:\t\([0-9]*\).*/\1/p' /proc/$p/status; done | sort -u`, scope)
	if uids != one {
		t.Errorf("the container's processes run as %q, want %s", uids, one)
	}
	if got := h.sh("shoal exec one -- sh -c 'id -u; stat -c %u:%g /data/mine /part/mine /host/mine /conf/k /key/k /etc/hosts /bin/busybox'"); strings.Join(strings.Fields(got), " ") != "0 0:0 0:0 0:0 0:0 0:0 0:0 0:0" {
		t.Errorf("inside: got %s, want only 0", got)
	}
	if got := h.sh("stat -c %u:%g /srv/given/mine /var/lib/shoal/pods/$1/volumes/data/mine", h.get("pod/one", ".metadata.uid")); got != "0:0\n"+one+":"+one {
		t.Errorf("on the host: got %s", got)
	}
	// procMount: Unmasked.
	if got := h.sh("shoal exec one -- sh -c 'grep -c \" /proc/\" /proc/self/mounts || true'"); got != "0" {
		t.Errorf("%s mounts below an unmasked /proc", got)
	}
	// What the pod's root can't do.
	h.fails("shoal exec one -- sh -c 'echo 1 > /proc/sys/kernel/sysrq'")
	if now := h.sh("stat -c '%u %a' /dev/null"); now != null {
		t.Errorf("the host's /dev/null was %s, is %s", null, now)
	}

	// A daemon that is killed finds the same again, and a new pod gets others.
	life := h.life("one")
	h.kill()
	if now := h.first("one"); now != one || h.life("one") != life {
		t.Errorf("kill -9 of shoald: the pod's IDs began at %s, begin at %s; it was %s, is %s", one, now, life, h.life("one"))
	}
	h.drop("three.yaml", strings.ReplaceAll(ownUsers, "@@", "three"))
	h.ready("three")
	three := h.first("three")
	if three == one || three == two {
		t.Errorf("after kill -9 a third pod has the IDs of another: %s", three)
	}
	// A container that starts again has the same IDs, and its files.
	h.sh("kill -9 $(cat /sys/fs/cgroup$1/main/cgroup.procs)", scope)
	h.until("test $(shoal get pod one -o jsonpath='{.status.containerStatuses[0].restartCount}') = 1")
	h.ready("one")
	if now := h.first("one"); now != one {
		t.Errorf("a restarted container's IDs began at %s, begin at %s", one, now)
	}

	// IDs that are free again are given again.
	h.sh("rm /etc/shoal/manifests/one.yaml")
	h.shows("", "shoal get pods -o name | grep one || true")
	h.drop("four.yaml", strings.ReplaceAll(ownUsers, "@@", "four"))
	h.ready("four")
	if got := h.first("four"); got != one {
		t.Errorf("a pod after one that is gone has the IDs from %s, want those from %s", got, one)
	}
}

// On a file system that can't show IDs otherwise, a pod is refused in words and nothing is given away.
func TestAHostPathThatCannotBeMappedIsRefused(t *testing.T) {
	h := newShoalOnTmpfs(t)
	h.drop("objects.yaml", ownUsersObjects)
	h.drop("one.yaml", strings.Replace(strings.ReplaceAll(ownUsers, "@@", "one"), "path: /srv/given", "path: /opt/given", 1))
	h.shows("CreateContainerError", "shoal get pod one -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}'")
	got := h.get("pod/one", ".status.containerStatuses[0].state.waiting.message")
	if !strings.Contains(got, "mount of /host in a pod with hostUsers: false: /opt/given lies on a file system (overlay)") {
		t.Errorf("got %q", got)
	}
	if got := h.sh("stat -c %u:%g /opt/given"); got != "0:0" {
		t.Errorf("it was given to %s", got)
	}
}
