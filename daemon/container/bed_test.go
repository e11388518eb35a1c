package container

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	imgv1 "github.com/google/go-containerregistry/pkg/v1"
	v1 "k8s.io/api/core/v1"
)

// testRoot holds one directory for each test process. What a killed one left
// running is ended by the next, see sweep.
const testRoot = "/tmp/shoal-container-test"

func TestMain(m *testing.M) {
	if dir := os.Getenv("SHOAL_TEST_DAEMON"); dir != "" {
		daemonThatGetsKilled(dir)
		return
	}
	sweep()
	code := m.Run()
	os.RemoveAll(ownRoot())
	os.Exit(code)
}

func ownRoot() string { return filepath.Join(testRoot, strconv.Itoa(os.Getpid())) }

// sweep ends the containers of test processes that are gone.
func sweep() {
	entries, err := os.ReadDir(testRoot)
	if err != nil {
		return
	}
	for _, e := range entries { // named by pid
		if _, err := os.Stat("/proc/" + e.Name()); err == nil {
			continue
		}
		beds, _ := filepath.Glob(filepath.Join(testRoot, e.Name(), "*"))
		for _, dir := range beds {
			r := bedRuntime(dir)
			bundles, _ := filepath.Glob(filepath.Join(dir, "pods/*/*/*/"+identityFile))
			for _, b := range bundles {
				r.Delete(context.Background(), filepath.Dir(b))
			}
			pods, _ := filepath.Glob(filepath.Join(dir, "pods/*"))
			for _, pod := range pods {
				StopSandbox(pod)
			}
			os.RemoveAll(dir)
		}
		os.Remove(filepath.Join(testRoot, e.Name()))
	}
	orphans, err := FindOrphans(testRoot)
	if err != nil {
		return
	}
	for _, o := range orphans { // below directories that a failed test took away
		rest, _ := strings.CutPrefix(o.Dir, testRoot+"/")
		owner, _, _ := strings.Cut(rest, "/")
		if _, err := os.Stat("/proc/" + owner); err != nil {
			StopSandbox(o.Dir)
		}
	}
}

// bed is a place to run containers in.
type bed struct {
	testing.TB
	dir string
	*Runtime
	n atomic.Int32
}

func bedRuntime(dir string) *Runtime {
	return &Runtime{Root: filepath.Join(dir, "oci"), ExitDir: filepath.Join(dir, "exits"), CgroupManager: "disabled",
		OCI: os.Getenv("SHOAL_TEST_OCI"), Log: nil}
}

func newBed(t testing.TB) *bed {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: namespaces and mounts")
	}
	for _, tool := range []string{"conmon", "crun", "catatonit", "busybox"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s (Debian: conmon crun catatonit busybox-static)", tool)
		}
	}
	dir := filepath.Join(ownRoot(), strings.NewReplacer("/", "-").Replace(t.Name()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b := &bed{TB: t, dir: dir, Runtime: bedRuntime(dir)}
	makeRootfs(t, filepath.Join(dir, "rootfs"))
	t.Cleanup(func() {
		bundles, _ := filepath.Glob(filepath.Join(dir, "pods/*/*/*/"+identityFile))
		for _, f := range bundles {
			if err := b.Delete(context.Background(), filepath.Dir(f)); err != nil {
				t.Error(err)
			}
		}
		pods, _ := filepath.Glob(filepath.Join(dir, "pods/*"))
		for _, pod := range pods {
			if err := StopSandbox(pod); err != nil {
				t.Error(err)
			}
		}
		for _, left := range leftovers(dir) {
			t.Errorf("left over: %s", left)
		}
		os.RemoveAll(dir)
	})
	return b
}

func makeRootfs(t testing.TB, root string) {
	t.Helper()
	for _, d := range []string{"bin", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs busybox-static")
	}
	files := map[string]string{
		"bin/busybox": string(busybox), "etc/passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
		"etc/group": "root:x:0:\napp:x:1000:\nstaff:x:50:app\n",
	}
	for name, text := range files {
		mode := os.FileMode(0o644)
		if name == "bin/busybox" {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	applets, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range strings.Fields(string(applets)) {
		if a != "busybox" {
			os.Symlink("busybox", filepath.Join(root, "bin", a))
		}
	}
}

// leftovers finds processes, mounts and pauses that name dir.
func leftovers(dir string) []string {
	var found []string
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil || e.Name() == strconv.Itoa(os.Getpid()) {
			continue
		}
		for _, f := range []string{"cmdline", "environ"} {
			b, _ := os.ReadFile(filepath.Join("/proc", e.Name(), f))
			if strings.Contains(string(b), dir+"/") {
				found = append(found, fmt.Sprintf("process %s %q", e.Name(), b))
				break
			}
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir+"/") {
			found = append(found, "mount "+line)
		}
	}
	states, _ := os.ReadDir(filepath.Join(dir, "oci"))
	for _, s := range states {
		if !strings.HasPrefix(s.Name(), ".") { // crun's cache of seccomp filters
			found = append(found, "runtime state "+s.Name())
		}
	}
	exits, _ := os.ReadDir(filepath.Join(dir, "exits"))
	for _, s := range exits {
		found = append(found, "exit file "+s.Name())
	}
	return found
}

// config is a container of a pod of its own that runs a shell script. A
// sandbox is started where cfg.Pod's change asks for none of its own.
func (b *bed) config(script string, change ...func(*Config)) Config {
	b.Helper()
	n := b.n.Add(1)
	pod := &v1.Pod{}
	pod.Name, pod.Namespace, pod.UID = "web", "default", "u1"
	pod.Spec.Containers = []v1.Container{{Name: "app", Command: []string{"sh", "-c", script}}}
	podDir := filepath.Join(b.dir, "pods", fmt.Sprintf("pod%d", n))
	cfg := Config{
		ID: fmt.Sprintf("%s-%d-%04d", "container0", os.Getpid(), n), Pod: pod, Container: &pod.Spec.Containers[0],
		Image: imgv1.Config{}, Rootfs: filepath.Join(b.dir, "rootfs"), Dir: filepath.Join(podDir, "app/0"),
		LogPath: filepath.Join(b.dir, fmt.Sprintf("%d.log", n)),
	}
	for _, f := range change {
		f(&cfg)
	}
	sandbox := SandboxConfig{
		Dir: podDir, Hostname: "web", HostNetwork: pod.Spec.HostNetwork, HostIPC: pod.Spec.HostIPC, HostPID: pod.Spec.HostPID,
		ShareProcessNamespace: pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace}
	if own := pod.Spec.HostUsers; own != nil && !*own {
		sandbox.Users = testUsers
		b.letEveryoneIn()
	}
	sb, err := StartSandbox(b.Context(), sandbox)
	if err != nil {
		b.Fatal(err)
	}
	if err := MountShm(sandbox); err != nil {
		b.Fatal(err)
	}
	cfg.Sandbox = sb
	return cfg
}

// testUsers are those of pods with a user namespace.
var testUsers = Users{First: 1_900_544_000, Length: 65536}

// letEveryoneIn opens the way to the root, which the agent does more narrowly,
// and gives it to those users.
func (b *bed) letEveryoneIn() {
	b.Helper()
	root := filepath.Join(b.dir, "rootfs")
	for _, dir := range []string{root, filepath.Join(root, "tmp"), filepath.Join(root, "etc")} {
		if err := os.Chown(dir, int(testUsers.First), int(testUsers.First)); err != nil {
			b.Fatal(err)
		}
	}
	for dir := b.dir; len(dir) >= len(testRoot); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o711); err != nil {
			b.Fatal(err)
		}
	}
}

// create creates the container and fails the test where that fails.
func (b *bed) create(cfg Config) State {
	b.Helper()
	state, err := b.tryCreate(cfg)
	if err != nil {
		b.Fatal(err)
	}
	return state
}

func (b *bed) tryCreate(cfg Config) (State, error) {
	cfg, err := cfg.Load()
	if err != nil {
		return State{}, err
	}
	spec, err := Spec(cfg)
	if err != nil {
		return State{}, err
	}
	return b.Create(b.Context(), cfg, spec, nil)
}

// run creates and starts the container.
func (b *bed) run(script string, change ...func(*Config)) Config {
	b.Helper()
	cfg := b.config(script, change...)
	b.create(cfg)
	if err := b.Start(b.Context(), cfg.Dir); err != nil {
		b.Fatal(err)
	}
	return cfg
}

func (b *bed) read(dir string) State {
	b.Helper()
	s, err := b.Read(dir)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func (b *bed) processes(cfg Config) processes {
	b.Helper()
	var ps processes
	if err := readJSON(cfg.Dir, processesFile, &ps); err != nil {
		b.Fatal(err)
	}
	return ps
}

// ended waits for the container to end.
func (b *bed) ended(dir string) State {
	b.Helper()
	var s State
	b.until("the container to end", func() bool { s = b.read(dir); return s.Phase == Exited })
	return s
}

// until waits for a condition.
func (b *bed) until(what string, ok func() bool) {
	b.Helper()
	const patience = time.Minute // a busy machine starts processes slowly
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			b.Fatalf("waited %v for %s", patience, what)
		case <-tick.C:
		}
	}
}

// output runs a script to its end and returns what it wrote to stdout.
func (b *bed) output(script string, change ...func(*Config)) string {
	b.Helper()
	cfg := b.run(script, change...)
	b.ended(cfg.Dir)
	return b.log(cfg, "stdout")
}

// log is one stream of a CRI log, joined again.
func (b *bed) log(cfg Config, stream string) string {
	b.Helper()
	raw, err := os.ReadFile(cfg.LogPath)
	if err != nil {
		b.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(raw)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		if len(f) != 4 || f[2] != "P" && f[2] != "F" {
			b.Fatalf("not a CRI log line: %q", line)
		}
		if _, err := time.Parse(time.RFC3339Nano, f[0]); err != nil {
			b.Fatal(err)
		}
		if f[1] != stream {
			continue
		}
		out.WriteString(f[3])
		if f[2] == "F" {
			out.WriteString("\n")
		}
	}
	return out.String()
}
