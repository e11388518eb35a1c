package stats

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// realCgroup makes a cgroup v2 of this machine for a test.
func realCgroup(t testing.TB, name string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes a cgroup")
	}
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var s unix.Statfs_t
		if unix.Statfs(root, &s) != nil || s.Type != unix.CGROUP2_SUPER_MAGIC {
			continue
		}
		dir := filepath.Join(root, "shoal-stats-test-"+name+"-"+strconv.Itoa(os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Skipf("no cgroup can be made: %v", err)
		}
		t.Cleanup(func() {
			for deadline := time.Now().Add(10 * time.Second); ; {
				err := os.Remove(dir)
				if err == nil {
					return
				}
				if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
					t.Error(err)
					return
				}
			}
		})
		return dir
	}
	t.Skip("no cgroup v2 is mounted")
	return ""
}

// runIn starts a program in a cgroup, in a mount namespace of its own.
func runIn(t testing.TB, cgroup string, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

func TestTheKernelsOwnNumbersAreRead(t *testing.T) {
	dir := realCgroup(t, "own")
	burner := runIn(t, dir, "perl", "-e", "$x = 'x' x (30 << 20); 1 while 1")
	cfg := Config{
		Pods: func() []Pod {
			return []Pod{{UID: "u", Cgroup: dir, Started: time.Now(), Network: os.Getpid(), Containers: []Container{
				{Name: "own", ID: "own", Cgroup: dir}, {Name: "shared", ID: "shared", PID: burner.Process.Pid},
			}}}
		},
		RootDir: "/", ImageDir: "/", Now: time.Now,
	}
	deadline := time.Now().Add(time.Minute)
	for {
		s, err := NewMeter(cfg).Sample()
		if err != nil {
			t.Fatal(err)
		}
		good := true
		for _, c := range s.Pods[0].Containers {
			cpu, memory := c.CPU.Total.Or(0), c.Memory.WorkingSet.Or(0)
			good = good && cpu >= uint64(50*time.Millisecond) && memory >= 30<<20 && memory < 100<<20 && c.Processes == Known(1)
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v", c.Name, c.Usage)
			}
		}
		if total := s.Node.CPU.Total.Or(0); total < s.Pods[0].CPU.Total.Or(0) {
			t.Fatalf("the machine has used %d ns, the cgroup %d", total, s.Pods[0].CPU.Total.Or(0))
		}
		if good {
			return
		}
	}
}

// BenchmarkSample measures a hundred pods of one container, of cgroups as this
// machine has them.
func BenchmarkSample(b *testing.B) {
	dir := realCgroup(b, "bench")
	sleeper := runIn(b, dir, "sleep", "1000000")
	var pods []Pod
	for i := range 100 {
		id := strconv.Itoa(i)
		pods = append(pods, Pod{UID: id, Cgroup: dir, Network: sleeper.Process.Pid, Containers: []Container{{ID: id, Cgroup: dir}}})
	}
	now := time.Now()
	m := NewMeter(Config{Pods: func() []Pod { return pods }, RootDir: "/", ImageDir: "/", Now: func() time.Time { return now }})
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(fresh)
		if _, err := m.Sample(); err != nil {
			b.Fatal(err)
		}
	}
}
