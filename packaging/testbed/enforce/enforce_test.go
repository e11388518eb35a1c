// Package enforce shows on a full host, with its own kernel and cgroup v2, that
// the limits of pods hold. Light hosts run the same code and enforce nothing.
package enforce

import (
	"context"
	"flag"
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

// bedName spares whoever writes a test the boot: `testbed up --full --smp `+smp.
var bedName = flag.String("bed", "", "use the full host of this bed, which runs already, instead of booting one")

// smp is two cores of two threads each.
const smp = "4,sockets=1,cores=2,threads=2"

func up(ctx context.Context) (*bed.Bed, error) {
	if *bedName != "" {
		return bed.Open(*bedName)
	}
	return bed.Up(ctx, bed.Config{Hosts: 1, Kind: bed.Full, SMP: smp})
}

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
	flag.Parse()
	b, err := up(ctx)
	if err != nil {
		fmt.Println("make a full host:", err)
		return 1
	}
	if *bedName == "" {
		defer b.Down()
	}
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
	build := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", dir+"/", "github.com/shoal-project/shoal/cmd/shoald", "github.com/shoal-project/shoal/cmd/shoal")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if _, err := host.Shell(ctx, "systemctl stop shoald 2>&1 || true; systemctl reset-failed shoald 2>&1 || true; mkdir -p /etc/shoal/manifests; rm -f /etc/shoal/manifests/*"); err != nil {
		return err
	}
	for _, program := range []string{"shoald", "shoal"} {
		if err := host.CopyTo(ctx, filepath.Join(dir, program), "/usr/bin/"+program); err != nil {
			return err
		}
	}
	if err := host.WriteFile(ctx, configFile, []byte(settings)); err != nil {
		return err
	}
	_, err = host.Shell(ctx, start)
	return err
}

const (
	configFile = "/etc/shoal/shoal.toml"
	settings   = "[runtime]\npod_pids_limit = 64\n[memory]\nqos = true\n"
	start      = `systemd-run -q -u shoald -p Type=notify -p KillMode=process -p LimitMEMLOCK=infinity /usr/bin/shoald`
)

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

// await waits until a script prints want. The connection to an emulated host may
// break on a busy machine: then the script is run again.
func await(t *testing.T, want, script string) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var got string
	for {
		out, err := host.Shell(ctx, script+" || true")
		if err == nil && strings.TrimSpace(out) == want {
			return
		}
		if ctx.Err() == nil {
			got = strings.TrimSpace(out)
			if err != nil {
				got = err.Error()
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
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
	return loops(name, 2, resources)
}

// loops is a pod that uses all the processor it gets, in some processes.
func loops(name string, count int, resources string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: rootfs:///
    command: [sh, -c, "%s while :; do :; done"]
    resources: %s
`, name, strings.Repeat("(while :; do :; done) & ", count-1), resources)
}

// scope is the shell's way to a pod's cgroup.
func scope(pod string) string {
	return `$(echo /sys/fs/cgroup/shoal.slice/shoal-default-` + pod + `-*.scope /sys/fs/cgroup/shoal.slice/*/shoal-default-` + pod + `-*.scope | tr ' ' '\n' | grep -v '\*')`
}

// rate is how much processor time a pod used per time of the host's clock, in
// thousandths of a core: not less than least, not more than most.
type rate struct{ least, most float64 }

// usage measures pods for some seconds. The clock is read before and after the
// cgroups, as on an emulated host much time may go by in between.
func usage(t *testing.T, pods ...string) []rate {
	t.Helper()
	script := "files=/proc/uptime"
	for _, p := range pods {
		script += `; files="$files ` + scope(p) + `/cpu.stat"`
	}
	script += `; files="$files /proc/uptime"
		look() { awk '/^usage_usec/ { print $2 } FILENAME == "/proc/uptime" { printf "%.0f\n", $1 * 1000000 }' $files; }; look; sleep 6; look`
	var n []float64
	for _, field := range strings.Fields(shell(t, script)) {
		f, err := strconv.ParseFloat(field, 64)
		if err != nil {
			t.Fatal(err)
		}
		n = append(n, f)
	}
	half := len(pods) + 2
	if len(n) != 2*half {
		t.Fatalf("got %v", n)
	}
	first, second := n[:half], n[half:]
	var used []rate
	for i, pod := range pods {
		µs := second[1+i] - first[1+i]
		r := rate{least: 1000 * µs / (second[half-1] - first[0]), most: 1000 * µs / (second[0] - first[half-1])}
		t.Logf("%s used %.0fm to %.0fm", pod, r.least, r.most)
		used = append(used, r)
	}
	return used
}

// within is whether the rate may have been between two others.
func (r rate) within(least, most float64) bool { return r.most >= least && r.least <= most }

func TestABusyLoopWithA250mLimitGetsAQuarterOfACore(t *testing.T) {
	drop(t, "quota", busy("quota", "{limits: {cpu: 250m, memory: 64Mi}}"))
	running(t, "quota")
	if used := usage(t, "quota")[0]; !used.within(190, 280) {
		t.Errorf("used %.0fm with a limit of 250m", used)
	}
	if throttled := shell(t, "awk '/nr_throttled/{print $2}' "+scope("quota")+"/cpu.stat"); throttled == "0" {
		t.Error("never throttled")
	}
}

func TestRequestsOfThreeToOneShareTheProcessorsThreeToOne(t *testing.T) {
	drop(t, "shares", loops("big", 4, "{requests: {cpu: 300m}}")+"---\n"+loops("little", 4, "{requests: {cpu: 100m}}"))
	running(t, "big")
	running(t, "little")
	used := usage(t, "big", "little")
	if ratio := used[0].most / used[1].most; ratio < 2.2 || ratio > 4 {
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
	if used := usage(t, "resize")[0]; !used.within(380, 560) {
		t.Errorf("used %.0fm with a limit of 500m", used)
	}
}
