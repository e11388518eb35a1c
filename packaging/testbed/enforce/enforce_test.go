// Package enforce shows on a full host, with its own kernel and cgroup v2, that
// the limits of pods hold. Light hosts run the same code and enforce nothing.
package enforce

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// host is the one full host of this package's tests.
var host *bed.Host

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 || os.Getenv("SHOAL_FULL_HOST") == "" {
		fmt.Println("skipped: a full host takes minutes to boot; make test sets SHOAL_FULL_HOST=1 and runs as root")
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	b, err := bed.Up(ctx, bed.Config{Hosts: 1, Kind: bed.Full})
	if err != nil {
		fmt.Println("make a full host:", err)
		return 1
	}
	defer b.Down()
	host = b.Host("n1")
	if err := install(ctx); err != nil {
		fmt.Println("install shoal:", err)
		return 1
	}
	return m.Run()
}

// install builds shoal and starts it on the host.
func install(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "enforce-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	build := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", "github.com/shoal-project/shoal/cmd/shoald", "github.com/shoal-project/shoal/cmd/shoal")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	for _, program := range []string{"shoald", "shoal"} {
		if err := host.CopyTo(ctx, filepath.Join(dir, program), "/usr/bin/"+program); err != nil {
			return err
		}
	}
	if _, err := host.Shell(ctx, "mkdir -p /etc/shoal/manifests"); err != nil {
		return err
	}
	if err := host.WriteFile(ctx, "/etc/shoal/shoal.toml", []byte("[runtime]\npod_pids_limit = 64\n")); err != nil {
		return err
	}
	_, err = host.Shell(ctx, `systemd-run -q -u shoald -p Type=notify -p KillMode=process -p LimitMEMLOCK=infinity /usr/bin/shoald`)
	return err
}

// shell runs a script on the host and returns what it printed.
func shell(t *testing.T, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := host.Shell(ctx, script)
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(out)
}

// drop puts manifests into the host's directory for the time of a test.
func drop(t *testing.T, name, yaml string) {
	t.Helper()
	file := "/etc/shoal/manifests/" + name + ".yaml"
	if err := host.WriteFile(t.Context(), file, []byte(yaml)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Shell(context.Background(), "rm -f "+file) })
}

// await waits until a script prints want.
func await(t *testing.T, want, script string) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(2 * time.Minute)
	var got string
	for {
		if got = shell(t, script+" || true"); got == want {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: got %q, want %q\n%s", script, got, want, shell(t, "shoal get pods; shoal get events; journalctl -u shoald --no-pager | tail -30"))
		}
	}
}

func running(t *testing.T, pod string) {
	t.Helper()
	await(t, "True", `shoal get pod `+pod+` -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}'`)
}

// busy is a pod that uses all the processor it gets, in two processes.
func busy(name, resources string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: rootfs:///
    command: [sh, -c, "(while :; do :; done) & while :; do :; done"]
    resources: %s
`, name, resources)
}

// scope is the shell's way to a pod's cgroup.
func scope(pod string) string {
	return `$(echo /sys/fs/cgroup/shoal.slice/shoal-default-` + pod + `-*.scope /sys/fs/cgroup/shoal.slice/*/shoal-default-` + pod + `-*.scope | tr ' ' '\n' | grep -v '\*')`
}

// usage is how much processor time pods used while the host's clock moved on by
// some seconds, in thousandths of a core.
func usage(t *testing.T, pods ...string) []float64 {
	t.Helper()
	script := "read_all() { date +%s%N; "
	for _, p := range pods {
		script += "awk '/usage_usec/{print $2}' " + scope(p) + "/cpu.stat; "
	}
	out := strings.Fields(shell(t, script+"}; read_all; sleep 6; read_all"))
	n := len(pods) + 1
	if len(out) != 2*n {
		t.Fatalf("got %q", out)
	}
	number := func(i int) float64 {
		f, err := strconv.ParseFloat(out[i], 64)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	wall := (number(n) - number(0)) / 1000 // µs
	var used []float64
	for i := range pods {
		used = append(used, 1000*(number(n+1+i)-number(1+i))/wall)
	}
	return used
}

func TestABusyLoopWithA250mLimitGetsAQuarterOfACore(t *testing.T) {
	drop(t, "quota", busy("quota", "{limits: {cpu: 250m, memory: 64Mi}}"))
	running(t, "quota")
	used := usage(t, "quota")[0]
	t.Logf("%.0fm used of 250m", used)
	if used < 200 || used > 275 {
		t.Errorf("used %.0fm with a limit of 250m", used)
	}
	if throttled := shell(t, "awk '/nr_throttled/{print $2}' "+scope("quota")+"/cpu.stat"); throttled == "0" {
		t.Error("never throttled")
	}
}

func TestRequestsOfThreeToOneShareTheProcessorsThreeToOne(t *testing.T) {
	drop(t, "shares", busy("big", "{requests: {cpu: 300m}}")+"---\n"+busy("little", "{requests: {cpu: 100m}}"))
	running(t, "big")
	running(t, "little")
	used := usage(t, "big", "little")
	t.Logf("big %.0fm, little %.0fm: %.2f to 1", used[0], used[1], used[0]/used[1])
	if ratio := used[0] / used[1]; ratio < 2.4 || ratio > 3.6 {
		t.Errorf("shared %.2f to 1, want 3 to 1", ratio)
	}
}

func TestMemoryOverTheLimitEndsInOOMKilled(t *testing.T) {
	drop(t, "oom", `
apiVersion: v1
kind: Pod
metadata: {name: oom}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: rootfs:///
    command: [tail, /dev/zero]
    resources: {limits: {memory: 32Mi}}
`)
	await(t, "OOMKilled 137 Failed", `shoal get pod oom -o jsonpath='{.status.containerStatuses[0].state.terminated.reason} {.status.containerStatuses[0].state.terminated.exitCode} {.status.phase}'`)
}

func TestThePidsLimitHolds(t *testing.T) {
	drop(t, "pids", `
apiVersion: v1
kind: Pod
metadata: {name: pids}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: rootfs:///
    command: [bash, -c, "for i in $(seq 200); do sleep 1000 & done; wait"] # dash would give up
`)
	await(t, "yes", `[ "$(awk '/max/{print $2}' `+scope("pids")+`/main/pids.events)" -gt 0 ] && echo yes`)
	current := shell(t, "cat "+scope("pids")+"/pids.current")
	if n, err := strconv.Atoi(current); err != nil || n > 64 {
		t.Errorf("%s processes with a limit of 64", current)
	}
}

func TestAnEditedLimitReachesTheCgroupsOfTheRunningContainer(t *testing.T) {
	pid := `shoal get pod resize -o jsonpath='{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}'`
	limits := "cat " + scope("resize") + "/cpu.max " + scope("resize") + "/main/cpu.max " + scope("resize") + "/main/memory.max"
	drop(t, "resize", busy("resize", "{limits: {cpu: 250m, memory: 64Mi}}"))
	running(t, "resize")
	await(t, "25000 100000\n25000 100000\n67108864", limits)
	before := shell(t, pid)
	drop(t, "resize", busy("resize", "{limits: {cpu: 500m, memory: 96Mi}}"))
	await(t, "50000 100000\n50000 100000\n100663296", limits)
	if after := shell(t, pid); after != before || before == "" {
		t.Errorf("the container was replaced: %q, then %q", before, after)
	}
	used := usage(t, "resize")[0]
	t.Logf("%.0fm used of 500m", used)
	if used < 400 || used > 550 {
		t.Errorf("used %.0fm with a limit of 500m", used)
	}
}
