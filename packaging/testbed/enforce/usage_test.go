package enforce

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// metered has a container that uses a quarter of a core, one that holds 50 MiB,
// and one that has written 8 MiB.
const metered = `
apiVersion: v1
kind: Pod
metadata: {name: metered, labels: {app: metered}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: burns
    image: rootfs:///
    command: [sh, -c, "while :; do :; done"]
    resources: {limits: {cpu: 250m}}
  - name: holds
    image: rootfs:///
    command: [perl, -e, "open F, '</dev/zero'; sysread F, $x, 50 << 20; $| = 1; print \"holding\\n\"; sleep 1000000"]
  - name: writes
    image: rootfs:///
    command: [sh, -c, "dd if=/dev/zero of=/big bs=1M count=8 conv=fsync 2>&1 && echo written; sleep 1000000"]
`

// top is a container's line of `shoal top`: millicores and MiB.
func top(t *testing.T, container string) (milli, mib int) {
	t.Helper()
	for line := range strings.Lines(shell(t, "shoal top pod metered --containers --no-headers || true")) {
		f := strings.Fields(line)
		if len(f) == 4 && f[1] == container {
			milli, _ = strconv.Atoi(strings.TrimSuffix(f[2], "m"))
			mib, _ = strconv.Atoi(strings.TrimSuffix(f[3], "Mi"))
		}
	}
	return milli, mib
}

func TestTopAndMetricsShowWhatTheCgroupsCount(t *testing.T) {
	drop(t, "metered", metered)
	running(t, "metered")
	await(t, "holding", "shoal logs metered -c holds")
	await(t, "written", "shoal logs metered -c writes | tail -1")

	// Emulated processors are slow, so a window may hold an odd period more or less.
	var milli int
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		if milli, _ = top(t, "burns"); milli >= 225 && milli <= 275 {
			break
		}
	}
	if milli < 225 || milli > 275 {
		t.Errorf("top shows %dm for a loop that is limited to 250m", milli)
	}
	if milli, mib := top(t, "holds"); mib < 50 || mib > 70 || milli > 100 {
		t.Errorf("top shows %dm and %dMi for a container that holds 50 MiB and sleeps", milli, mib)
	}

	metric := func(name, container string) float64 {
		t.Helper()
		text := shell(t, `shoal get --raw /metrics/cadvisor | grep '^`+name+`{container="`+container+`",.*pod="metered"' | awk '{s += $NF} END {print s + 0}'`)
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return f
	}
	if got := metric("container_memory_working_set_bytes", "holds"); got < 50<<20 || got > 70<<20 {
		t.Errorf("working set %.0f", got)
	}
	kernel := shell(t, "cat "+scope("metered")+"/holds/memory.current")
	if current, _ := strconv.ParseFloat(kernel, 64); metric("container_memory_usage_bytes", "holds") > 1.2*current {
		t.Errorf("usage is not memory.current, %s", kernel)
	}
	if got := metric("container_cpu_cfs_throttled_periods_total", "burns"); got < 1 {
		t.Error("a loop that is limited to 250m was never throttled")
	}
	if got := metric("container_fs_writes_bytes_total", "writes"); got < 8<<20 {
		t.Errorf("%.0f bytes were written, want 8 MiB at least", got)
	}
	if got := metric("container_network_transmit_bytes_total", ""); got == 0 {
		t.Error("nothing was sent, not even what IPv6 asks when an interface comes up")
	}
	if node := shell(t, "shoal top nodes --no-headers"); strings.Contains(node, "unknown") || node == "" {
		t.Errorf("the node: %q", node)
	}
}
