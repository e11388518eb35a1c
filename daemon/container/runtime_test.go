package container

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

func TestContainerGoesFromCreatedToExited(t *testing.T) {
	b := newBed(t)
	cfg := b.config("echo out; echo err >&2; exit 7")
	created := b.create(cfg)
	if created.Phase != Created || created.PID == 0 || !created.Supervised || !created.StartedAt.IsZero() || created.ID != cfg.ID {
		t.Fatalf("after Create: %+v", created)
	}
	if err := b.Start(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	got := b.ended(cfg.Dir)
	if got.ExitCode != 7 || got.Reason != Failed || got.OOMKilled || got.PID != 0 {
		t.Errorf("at the end: %+v", got)
	}
	if !got.StartedAt.After(got.CreatedAt) || got.FinishedAt.Before(got.StartedAt) {
		t.Errorf("times out of order: %+v", got)
	}
	if out, err := b.log(cfg, "stdout"), b.log(cfg, "stderr"); out != "out\n" || err != "err\n" {
		t.Errorf("log has stdout %q, stderr %q", out, err)
	}
	if err := b.Start(t.Context(), cfg.Dir); err != nil {
		t.Errorf("Start of what ran already: %v", err)
	}
	if err := b.Delete(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(cfg.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read after Delete: %v", err)
	}
	if err := b.Delete(t.Context(), cfg.Dir); err != nil {
		t.Errorf("Delete again: %v", err)
	}
}

func TestSuccessIsCompleted(t *testing.T) {
	b := newBed(t)
	cfg := b.run("true")
	if got := b.ended(cfg.Dir); got.ExitCode != 0 || got.Reason != Completed {
		t.Errorf("got %+v", got)
	}
}

func TestSignalsReachTheContainer(t *testing.T) {
	b := newBed(t)
	cfg := b.run("trap 'exit 3' USR1; echo ready; while :; do sleep 0.05; done")
	b.until("the trap", func() bool { return b.log(cfg, "stdout") == "ready\n" })
	if err := b.Signal(t.Context(), cfg.Dir, syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if got := b.ended(cfg.Dir); got.ExitCode != 3 {
		t.Errorf("got %+v", got)
	}
	if err := b.Signal(t.Context(), cfg.Dir, syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("Signal to the dead: %v", err)
	}
}

func TestKillEndsEverythingInThePIDNamespace(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000 & echo $!; trap '' TERM; sleep 1000")
	b.until("both", func() bool { return b.log(cfg, "stdout") != "" })
	if err := b.Signal(t.Context(), cfg.Dir, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := b.ended(cfg.Dir); got.ExitCode != 137 || got.Reason != Failed {
		t.Errorf("got %+v", got)
	}
}

func TestCreateReportsWhatTheRuntimeSaid(t *testing.T) {
	b := newBed(t)
	cfg := b.config("")
	cfg.Container.Command = []string{"/no/such/command"}
	_, err := b.tryCreate(cfg)
	var typed *Error
	if !errors.As(err, &typed) || typed.Reason != CreateContainerError || !strings.Contains(err.Error(), "/no/such/command") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(cfg.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("bundle is left: %v", err)
	}
}

func TestCreateRefusesADirectoryInUse(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000")
	if _, err := b.tryCreate(cfg); err == nil {
		t.Error("a second Create in the same directory succeeded")
	}
	if got := b.read(cfg.Dir); got.Phase != Running {
		t.Errorf("the first container is %s", got.Phase)
	}
}

func TestCreateEndsWithItsContext(t *testing.T) {
	b := newBed(t)
	cfg, err := b.config("sleep 1000").Load()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := Spec(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Create(ctx, cfg, spec, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left := leftovers(cfg.Dir); len(left) > 0 {
		t.Errorf("left over: %s", left)
	}
}

func TestConmonMissingIsAnError(t *testing.T) {
	b := newBed(t)
	b.Conmon = "/bin/false"
	_, err := b.tryCreate(b.config("true"))
	if err == nil || !strings.Contains(err.Error(), "conmon") {
		t.Errorf("got %v", err)
	}
}

func TestNobodySawItEnd(t *testing.T) {
	b := newBed(t)
	cfg := b.run("echo alive; sleep 1000")
	b.until("output", func() bool { return b.log(cfg, "stdout") != "" })
	ps := b.processes(cfg)
	// As systemctl kill -s KILL does: conmon first, here.
	if err := ps.Conmon.kill(); err != nil {
		t.Fatal(err)
	}
	if got := b.read(cfg.Dir); got.Phase != Running || got.Supervised {
		t.Errorf("without conmon: %+v", got)
	}
	if err := ps.Init.kill(); err != nil {
		t.Fatal(err)
	}
	got := b.ended(cfg.Dir)
	if got.ExitCode != 137 || got.Reason != ContainerStatusUnknown || got.FinishedAt.IsZero() || got.StartedAt.IsZero() {
		t.Errorf("got %+v", got)
	}
}

func TestExitsAreSeenAtOnce(t *testing.T) {
	b := newBed(t)
	early := b.run("exit 1")
	b.ended(early.Dir)
	ctx, cancel := context.WithCancel(t.Context())
	seen, done := make(chan string, 100), make(chan error, 1)
	go func() { done <- b.WatchExits(ctx, func(id string) { seen <- id }) }()
	if got := <-seen; got != early.ID {
		t.Errorf("first %s, want %s", got, early.ID)
	}
	late := b.run("read line", func(c *Config) { c.Container.Stdin = true })
	if err := b.Signal(ctx, late.Dir, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != late.ID {
		t.Errorf("then %s, want %s", got, late.ID)
	}
	state := b.read(late.Dir)
	if state.Phase != Exited || state.ExitCode != 137 {
		t.Errorf("when told: %+v", state)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("WatchExits: %v", err)
	}
}

func TestLogHasPartialLines(t *testing.T) {
	b := newBed(t)
	// 100,000 bytes without a newline do not fit conmon's buffer.
	cfg := b.run(`head -c 100000 /dev/zero | tr '\0' x; echo; printf end`)
	b.ended(cfg.Dir)
	if got, want := b.log(cfg, "stdout"), strings.Repeat("x", 100000)+"\nend"; strings.TrimSuffix(got, "\n") != want {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
	raw, err := os.ReadFile(cfg.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), " stdout P ") {
		t.Error("no partial line")
	}
}

func TestLogRotationLosesNothing(t *testing.T) {
	b := newBed(t)
	cfg := b.run(`i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done`)
	var old []string
	for n := range 5 {
		size := func() int64 {
			if info, err := os.Stat(cfg.LogPath); err == nil {
				return info.Size()
			}
			return 0
		}
		// All may have been written before the log was opened anew.
		b.until("some log or the end", func() bool { return size() > 0 || b.read(cfg.Dir).Phase == Exited })
		if size() == 0 {
			break
		}
		name := fmt.Sprintf("%s.%d", cfg.LogPath, n)
		if err := os.Rename(cfg.LogPath, name); err != nil {
			t.Fatal(err)
		}
		if err := b.ReopenLog(t.Context(), cfg.Dir); err != nil {
			t.Fatal(err)
		}
		old = append(old, name)
	}
	b.ended(cfg.Dir)
	var got strings.Builder
	for _, name := range append(old, cfg.LogPath) {
		if _, err := os.Stat(name); err == nil {
			got.WriteString(b.log(Config{LogPath: name}, "stdout"))
		}
	}
	var want strings.Builder
	for i := range 3000 {
		fmt.Fprintln(&want, i)
	}
	if got.String() != want.String() {
		t.Errorf("%d bytes of log in %d files, want %d", got.Len(), len(old)+1, want.Len())
	}
	if err := b.ReopenLog(t.Context(), cfg.Dir); err != nil {
		t.Errorf("ReopenLog after the end: %v", err)
	}
}

func TestLongPathsWork(t *testing.T) {
	b := newBed(t)
	cfg := b.config("read x; echo got $x", func(c *Config) {
		c.Dir = filepath.Join(filepath.Dir(filepath.Dir(c.Dir)), strings.Repeat("n", 63), "0")
		c.Container.Stdin, c.Container.StdinOnce = true, true
	})
	if len(cfg.Dir) < 108 {
		t.Fatalf("%d bytes are not long", len(cfg.Dir))
	}
	b.create(cfg)
	if err := b.Start(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	code, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"tty"}, TTY: true, Stdout: &out})
	if err != nil || code != 0 || !strings.Contains(out.String(), "/dev/pts/") {
		t.Errorf("exec: %d %v %q", code, err, out.String())
	}
	out.Reset()
	if err := b.Attach(t.Context(), cfg.Dir, Streams{Stdin: strings.NewReader("hello\n"), Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if b.ended(cfg.Dir); out.String() != "got hello\n" {
		t.Errorf("attach: %q", out.String())
	}
}

// Rules that only the kernel can show.
func TestWhatAContainerSees(t *testing.T) {
	yes, no, uid := true, false, int64(1000)
	cases := []struct {
		name, script, want string
		change             func(*Config)
	}{
		{"its hostname", "hostname; echo $HOSTNAME", "web\nweb\n", nil},
		{"only its processes", "echo $$", "1\n", nil},
		{"only loopback, up", "ip -o link | wc -l; cat /sys/class/net/lo/flags", "1\n0x9\n", nil},
		{"the working directory, made if missing", "pwd", "/deep/er\n", func(c *Config) { c.Container.WorkingDir = "/deep/er" }},
		{"its user and groups", "id -u; id -g; id -G; echo $HOME", "1000\n1000\n1000 50 2000\n/home/app\n", func(c *Config) {
			gid := int64(2000)
			c.Image.User = "app"
			c.Pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &gid}
		}},
		{"a read-only root", "touch /x 2>&1; touch /dev/shm/y && echo shm", "touch: /x: Read-only file system\nshm\n", func(c *Config) {
			c.Container.SecurityContext = &v1.SecurityContext{ReadOnlyRootFilesystem: &yes}
		}},
		{"no new privileges", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n", func(c *Config) {
			c.Container.SecurityContext = &v1.SecurityContext{AllowPrivilegeEscalation: &no}
		}},
		{"no capabilities as another user", "grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status | sort -u -k2 | cut -f2", "0000000000000000\n", func(c *Config) {
			c.Container.SecurityContext = &v1.SecurityContext{RunAsUser: &uid}
		}},
		{"a seccomp filter", "grep Seccomp: /proc/self/status; unshare -U true 2>/dev/null || echo refused", "Seccomp:\t2\nrefused\n", func(c *Config) {
			c.Container.SecurityContext = &v1.SecurityContext{SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault}}
		}},
		{"no filter by default", "grep Seccomp: /proc/self/status", "Seccomp:\t0\n", nil},
		{"masked and read-only /proc", "cat /proc/keys /proc/timer_list | wc -c; echo 1 2>/dev/null > /proc/sys/kernel/domainname || echo refused", "0\nrefused\n", nil},
		{"a read-only /sys", "mkdir /sys/fs/x 2>/dev/null || echo refused; [ -d /sys/class/net/lo ] && echo lo", "refused\nlo\n", nil},
		{"no device nodes to make", "mknod /tmp/sda b 8 0 2>/dev/null || echo refused", "refused\n", nil},
		{"all capabilities when privileged", "grep CapBnd /proc/self/status | cut -f2; [ -w /sys ] && [ -c /dev/loop-control -o -c /dev/kmsg ] && echo devices",
			"PRIVILEGED\ndevices\n", func(c *Config) { c.Container.SecurityContext = &v1.SecurityContext{Privileged: &yes} }},
		{"/dev/shm of 64 MiB", "df -k /dev/shm | tail -1 | awk '{print $2}'", "65536\n", nil},
	}
	b := newBed(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var change []func(*Config)
			if c.change != nil {
				change = append(change, c.change)
			}
			want := c.want
			if strings.Contains(want, "PRIVILEGED") {
				own, err := os.ReadFile("/proc/self/status")
				if err != nil {
					t.Fatal(err)
				}
				_, after, _ := strings.Cut(string(own), "CapBnd:\t")
				want = strings.Replace(want, "PRIVILEGED", after[:16], 1)
			}
			if got := b.output(c.script, change...); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestMountsArriveInTheContainer(t *testing.T) {
	b := newBed(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"hosts": "127.0.0.1 localhost\n", "data/file": "x\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := b.output("cat /etc/hosts; cat /data/sub/file; touch /data/sub/new 2>&1; echo ended > /dev/termination-log", func(c *Config) {
		c.Mounts = []Mount{
			{Source: filepath.Join(dir, "data"), Destination: "/data/sub", ReadOnly: true, RecursiveReadOnly: true},
			{Source: filepath.Join(dir, "hosts"), Destination: "/etc/hosts"},
			{Source: filepath.Join(dir, "hosts"), Destination: "/dev/termination-log"},
		}
		yes := true
		c.Container.SecurityContext = &v1.SecurityContext{ReadOnlyRootFilesystem: &yes}
	})
	if want := "127.0.0.1 localhost\nx\ntouch: /data/sub/new: Read-only file system\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "hosts")); err != nil || string(b) != "ended\n" {
		t.Errorf("termination log %q, %v", b, err)
	}
}

func TestHostNetworkKeepsTheHostsSysfsWritable(t *testing.T) {
	b := newBed(t)
	links, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	got := b.output("ls /sys/class/net | wc -l; hostname", func(c *Config) { c.Pod.Spec.HostNetwork = true })
	name, _ := os.Hostname()
	if want := fmt.Sprintf("%d\n%s\n", len(links), name); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), "sysfs /sys sysfs ro") {
		t.Error("the host's /sys became read-only")
	}
}

func TestSharedPIDNamespaceReapsZombies(t *testing.T) {
	b := newBed(t)
	yes := true
	// The grandchild outlives its parent and is reparented to the pause process.
	cfg := b.run(`(sh -c 'sleep 0.1; exit 0' & ) ; cat /proc/1/comm; sleep 1000`, func(c *Config) { c.Pod.Spec.ShareProcessNamespace = &yes })
	b.until("output", func() bool { return b.log(cfg, "stdout") != "" })
	if got := b.log(cfg, "stdout"); got != "catatonit\n" {
		t.Errorf("PID 1 is %q", got)
	}
	b.until("the pause process to have no children but the container", func() bool {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cfg.Sandbox.PID))
		return err == nil && len(strings.Fields(string(children))) == 0
	})
	if err := b.Delete(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if !cfg.Sandbox.Alive() {
		t.Error("the sandbox ended with its container")
	}
}

func TestHalfMadeContainersCanBeDeleted(t *testing.T) {
	b := newBed(t)
	cfg := b.config("sleep 1000")
	b.create(cfg)
	// As if the daemon had died before conmon reported.
	if err := os.Remove(filepath.Join(cfg.Dir, processesFile)); err != nil {
		t.Fatal(err)
	}
	if got := b.read(cfg.Dir); got.Phase != Incomplete {
		t.Errorf("read without process.json: %+v", got)
	}
	if err := b.Delete(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	for _, left := range leftovers(b.dir) {
		if !strings.Contains(left, sandboxEnv) && !strings.Contains(left, "/shm ") {
			t.Errorf("left over: %s", left)
		}
	}
	// As if it had died even before conmon was forked.
	if err := b.prepare(cfg); err != nil {
		t.Fatal(err)
	}
	if got := b.read(cfg.Dir); got.Phase != Incomplete {
		t.Errorf("prepared only: %+v", got)
	}
	if err := b.Delete(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cfg.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("bundle is left: %v", err)
	}
}

func TestAReusedPIDIsNotTheContainer(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000")
	ps := b.processes(cfg)
	ps.Init.PID = os.Getpid() // the test's own pid with the container's start time
	if ps.Init.alive() {
		t.Error("another process passes for the container")
	}
	if err := ps.Init.signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal: %v", err)
	}
}

// daemonThatGetsKilled runs containers one after the other until it is killed.
func daemonThatGetsKilled(dir string) {
	r := bedRuntime(dir)
	ctx := context.Background()
	for n := 0; ; n++ {
		cfg := killedConfig(dir, n)
		sandbox := SandboxConfig{Dir: filepath.Dir(filepath.Dir(cfg.Dir)), Hostname: "web"}
		sb, err := StartSandbox(ctx, sandbox)
		exitOn(err)
		exitOn(MountShm(sandbox))
		cfg.Sandbox = sb
		cfg, err = cfg.Load()
		exitOn(err)
		spec, err := Spec(cfg)
		exitOn(err)
		if n%2 == 0 {
			_, err = r.Create(ctx, cfg, spec, nil)
		} else {
			var parked *Parked
			parked, err = r.Park(cfg)
			exitOn(err)
			_, err = parked.Create(ctx, spec, nil)
		}
		exitOn(err)
		exitOn(r.Start(ctx, cfg.Dir))
	}
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func killedConfig(dir string, n int) Config {
	pod := &v1.Pod{}
	pod.Spec.Containers = []v1.Container{{Name: "app", Command: []string{"sh", "-c", "echo started; sleep 0.2; exit 7"}}}
	return Config{
		// Other processes that run this test find their containers by their IDs, too.
		ID: fmt.Sprintf("killed-%08x-%04d", crc32.ChecksumIEEE([]byte(dir)), n), Pod: pod, Container: &pod.Spec.Containers[0],
		Rootfs: filepath.Join(dir, "rootfs"), Dir: filepath.Join(dir, "pods", fmt.Sprint(n), "app/0"),
		LogPath: filepath.Join(dir, fmt.Sprintf("%d.log", n)),
	}
}

// TestDaemonKilledAtAnyMoment kills a daemon that starts containers; the next
// one finds each of them, finishes what was begun, and has every exit code.
func TestDaemonKilledAtAnyMoment(t *testing.T) {
	// What the daemon has got to when it is killed, or up to some ms later.
	stages := []string{"pods/0", "pods/0/lock", "pods/0/shm", "pods/0/sandbox.json", "pods/0/app/0/config.json", "pods/0/app/0/lock",
		"pods/0/app/0/conmon.log", "pods/0/app/0/attach", "pods/0/app/0/pidfile", "pods/0/app/0/process.json", "pods/0/app/0/starting", "0.log"}
	rounds := 5 * len(stages)
	if testing.Short() {
		rounds = len(stages)
	}
	b := newBed(t)
	met := map[string]int{}
	for round := range rounds {
		dir := filepath.Join(b.dir, fmt.Sprint(round))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(b.dir, "rootfs"), filepath.Join(dir, "rootfs")); err != nil {
			t.Fatal(err)
		}
		killDaemon(b, dir, stages[round%len(stages)], time.Duration(round/len(stages))*time.Millisecond)
		recoverAll(b, dir, met)
		if left := leftovers(dir); len(left) > 0 {
			t.Fatalf("round %d: left over: %s", round, strings.Join(left, "\n"))
		}
		if err := os.Rename(filepath.Join(dir, "rootfs"), filepath.Join(b.dir, "rootfs")); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("met %v", met)
}

func killDaemon(b *bed, dir, stage string, after time.Duration) {
	b.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	daemon, err := os.StartProcess("/proc/self/exe", []string{"daemon"}, &os.ProcAttr{
		Env: append(os.Environ(), "SHOAL_TEST_DAEMON="+dir), Files: []*os.File{null, null, os.Stderr}})
	if err != nil {
		b.Fatal(err)
	}
	b.until("the daemon to reach "+stage, func() bool { _, err := os.Stat(filepath.Join(dir, stage)); return err == nil })
	<-time.After(after) // the moment is what the rounds vary
	daemon.Kill()
	if state, err := daemon.Wait(); err != nil || !state.Sys().(syscall.WaitStatus).Signaled() {
		b.Fatalf("the daemon ended by itself: %v %v", state, err)
	}
}

// recoverAll is a daemon that starts: it looks, finishes, collects, deletes.
func recoverAll(b *bed, dir string, met map[string]int) {
	b.Helper()
	r := bedRuntime(dir)
	pods, _ := filepath.Glob(filepath.Join(dir, "pods/*"))
	for _, pod := range pods {
		bundle := filepath.Join(pod, "app/0")
		state, err := r.Read(bundle)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			met["none"]++
		case err != nil:
			b.Fatal(err)
		default:
			met[state.Phase.String()]++
		}
		if err == nil && state.Phase != Incomplete {
			if err := r.Start(b.Context(), bundle); err != nil {
				b.Fatalf("%s: %v", state.Phase, err)
			}
			b.until("the container's end", func() bool { state, err = r.Read(bundle); return err != nil || state.Phase == Exited })
			if err != nil || state.ExitCode != 7 || state.Reason != Failed || state.StartedAt.IsZero() {
				b.Fatalf("recovered: %+v, %v", state, err)
			}
		}
		if err := r.Delete(b.Context(), bundle); err != nil {
			b.Fatal(err)
		}
		if err := StopSandbox(pod); err != nil {
			b.Fatal(err)
		}
	}
	orphans, err := FindOrphans(filepath.Join(dir, "pods"))
	if err != nil || len(orphans) > 0 {
		b.Fatalf("orphans %v, %v", orphans, err)
	}
}
