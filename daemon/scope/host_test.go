package scope

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/util"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/utils/cpuset"
)

// hosts are the real ones that this machine has.
func hosts(t *testing.T, test func(*testing.T, Host)) {
	if os.Getuid() != 0 {
		t.Skip("cgroups need root")
	}
	t.Run("systemd", func(t *testing.T) { test(t, systemdHost(t)) })
	t.Run("plain", func(t *testing.T) { test(t, plainHost(t)) })
}

func systemdHost(t testing.TB) *onSystemd {
	if !util.IsRunningSystemd() {
		t.Skip("systemd is not PID 1")
	}
	h, err := openSystemd(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// plainHost works below a cgroup of its own. One that an earlier, killed run
// left behind goes first.
func plainHost(t testing.TB) *plain {
	if util.IsRunningSystemd() {
		t.Skip("systemd owns the cgroup tree")
	}
	left, _ := filepath.Glob("/sys/fs/cgroup/*/scope-test-*")
	for _, dir := range left {
		pid, _ := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "scope-test-"))
		if unix.Kill(pid, 0) == unix.ESRCH {
			sweep(t, filepath.Base(dir))
		}
	}
	under := "scope-test-" + strconv.Itoa(os.Getpid())
	h, err := openPlain(Options{Under: under}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Skip("cgroups can't be written: ", err)
	}
	t.Cleanup(func() { sweep(t, under) })
	return h
}

func sweep(t testing.TB, under string) {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + under)
	dirs = append(dirs, filepath.Join("/sys/fs/cgroup", under))
	for _, dir := range dirs {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := os.Stat(filepath.Join(dir, "cgroup.kill")); err == nil {
			_ = kill(ctx, dir)
		}
		if err := vacate(ctx, dir); err != nil {
			t.Errorf("left behind: %v", err)
		}
	}
}

// process starts a shell script that ends with the test.
func process(t testing.TB, script string) int {
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // what it forked before it was in a scope, too
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatalf("the script does not say that it runs: %v", err)
	}
	return cmd.Process.Pid
}

const stubborn = `trap "" TERM HUP INT; echo; while :; do sleep 1000; done`

// forking multiplies as fast as it can once it is in a scope.
const forking = `echo; until grep -q scopetest /proc/self/cgroup; do sleep 0.01; done; while :; do sh -c "sleep 100 &" & done`

func awaitForks(t *testing.T, u Unit) {
	t.Helper()
	eventually(t, "the scope forks", func() bool {
		inside, err := procs(filepath.Join(u.Cgroup, initLeaf))
		return err == nil && len(inside) > 20
	})
}

func spec(t testing.TB, name string, pids ...int) Spec {
	return Spec{
		Name: UnitName("scopetest", name, strconv.Itoa(os.Getpid())), Slice: BurstableSlice,
		Description: "pod scopetest/" + name, PIDs: pids,
	}
}

func start(t testing.TB, h Host, s Spec) Unit {
	t.Helper()
	u, err := h.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Stop(context.Background(), s.Name) })
	return u
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func find(t testing.TB, h Host, name string) (Unit, bool) {
	t.Helper()
	units, err := h.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(units, func(u Unit) bool { return u.Name == name })
	if i < 0 {
		return Unit{}, false
	}
	return units[i], true
}

func TestStartedScopeHoldsItsProcessesInInit(t *testing.T) {
	hosts(t, func(t *testing.T, h Host) {
		pid := process(t, stubborn)
		s := spec(t, "start", pid)
		u := start(t, h, s)
		inside, err := procs(filepath.Join(u.Cgroup, "init"))
		if err != nil || !slices.Contains(inside, pid) {
			t.Errorf("init holds %v, %v; want %d among them", inside, err, pid)
		}
		if own, err := procs(u.Cgroup); err != nil || len(own) > 0 {
			t.Errorf("the scope itself holds %v, %v", own, err)
		}
		available, _ := words(u.Cgroup, "cgroup.controllers")
		enabled, _ := words(u.Cgroup, "cgroup.subtree_control")
		if !slices.Equal(available, enabled) {
			t.Errorf("enabled %v of %v", enabled, available)
		}
		if got, ok := find(t, h, s.Name); !ok || got != u {
			t.Errorf("list shows %+v, want %+v", got, u)
		}
	})
}

func TestStopKillsWhatIgnoresSignalsAndLeavesNothing(t *testing.T) {
	hosts(t, func(t *testing.T, h Host) {
		pid := process(t, stubborn)
		s := spec(t, "stop", pid)
		u := start(t, h, s)
		// As an OCI runtime would: a container's leaf, with a cgroup of its own.
		inner := filepath.Join(u.Cgroup, "main", "inner")
		if err := os.MkdirAll(inner, 0o755); err != nil {
			t.Fatal(err)
		}
		other := process(t, stubborn)
		if err := move(inner, other); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := h.Stop(t.Context(), s.Name); err != nil {
			t.Fatal(err)
		}
		t.Logf("stopped in %v", time.Since(begin))
		if !gone(pid) || !gone(other) {
			t.Error("a process survived")
		}
		if exists(u.Cgroup) {
			t.Error("the cgroup is still there")
		}
		if u, ok := find(t, h, s.Name); ok {
			t.Errorf("still listed: %+v", u)
		}
		if err := h.Stop(t.Context(), s.Name); err != nil {
			t.Errorf("stopping again: %v", err)
		}
		left, _ := filepath.Glob("/run/systemd/transient/" + s.Name + "*")
		if len(left) > 0 {
			t.Errorf("systemd keeps %v", left)
		}
	})
}

func TestStopEndsForkingProcesses(t *testing.T) {
	hosts(t, func(t *testing.T, h Host) {
		pid := process(t, forking)
		s := spec(t, "forks", pid)
		s.Resources.TasksMax = 200
		u := start(t, h, s)
		awaitForks(t, u)
		if err := h.Stop(t.Context(), s.Name); err != nil {
			t.Fatal(err)
		}
		if exists(u.Cgroup) {
			t.Error("the cgroup is still there")
		}
	})
}

// On kernels before 5.14.
func TestKillingOneByOneEndsForkingProcesses(t *testing.T) {
	h := plainHost(t)
	u := start(t, h, spec(t, "old", process(t, forking)))
	awaitForks(t, u)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := killEach(ctx, u.Cgroup); err != nil {
		t.Fatal(err)
	}
	if alive, err := populated(u.Cgroup); alive || err != nil {
		t.Errorf("populated: %v, %v", alive, err)
	}
}

func TestStartAgainAdoptsTheScope(t *testing.T) {
	hosts(t, func(t *testing.T, h Host) {
		first := process(t, stubborn)
		s := spec(t, "again", first)
		start(t, h, s)
		second := process(t, stubborn)
		s.PIDs = []int{second}
		s.Resources.TasksMax = 77
		u := start(t, h, s)
		inside, err := procs(filepath.Join(u.Cgroup, "init"))
		if err != nil || !slices.Contains(inside, first) || !slices.Contains(inside, second) {
			t.Errorf("init holds %v, %v; want %d and %d among them", inside, err, first, second)
		}
		if show, ok := systemctlShow(t, s.Name, "TasksMax"); ok && show["TasksMax"] != "77" {
			t.Errorf("systemd has %v", show)
		}
	})
}

func TestScopeEndsWithItsLastProcess(t *testing.T) {
	hosts(t, func(t *testing.T, h Host) {
		pid := process(t, `echo; exec sleep 1000`)
		s := spec(t, "ends", pid)
		start(t, h, s)
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the scope is not active", func() bool {
			u, ok := find(t, h, s.Name)
			return !ok || !u.Active
		})
		// The name can be used again at once.
		s.PIDs = []int{process(t, stubborn)}
		if u := start(t, h, s); !u.Active {
			t.Errorf("started again: %+v", u)
		}
	})
}

func TestUpdateOfNothingIsNotFound(t *testing.T) {
	hosts(t, func(t *testing.T, h Host) {
		err := h.Update(t.Context(), spec(t, "nothing").Name, Resources{CPUWeight: 1})
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

func TestStartOfDeadProcessIsAnError(t *testing.T) {
	hosts(t, func(t *testing.T, h Host) {
		cmd := exec.Command("/bin/true")
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		s := spec(t, "dead", cmd.Process.Pid)
		u, err := h.Start(t.Context(), s)
		if err == nil {
			t.Errorf("started %+v", u)
		}
		if err := h.Stop(t.Context(), s.Name); err != nil {
			t.Error(err)
		}
	})
}

func gib(n int64) *int64 { n <<= 30; return &n }

// The limits as systemd shows them, also where no controller enforces them.
func TestSystemdHasTheLimits(t *testing.T) {
	h := systemdHost(t)
	s := spec(t, "limits", process(t, stubborn))
	s.Resources = Resources{
		CPUWeight: 30, CPUQuota: 260 * time.Millisecond, AllowedCPUs: cpuset.New(0, 1),
		MemoryMax: gib(4), MemoryHigh: gib(3), MemoryLow: gib(2), MemoryMin: gib(1), TasksMax: 50,
	}
	start(t, h, s)
	names := []string{"Slice", "Description", "Delegate", "CollectMode", "TimeoutStopUSec", "CPUWeight",
		"CPUQuotaPerSecUSec", "AllowedCPUs", "MemoryMax", "MemoryHigh", "MemoryLow", "MemoryMin", "TasksMax"}
	check := func(want ...string) {
		t.Helper()
		got, _ := systemctlShow(t, s.Name, names...)
		for i, name := range names {
			if got[name] != want[i] {
				t.Errorf("%s is %q, want %q", name, got[name], want[i])
			}
		}
	}
	check("shoal-burstable.slice", "pod scopetest/limits", "yes", "inactive-or-failed", "10s", "30",
		"260ms", "0-1", "4294967296", "3221225472", "2147483648", "1073741824", "50")
	if err := h.Update(t.Context(), s.Name, Resources{CPUWeight: 60, CPUQuota: time.Second}); err != nil {
		t.Fatal(err)
	}
	after := []string{"shoal-burstable.slice", "pod scopetest/limits", "yes", "inactive-or-failed", "10s", "60",
		"1s", "", "infinity", "infinity", "0", "0", "infinity"}
	check(after...)
	// A reload reads units from their files again: nothing may change.
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	check(after...)
}

func systemctlShow(t testing.TB, unit string, names ...string) (map[string]string, bool) {
	t.Helper()
	if !util.IsRunningSystemd() {
		return nil, false
	}
	out, err := exec.Command("systemctl", "show", "-p", strings.Join(names, ","), unit).Output()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		got[name] = value
	}
	return got, true
}

func TestSlicesGetTheirWeights(t *testing.T) {
	hosts(t, func(t *testing.T, h Host) {
		start(t, h, spec(t, "slices", process(t, stubborn)))
		want := map[string]Resources{RootSlice: {}, BurstableSlice: {CPUShares: 1024, CPUWeight: 39}, BestEffortSlice: {CPUShares: 2, CPUWeight: 1}}
		for range 2 {
			if err := h.Slices(t.Context(), want); err != nil {
				t.Fatal(err)
			}
		}
		if show, ok := systemctlShow(t, BestEffortSlice, "CPUWeight", "ActiveState"); ok && (show["CPUWeight"] != "1" || show["ActiveState"] != "active") {
			t.Errorf("systemd has %v", show)
		}
		if p, ok := h.(*plain); ok && p.v1["cpu"] != "" {
			got, err := words(filepath.Join(p.v1["cpu"], p.under, slicePath(BestEffortSlice)), "cpu.shares")
			if err != nil || !slices.Equal(got, []string{"2"}) {
				t.Errorf("cpu.shares is %v, %v", got, err)
			}
		}
	})
}

func TestConnectionIsMadeAgain(t *testing.T) {
	h := systemdHost(t)
	start(t, h, spec(t, "before", process(t, stubborn)))
	if err := h.bus.close(); err != nil {
		t.Fatal(err)
	}
	start(t, h, spec(t, "after-close", process(t, stubborn)))
	if out, err := exec.Command("systemctl", "daemon-reexec").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	start(t, h, spec(t, "after-reexec", process(t, stubborn)))
	if _, ok := find(t, h, spec(t, "before").Name); !ok {
		t.Error("a scope was lost")
	}
}

// The limits really hold, where there are controllers for them.
func TestPlainLimitsAreWritten(t *testing.T) {
	h := plainHost(t)
	s := spec(t, "written", process(t, stubborn))
	s.Resources = Resources{CPUShares: 512, CPUWeight: 20, CPUQuota: 250 * time.Millisecond, AllowedCPUs: cpuset.New(0), MemoryMax: gib(1), TasksMax: 50}
	u := start(t, h, s)
	check := func(r Resources) {
		t.Helper()
		list := settings(r)
		if h.CgroupV1() {
			list = settingsV1(r)
		}
		for _, set := range list {
			if !slices.Contains(h.controllers, set.Controller) {
				continue
			}
			root := h.root
			if h.CgroupV1() {
				root = h.v1[set.Controller]
			}
			got, err := words(filepath.Join(root, u.Path), set.File)
			if err != nil || (set.Value != "-1" && !slices.Equal(got, strings.Fields(set.Value))) {
				t.Errorf("%s holds %v, %v; want %s", set.File, got, err, set.Value)
			}
		}
	}
	check(s.Resources)
	after := Resources{CPUShares: 1024, CPUWeight: 39, CPUQuota: 100 * time.Millisecond}
	if err := h.Update(t.Context(), s.Name, after); err != nil {
		t.Fatal(err)
	}
	if !h.CgroupV1() { // it has all of them: no cgroup with processes can go back to none
		var err error
		if after.AllowedCPUs, err = possibleCPUs(); err != nil {
			t.Fatal(err)
		}
	}
	check(after)
}

func TestPidsLimitHolds(t *testing.T) {
	hosts(t, func(t *testing.T, h Host) {
		if !slices.Contains(h.Controllers(), "pids") {
			t.Skip("no pids controller here")
		}
		s := spec(t, "pids", process(t, `echo; read go; for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done`))
		s.Resources.TasksMax = 4
		start(t, h, s)
		// A script in the scope that wants nine more processes gets at most three.
		out, err := exec.Command("/bin/sh", "-c", joinScript(h, s)+`for i in 1 2 3 4 5 6 7 8 9; do sleep 0 & done; wait`).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "fork") {
			t.Errorf("nine processes under a limit of four: %v: %s", err, out)
		}
	})
}

// joinScript moves a shell into the scope.
func joinScript(h Host, s Spec) string {
	switch h := h.(type) {
	case *plain:
		path := filepath.Join("/", h.under, slicePath(s.Slice), s.Name)
		script := "echo $$ >" + filepath.Join(h.root, path, "init/cgroup.procs") + "; "
		for _, root := range h.v1 {
			script += "echo $$ >" + filepath.Join(root, path, "cgroup.procs") + "; "
		}
		return script
	case *onSystemd:
		return "echo $$ >" + filepath.Join(h.unit(s.Name, s.Slice, true).Cgroup, "init/cgroup.procs") + "; "
	}
	return ""
}

func TestCPUQuotaHolds(t *testing.T) {
	hosts(t, func(t *testing.T, h Host) {
		if !slices.Contains(h.Controllers(), "cpu") {
			t.Skip("no cpu controller here")
		}
		s := spec(t, "quota", process(t, stubborn))
		s.Resources.CPUQuota = 200 * time.Millisecond
		start(t, h, s)
		cmd := exec.Command("timeout", "2", "/bin/sh", "-c", joinScript(h, s)+`while :; do :; done`)
		_ = cmd.Run() // ends by its timeout
		used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		// 20 % of two seconds, or less on a busy machine; a free loop uses up
		// to two seconds.
		if used > 700*time.Millisecond {
			t.Errorf("a loop with a quota of 20 %% used %v in 2 s", used)
		}
		t.Logf("used %v of 400ms", used)
	})
}

func TestV1LeavesOfRuntimesGoWithTheScope(t *testing.T) {
	h := plainHost(t)
	if !h.CgroupV1() {
		t.Skip("a pure cgroup v2 machine")
	}
	s := spec(t, "leaves", process(t, stubborn))
	u := start(t, h, s)
	var made []string
	for _, c := range []string{"freezer", "devices", "memory"} {
		dir := filepath.Join("/sys/fs/cgroup", c, u.Path, "main")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Skip(err)
		}
		made = append(made, filepath.Dir(dir))
	}
	astray := process(t, stubborn) // in a v1 hierarchy only
	if err := move(filepath.Join(made[0], "main"), astray); err != nil {
		t.Fatal(err)
	}
	if err := h.Stop(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	if !gone(astray) {
		t.Error("a process survived")
	}
	for _, dir := range made {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there", dir)
		}
	}
}

// BenchmarkStart says how long a pod waits for its scope, one at a time and
// ten at once.
func BenchmarkStart(b *testing.B) {
	for _, parallel := range []int{1, 10} {
		b.Run(fmt.Sprintf("systemd/%d", parallel), func(b *testing.B) { benchStart(b, systemdHost(b), parallel) })
		b.Run(fmt.Sprintf("plain/%d", parallel), func(b *testing.B) { benchStart(b, plainHost(b), parallel) })
	}
}

func benchStart(b *testing.B, h Host, parallel int) {
	pids := make([]int, parallel)
	var took []time.Duration
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		for i := range pids {
			pids[i] = process(b, stubborn)
		}
		b.StartTimer()
		var group errgroup.Group
		each := make([]time.Duration, parallel)
		for i, pid := range pids {
			group.Go(func() error {
				begin := time.Now()
				_, err := h.Start(b.Context(), spec(b, fmt.Sprintf("bench-%d-%d", n, i), pid))
				each[i] = time.Since(begin)
				return err
			})
		}
		err := group.Wait()
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, each...)
		for i := range pids {
			if err := h.Stop(b.Context(), spec(b, fmt.Sprintf("bench-%d-%d", n, i)).Name); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms/median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms/p99")
}
