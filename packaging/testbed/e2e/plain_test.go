package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// leftPlain prints what a pod may leave behind inside, and nothing when there is none.
const leftPlain = `
pgrep -a 'conmon|catatonit|crun|sleep' | grep -v '^1 ' || true
grep -hE ' /(run|var/lib)/shoal/' /proc/*/mountinfo | cut -d' ' -f5- | sort -u
find /sys/fs/cgroup -name '*.scope'
ip -o link | grep veth || true
find /run/shoal/pods /var/lib/shoal/pods /var/log/pods -mindepth 1 2>/dev/null || true
`

// limited is the sleeper with limits.
func limited(name string) string {
	return named(name) + "    resources: {limits: {cpu: 250m, memory: 64Mi}}\n"
}

func TestWithoutSystemdPodsRunAndNothingIsPretended(t *testing.T) {
	for tree, line := range map[cgroupTree]string{
		sameTree:     `systemd is not PID 1: pods run in plain cgroups`,
		unifiedTree:  `systemd is not PID 1: pods run in plain cgroups; limits are not enforced: cpu, cpuset, memory, pids`,
		readOnlyTree: `systemd is not PID 1 and cgroups can't be written \(.*\): limits are not enforced: cpu, cpuset, memory, pids`,
	} {
		t.Run(string(tree), func(t *testing.T) {
			if tree != readOnlyTree && !controllersAreV1() {
				t.Skip("this machine's controllers are cgroup v2's: what of them reaches namespaces is up to its systemd")
			}
			p := newPlain(t, tree)
			kill := p.daemon()
			log, err := os.ReadFile(p.log)
			if err != nil {
				t.Fatal(err)
			}
			if found := regexp.MustCompile(`(?m) msg="`+line+`"$`).FindAll(log, -1); len(found) != 1 {
				t.Errorf("at start shoald says %d times %q, want once", len(found), line)
			}
			p.sh("cat > /etc/shoal/manifests/one.yaml <<'END'\n" + limited("one") + "END")
			p.shows("True", `shoal get pod one -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}'`)
			p.shows("I am one", "shoal logs one")
			if got := p.sh("shoal exec one -- cat /proc/1/comm"); got != "sleep" {
				t.Errorf("the container's first process is %q, want sleep", got)
			}
			p.enforcesWhatItSays(line)

			before := p.life("one")
			kill()
			p.daemon()
			if after := p.life("one"); after != before {
				t.Errorf("kill -9 of shoald: the pod was %s, is %s", before, after)
			}
			p.sh("shoal exec one -- true")

			if p.sh(leftPlain) == "" {
				t.Error("a pod runs and no trace of it is found: the next check can't fail")
			}
			p.sh("rm /etc/shoal/manifests/one.yaml")
			p.shows("", "shoal get pods -o name")
			p.shows("", leftPlain)
		})
	}
}

// controllersAreV1 says whether this machine has cgroup v1's cpu controller, and so none for cgroup v2.
func controllersAreV1() bool {
	_, err := os.Stat("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
	if os.IsNotExist(err) { // only below the root on some kernels
		_, err = os.Stat("/sys/fs/cgroup/cpu/cpu.shares")
	}
	return err == nil
}

// enforcesWhatItSays compares the node's condition, also in `shoal status`, with the cgroups of the pod one, which has limits.
func (p *plain) enforcesWhatItSays(line string) {
	p.Helper()
	if p.tree == sameTree {
		line += "; limits hold for a pod as a whole, not for each container, nor for what shoal exec starts"
	}
	want := regexp.MustCompile(`^False ` + line + `(; devices .*)?$`)
	if got := p.sh(`shoal get node plain -o jsonpath='{range .status.conditions[?(@.type=="shoal.io/LimitsEnforced")]}{.status} {.message}{end}'`); !want.MatchString(got) {
		p.Errorf("the node's condition LimitsEnforced is %q, want %s", got, want)
	}
	if got := p.sh("shoal status"); !regexp.MustCompile(`(?m)^shoal.io/LimitsEnforced: PROBLEM ` + line).MatchString(got) {
		p.Errorf("shoal status: want a problem %q, got\n%s", line, got)
	}
	if got := p.sh("shoal get events -A"); strings.Count(got, "LimitsNotEnforced") != 1 {
		p.Errorf("want one event LimitsNotEnforced, got\n%s", got)
	}
	wantCPU, wantMemory := "25000/100000", "67108864"
	if p.tree != sameTree {
		wantCPU, wantMemory = "", ""
	}
	if got := p.ofScope("cpu", "cpu.cfs_quota_us cpu.cfs_period_us"); got != wantCPU {
		p.Errorf("the pod's CPU quota and period are %q, want %q", got, wantCPU)
	}
	if got := p.ofScope("memory", "memory.limit_in_bytes"); got != wantMemory {
		p.Errorf("the pod's memory limit is %q, want %q", got, wantMemory)
	}
	if p.tree != sameTree {
		return
	}
	// In force, not only written: the container's process is where the limit is.
	for _, controller := range []string{"cpu", "memory"} {
		if got := p.sh("grep -E '^[0-9]+:" + controller + ":' /proc/$(pgrep -x sleep)/cgroup"); !strings.Contains(got, "/shoal-default-one-") {
			p.Errorf("the container's process is in %q, want the pod's scope", got)
		}
	}
}

// ofScope is what files of the pod one's cgroup hold in a v1 hierarchy, with slashes between; empty where it has none.
func (p *plain) ofScope(controller, files string) string {
	p.Helper()
	return p.sh(`dir=$(find /sys/fs/cgroup/` + controller + ` -name 'shoal-default-one-*.scope' 2>/dev/null) || true
test -z "$dir" || (cd "$dir" && cat ` + files + ` | paste -sd/)`)
}

// life is what changes when a pod is not the same any more, or was restarted; the pod has to be the only one.
func (p *plain) life(pod string) string {
	p.Helper()
	return p.sh(`pgrep -x 'conmon|catatonit|sleep' | tr '\n' ' '; shoal get pod ` + pod +
		` -o jsonpath='{.metadata.uid} {.status.containerStatuses[*].restartCount} {.status.containerStatuses[*].containerID}'`)
}

func TestWithoutSystemdRuncIsRefusedWhereItCantRun(t *testing.T) {
	for _, tree := range []cgroupTree{sameTree, readOnlyTree} {
		t.Run(string(tree), func(t *testing.T) {
			if tree == sameTree && !controllersAreV1() {
				t.Skip("runc can run where cgroup v2 is alone")
			}
			p := newPlain(t, tree)
			// Any program of that name: it is refused before it runs.
			p.sh(`mkdir /run/bin && ln -s /bin/true /run/bin/runc && printf '[runtime]\noci = "/run/bin/runc"\n' > /etc/shoal/shoal.toml`)
			_, err := p.try("exec timeout 20 shoald")
			if err == nil || !strings.Contains(err.Error(), `/run/bin/runc can't run containers where cgroup v2 alone can't be written: set runtime.oci = "crun"`) {
				t.Errorf("shoald with runc: got %v", err)
			}
		})
	}
}
