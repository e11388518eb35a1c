package bed

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestFullHosts takes minutes on a busy machine without KVM.
func TestFullHosts(t *testing.T) {
	if os.Getenv("SHOAL_TESTBED_FULL") == "" {
		t.Skip("boots emulated machines, which takes minutes: set SHOAL_TESTBED_FULL=1")
	}
	b := up(t, Config{Kind: Full, Hosts: 1, Nested: 2})
	h := b.Host("n1")

	t.Run("no unit failed", func(t *testing.T) {
		if got := shell(t, h, "systemctl is-system-running; systemctl --failed --plain --no-legend"); got != "running" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("all controllers are on cgroup v2", func(t *testing.T) {
		got := strings.Fields(shell(t, h, "cat /sys/fs/cgroup/cgroup.controllers"))
		for _, want := range []string{"cpuset", "cpu", "io", "memory", "pids"} {
			if !strings.Contains(strings.Join(got, " ")+" ", want+" ") {
				t.Errorf("no %s in %q", want, got)
			}
		}
	})
	t.Run("a quota is enforced", func(t *testing.T) { testQuota(t, h) })
	t.Run("a quota is enforced in a nested host", func(t *testing.T) { testQuota(t, h.Nested().Host("n1")) })
	t.Run("nested hosts reach each other until cut", func(t *testing.T) {
		nested := h.Nested()
		const ping = `ping -c1 -W3 "$1" >/dev/null && echo yes || echo no`
		to := nested.Host("n2").Addr().String()
		before := shell(t, nested.Host("n1"), ping, to)
		if err := nested.Cut(t.Context(), "n2"); err != nil {
			t.Fatal(err)
		}
		if after := shell(t, nested.Host("n1"), ping, to); before != "yes" || after != "no" {
			t.Errorf("reached before: %s, after: %s", before, after)
		}
	})
	t.Run("pods' networks work", func(t *testing.T) { testPodNetwork(t, h) })
	t.Run("a container runs in a delegated cgroup", func(t *testing.T) { testContainer(t, h) })
	t.Run("files and trees arrive with their modes", func(t *testing.T) { testCopy(t, h) })
	t.Run("a power cut loses memory and keeps the disk", func(t *testing.T) { testPowerCut(t, h) })
}

// testQuota lets a busy loop run with a fifth of a CPU. Time is counted in the kernel's own periods of 100 ms: the clock
// of an emulated machine on a busy one runs away from the work done.
func testQuota(t *testing.T, h *Host) {
	t.Helper()
	got := shell(t, h, `
systemd-run --quiet --wait --pipe --property=CPUQuota=20% sh -euc '
	group=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)
	timeout 10 sh -c "while :; do :; done" || true
	cat $group/cpu.stat' | sed -En 's/^(usage_usec|nr_periods|nr_throttled) //p'`)
	var used, periods, throttled float64
	if _, err := fmt.Sscan(got, &used, &periods, &throttled); err != nil {
		t.Fatalf("%q: %v", got, err)
	}
	share := used / 1e6 / (periods / 10)
	t.Logf("%.0f periods, %.0f of them throttled, %.1f %% of a CPU", periods, throttled, 100*share)
	if periods < 20 || throttled < periods/2 || share > 0.25 {
		t.Error("a quota of 20 % is not kept")
	}
}
