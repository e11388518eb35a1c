package container

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestTheFirstThreadKeepsItsNamespaces(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: namespaces")
	}
	before, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	// Which threads run these is up to the scheduler; of so many, some would
	// be the first.
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for range 10 {
				if err := onOwnThread(func() error { return unix.Unshare(unix.CLONE_NEWNS) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if after, err := os.Readlink("/proc/self/ns/mnt"); err != nil || after != before {
		t.Errorf("%s became %s, %v", before, after, err)
	}
}

func TestSysctlsOfTheHostAreRefused(t *testing.T) {
	own := Sandbox{NetNS: "/n", IPCNS: "/i"}
	for _, c := range []struct {
		name string
		sb   Sandbox
		ok   bool
	}{
		{"net.core.somaxconn", own, true},
		{"net/ipv4/conf/eth0.1/forwarding", own, true},
		{"kernel.shm_rmid_forced", own, true},
		{"kernel.sem", own, true},
		{"fs.mqueue.msg_max", own, true},
		{"vm.swappiness", own, false},
		{"kernel.core_pattern", own, false},
		{"net/../kernel/core_pattern", own, false},
		{"net.core.somaxconn", Sandbox{IPCNS: "/i"}, false},
		{"kernel.sem", Sandbox{NetNS: "/n"}, false},
	} {
		if err := checkSysctls(c.sb, map[string]string{c.name: "1"}); (err == nil) != c.ok {
			t.Errorf("%s in %+v: %v", c.name, c.sb, err)
		}
	}
}

func TestSandboxIsSetUp(t *testing.T) {
	b := newBed(t)
	dir := b.dir + "/pods/sysctl"
	cfg := SandboxConfig{Dir: dir, Hostname: "box", Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "7", "kernel.msgmax": "9999"}, ShmSize: 1 << 20}
	sb, err := StartSandbox(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	again, err := StartSandbox(t.Context(), cfg)
	if err != nil || again != sb {
		t.Errorf("started again: %+v, %v, want %+v", again, err, sb)
	}
	if read, err := ReadSandbox(dir); err != nil || read != sb {
		t.Errorf("read %+v, %v, want %+v", read, err, sb)
	}
	err = onOwnThread(func() error {
		for _, ns := range []string{sb.NetNS, sb.IPCNS, sb.UTSNS} {
			if err := enter(ns); err != nil {
				return err
			}
		}
		for name, want := range map[string]string{"net/ipv4/ip_unprivileged_port_start": "7\n", "kernel/msgmax": "9999\n", "kernel/hostname": "box\n"} {
			if got, err := os.ReadFile("/proc/sys/" + name); err != nil || string(got) != want {
				t.Errorf("%s is %q, %v, want %q", name, got, err, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds what the first mounted
		if err := MountShm(cfg); err != nil {
			t.Fatal(err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if n := strings.Count(string(mounts), " "+sb.Shm+" "); n != 1 || err != nil {
		t.Errorf("shm is mounted %d times, %v", n, err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(sb.Shm, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC || int64(fs.Blocks)*fs.Bsize != 1<<20 {
		t.Errorf("shm: %+v, %v", fs, err)
	}
	if st, err := readStat(sb.PID); err != nil || !sb.Alive() {
		t.Errorf("pause: %+v %v", st, err)
	}
	// Killed from outside: seen at once, and reaped.
	if err := unix.Kill(sb.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.until("the pause process to be gone", func() bool { return !sb.Alive() })
	next, err := StartSandbox(t.Context(), cfg)
	if err != nil || next.PID == sb.PID {
		t.Errorf("restarted: %+v, %v", next, err)
	}
	if err := StopSandbox(dir); err != nil {
		t.Fatal(err)
	}
	if next.Alive() {
		t.Error("alive after StopSandbox")
	}
	if err := StopSandbox(dir); err != nil {
		t.Errorf("StopSandbox again: %v", err)
	}
}

func TestABadSysctlLeavesNothing(t *testing.T) {
	b := newBed(t)
	dir := b.dir + "/pods/bad"
	for _, name := range []string{"vm.swappiness", "net.no.such.thing"} {
		if _, err := StartSandbox(t.Context(), SandboxConfig{Dir: dir, Hostname: "box", Sysctls: map[string]string{name: "1"}}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if left := leftovers(b.dir); len(left) > 0 {
		t.Errorf("left over: %s", left)
	}
}

func TestOrphansAreFound(t *testing.T) {
	b := newBed(t)
	dir := b.dir + "/pods/orphan"
	sb, err := StartSandbox(t.Context(), SandboxConfig{Dir: dir, Hostname: "box"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := FindOrphans(b.dir + "/pods"); err != nil || len(got) != 0 {
		t.Errorf("with its record: %v, %v", got, err)
	}
	if err := os.Remove(dir + "/" + sandboxFile); err != nil {
		t.Fatal(err)
	}
	got, err := FindOrphans(b.dir + "/pods")
	if err != nil || len(got) != 1 || got[0] != (Orphan{sb.PID, dir}) {
		t.Errorf("without: %v, %v", got, err)
	}
	if err := StopSandbox(dir); err != nil || sb.Alive() {
		t.Errorf("StopSandbox: %v, alive %v", err, sb.Alive())
	}
}

func TestTheLockIsHeldByAForkedChild(t *testing.T) {
	dir := t.TempDir()
	f, err := os.OpenFile(dir+"/"+lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sleep", "1000") // stands for one that has not reached its execve
	child.ExtraFiles = []*os.File{f}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	settled := make(chan error, 1)
	go func() { settled <- settle(dir) }()
	select {
	case err := <-settled:
		t.Errorf("settled while the child holds the lock: %v", err)
		settled <- err
	case <-time.After(100 * time.Millisecond):
	}
	child.Process.Kill()
	child.Wait()
	if err := <-settled; err != nil {
		t.Error(err)
	}
}
