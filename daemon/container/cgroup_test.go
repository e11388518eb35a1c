package container

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// testCgroup makes a cgroup of cgroup v2 with a leaf called init.
func testCgroup(t *testing.T) (root, parent string) {
	t.Helper()
	root = cgroupMount
	if hybrid() {
		root = cgroupHybrid
	}
	parent = fmt.Sprintf("shoal-container-test-%d", os.Getpid())
	if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
		t.Skip("needs cgroup v2")
	}
	if err := os.MkdirAll(filepath.Join(root, parent, "init"), 0o755); err != nil {
		t.Skipf("needs a writable cgroup v2: %v", err)
	}
	t.Cleanup(func() {
		os.Remove(filepath.Join(root, parent, "init"))
		if err := os.Remove(filepath.Join(root, parent)); err != nil {
			t.Errorf("left over: %v", err)
		}
	})
	return root, parent
}

func cgroupOf(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, path, _ := strings.Cut(string(b), "0::")
	return strings.TrimSpace(path)
}

func TestEverythingIsInItsCgroup(t *testing.T) {
	root, parent := testCgroup(t) // first, to be taken away last
	b := newBed(t)
	b.CgroupManager = "cgroupfs"
	cfg, err := b.config("mknod /tmp/mem c 1 1 && cat /tmp/mem >/dev/null; echo; read x", func(c *Config) {
		c.CgroupParent, c.Container.Stdin = parent, true
	}).Load()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := Spec(cfg)
	if err != nil {
		t.Fatal(err)
	}
	init, err := os.Open(filepath.Join(root, parent, "init"))
	if err != nil {
		t.Fatal(err)
	}
	defer init.Close()
	state, err := b.Create(t.Context(), cfg, spec, init)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if got, want := cgroupOf(t, b.processes(cfg).Conmon.PID), "/"+parent+"/init"; got != want {
		t.Errorf("conmon is in %s, want %s", got, want)
	}
	if got, want := cgroupOf(t, state.PID), "/"+parent+"/app"; got != want {
		t.Errorf("the container is in %s, want %s", got, want)
	}
	var out bytes.Buffer
	code, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"grep", "0::", "/proc/self/cgroup"}, Stdout: &out})
	if err != nil || code != 0 || out.String() != "0::/\n" {
		t.Errorf("exec sees %q, %d, %v: want the root of a cgroup namespace", out.String(), code, err)
	}
	b.until("the script", func() bool { return b.log(cfg, "stdout") != "" })
	// By the filter, or where there is none by the missing CAP_MKNOD.
	if got := b.log(cfg, "stderr"); !strings.Contains(got, "Operation not permitted") {
		t.Errorf("the kernel's memory could be opened: %q", got)
	}
	bad := b.config("", func(c *Config) { c.CgroupParent, c.Container.Command = parent, []string{"/no/such"} })
	bad.Container.Name = "bad"
	if _, err := b.tryCreate(bad); err == nil {
		t.Error("created without a command")
	}
	if _, err := os.Stat(filepath.Join(root, parent, "bad")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the failed container's cgroup is left: %v", err)
	}
	if err := b.Delete(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, parent, "app")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the container's cgroup is left: %v", err)
	}
}

func TestHostPIDContainersLeaveNobody(t *testing.T) {
	root, parent := testCgroup(t) // first, to be taken away last
	b := newBed(t)
	b.CgroupManager = "cgroupfs"
	cfg := b.run("sleep 1000 & echo; sleep 1000", func(c *Config) { c.CgroupParent, c.Pod.Spec.HostPID = parent, true })
	b.until("both", func() bool { return b.log(cfg, "stdout") != "" })
	if err := b.Signal(t.Context(), cfg.Dir, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.ended(cfg.Dir)
	if err := b.Delete(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if procs, err := os.ReadFile(filepath.Join(root, parent, "app/cgroup.procs")); err == nil {
		t.Errorf("processes are left: %s", procs)
	}
}

// conmon writes the file when memory.events says so; here only its meaning is
// tested, since the machine may have no memory controller.
func TestOOMFileMeansOOMKilled(t *testing.T) {
	b := newBed(t)
	killed, fine := b.run("kill -9 $$; sleep 1000"), b.run("true")
	if err := b.Signal(t.Context(), killed.Dir, syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg  Config
		want Reason
	}{{killed, OOMKilled}, {fine, Completed}} {
		b.ended(c.cfg.Dir)
		if err := os.WriteFile(filepath.Join(c.cfg.Dir, oomFile), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := b.read(c.cfg.Dir); !got.OOMKilled || got.Reason != c.want {
			t.Errorf("got %+v, want %s", got, c.want)
		}
	}
}
