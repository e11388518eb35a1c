package e2e

import (
	"strings"
	"testing"
)

func TestPodsDoNotNoticeWhatBecomesOfTheDaemon(t *testing.T) {
	h := newShoal(t)
	h.drop("one.yaml", named("one"))
	h.ready("one")
	before := h.life("one")
	for _, what := range []string{
		"systemctl kill --signal=KILL --kill-whom=main shoald",
		"systemctl restart shoald",
		"DEBIAN_FRONTEND=noninteractive apt-get install -y --reinstall /root/shoal.deb",
	} {
		daemon := h.sh("systemctl show -p MainPID --value shoald")
		h.sh(what)
		h.until(`pid=$(systemctl show -p MainPID --value shoald); test $pid != 0 && test $pid != ` + daemon)
		h.answers()
		h.ready("one")
		if after := h.life("one"); after != before {
			t.Errorf("%s: the pod was %s, is %s", what, before, after)
		}
	}
}

func TestAPodWhoseFileWentWhileNoDaemonRanIsStopped(t *testing.T) {
	h := newShoal(t)
	h.drop("one.yaml", named("one"))
	h.drop("two.yaml", named("two"))
	h.ready("one")
	h.ready("two")
	two := h.life("two")
	h.sh("systemctl stop shoald && rm /etc/shoal/manifests/one.yaml")
	if got := h.sh("systemctl is-active 'shoal-default-*.scope' | sort -u"); got != "active" {
		t.Errorf("without the daemon the scopes are %q, want active", got)
	}
	h.sh("systemctl start shoald")
	h.shows("pod/two", "shoal get pods -o name")
	h.shows("1", "systemctl list-units --no-legend 'shoal-*.scope' | wc -l")
	if after := h.life("two"); after != two {
		t.Errorf("the other pod was %s, is %s", two, after)
	}
}

func TestAPowerCutEndsInTheSamePods(t *testing.T) {
	h := newShoal(t)
	h.drop("one.yaml", named("one"))
	h.ready("one")
	uid := h.get("pod/one", ".metadata.uid")
	h.sh("sync")
	if err := h.PowerCut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.answers()
	h.shows("1", "shoal get pod one -o jsonpath='{.status.containerStatuses[0].restartCount}'")
	h.ready("one")
	if now := h.get("pod/one", ".metadata.uid"); now != uid {
		t.Errorf("the pod's UID was %s, is %s", uid, now)
	}
	h.sh("shoal exec one -- true")
}

func TestAReloadAppliesWhatItCanAndNamesTheRest(t *testing.T) {
	h := newShoal(t)
	h.sh(`printf '[labels]\nrack = "r1"\n[network]\nmtu = 1400\n' > /etc/shoal/shoal.toml && systemctl reload shoald`)
	h.shows("r1", "shoal get node n1 -o jsonpath='{.metadata.labels.rack}'")
	h.until("journalctl -u shoald | grep -q 'needs_restart=.*network.mtu'")

	h.sh(`printf '[labels]\nrack = "r2"\ncolour\n' > /etc/shoal/shoal.toml && systemctl reload shoald`)
	h.until("journalctl -u shoald | grep -q 'shoal.toml:3'")
	h.until("systemctl is-active shoald")
	if got := h.get("node/n1", ".metadata.labels.rack"); got != "r1" {
		t.Errorf("after a bad file the label is %q, want the former r1", got)
	}
}

// traces prints all that Shoal may leave on a host, and nothing on one without.
const traces = `
pgrep -a 'conmon|catatonit|shoald|crun' || true
grep -E '/(run|var/lib)/shoal/' /proc/*/mountinfo | cut -d: -f2- | sort -u
find /sys/fs/cgroup -name 'shoal*'
ip -o link | grep -E 'shoal|@if' | grep -v host0 || true
ip netns; nft list tables
systemctl list-units --all --no-legend 'shoal*'
find /run/shoal /var/lib/shoal /etc/shoal /run/systemd/transient /run/systemd/system.control /var/log/pods -mindepth 1 2>/dev/null | grep -E 'shoal|pods' || true
getent group shoal || true
`

func TestPurgeLeavesNothing(t *testing.T) {
	h := newHost(t)
	clean := h.sh(traces)
	h.install()
	h.drop("one.yaml", named("one"))
	h.drop("volumes.yaml", strings.Replace(named("volumes"), "    command:", `    volumeMounts:
    - {name: disk, mountPath: /disk}
    - {name: memory, mountPath: /memory}
    ports: [{containerPort: 9000, hostPort: 8000}]
    command:`, 1)+`  volumes:
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory}}
`)
	h.drop("service.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: one}\nspec: {selector: {app: one}, ports: [{port: 80}]}\n")
	h.ready("one")
	h.ready("volumes")
	h.shows("1", "nft list tables | grep -c shoal-services")
	if found := h.sh(traces); found == clean {
		t.Fatal("two pods run and no trace of them is found: this test can't fail")
	}
	before := h.processes("one")

	h.sh("apt-get remove -y shoal")
	if after := h.processes("one"); after != before {
		t.Errorf("apt remove: the pod's processes were %s, are %s", before, after)
	}

	h.sh("rm /etc/shoal/manifests/*.yaml; apt-get purge -y shoal")
	h.shows(strings.TrimSpace(clean), traces)
}
