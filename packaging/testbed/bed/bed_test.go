package bed

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// needMachine skips where beds can't be made.
func needMachine(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, tool := range []string{"mmdebstrap", "systemd-nspawn", "nft", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v: `go run ./packaging/testbed deps` installs it", err)
		}
	}
}

// up makes a bed that ends with the test.
func up(t *testing.T, c Config) *Bed {
	t.Helper()
	needMachine(t)
	c.Log = testLog(t)
	b, err := Up(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Down(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func testLog(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// shell runs a script in a host that must succeed.
func shell(t *testing.T, h *Host, script string, args ...string) string {
	t.Helper()
	out, err := h.Shell(t.Context(), script, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// eventually fails the test when ok stays false for ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if poll(ctx, func() error {
		if !ok() {
			return errors.New(what)
		}
		return nil
	}) != nil {
		t.Fatalf("never true: %s", what)
	}
}

func TestLightHosts(t *testing.T) {
	b := up(t, Config{Hosts: 3})
	n1, n2 := b.Host("n1"), b.Host("n2")

	t.Run("exec keeps streams and exit code", func(t *testing.T) {
		got, err := n1.Exec(t.Context(), strings.NewReader("in"), "sh", "-c", "cat; echo no >&2; exit 9")
		if want := (Result{"in", "no\n", 9}); err != nil || got != want {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	})
	t.Run("no unit failed", func(t *testing.T) {
		if got := shell(t, n1, "systemctl is-system-running; systemctl --failed --plain --no-legend"); got != "running" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("names and machine ids differ", func(t *testing.T) {
		const script = "hostname; cat /etc/machine-id"
		if a, b := shell(t, n1, script), shell(t, n2, script); !strings.HasPrefix(a, "n1\n") || a[3:] == b[3:] {
			t.Errorf("got %q and %q", a, b)
		}
	})
	t.Run("the bed's name server answers", func(t *testing.T) {
		// The host's own hosts file is out of the way: only the server can know.
		got := shell(t, n1, `mount --bind /dev/null /etc/hosts; getent ahostsv4 n2 | head -n1 | cut -d" " -f1
getent hosts example.org || echo none; umount /etc/hosts`)
		if want := "10.99.0.12\nnone"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("files and trees arrive with their modes", func(t *testing.T) { testCopy(t, n1) })
	t.Run("a cut separates and healing joins", func(t *testing.T) { testCut(t, b) })
	t.Run("a scope takes a process that exec started", func(t *testing.T) { testScope(t, n1) })
	t.Run("a container runs in a delegated cgroup", func(t *testing.T) { testContainer(t, n1) })
	t.Run("pods' networks work", func(t *testing.T) { testPodNetwork(t, n1) })
	t.Run("a power cut loses memory and keeps the disk", func(t *testing.T) { testPowerCut(t, n2) })
	t.Run("a shutdown is in order", func(t *testing.T) { testShutdown(t, b.Host("n3")) })
}

func testCopy(t *testing.T, h *Host) {
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	if err := os.MkdirAll(filepath.Join(tree, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(tree, "sub", "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho ran\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.CopyTo(t.Context(), script, "/root/one"), h.CopyTo(t.Context(), script, "/srv"),
		h.CopyTo(t.Context(), tree, "/root/all")); err != nil {
		t.Fatal(err)
	}
	if got := shell(t, h, "/root/one; /srv/script; /root/all/sub/script; ls -A /srv"); got != "ran\nran\nran\nscript" {
		t.Errorf("got %q", got)
	}
	if err := errors.Join(h.CopyFrom(t.Context(), "/root/all", filepath.Join(dir, "back")),
		h.CopyFrom(t.Context(), "/root/one", dir)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"back/sub/script", "one"} {
		if got, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(got) != "#!/bin/sh\necho ran\n" {
			t.Errorf("%s came back as %q, %v", path, got, err)
		}
	}
	if err := h.CopyFrom(t.Context(), "/no/such", dir); err == nil {
		t.Error("copying what is not there is no error")
	}
	if err := h.CopyTo(t.Context(), script, "/no/such/dir/x"); err == nil {
		t.Error("copying to where nothing can be is no error")
	}
}

func testCut(t *testing.T, b *Bed) {
	reaches := func(from, to string) bool {
		r, err := b.Host(from).Exec(t.Context(), nil, "ping", "-c1", "-W1", b.Host(to).Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return r.Exit == 0
	}
	eventually(t, "joined", func() bool { return reaches("n1", "n2") && reaches("n2", "n3") })
	if err := b.Cut(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	if reaches("n1", "n2") || reaches("n3", "n1") || !reaches("n2", "n3") {
		t.Error("n1 is not cut off, or n2 and n3 are")
	}
	if r, err := b.Host("n1").Exec(t.Context(), nil, "ping", "-c1", "-W1", gateway.String()); err != nil || r.Exit != 0 {
		t.Errorf("a host that is cut off no longer reaches the bed: %+v, %v", r, err)
	}
	if err := b.Cut(t.Context(), "n2"); err != nil {
		t.Fatal(err)
	}
	if reaches("n2", "n3") || reaches("n1", "n2") {
		t.Error("a second cut does not separate further")
	}
	if err := b.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "healed", func() bool { return reaches("n1", "n2") && reaches("n3", "n1") && reaches("n2", "n3") })
	if err := b.Cut(t.Context(), "n9"); err == nil {
		t.Error("cutting an unknown host is no error")
	}
	testTrouble(t, b)
}

// A packet that is lost on one way alone is told from one that is not by who counts it.
func testTrouble(t *testing.T, b *Bed) {
	hears := func(to, from string) bool {
		r, err := b.Host(from).Exec(t.Context(), nil, "sh", "-c", `ip neigh flush dev host0; ping -c1 -W1 "$1" >/dev/null`, "sh", b.Host(to).Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return r.Exit == 0
	}
	if err := b.Disturb(t.Context(), Trouble{[]string{"n1"}, []string{"n2"}, 100}); err != nil {
		t.Fatal(err)
	}
	count := func() string {
		return shell(t, b.Host("n1"), `awk '$1 ~ /^host0:/ { print $3 }' /proc/net/dev`)
	}
	before := count()
	if hears("n1", "n2") { // the question arrives, the answer does not
		t.Error("n1 is heard by n2")
	}
	if count() == before {
		t.Error("n1 does not hear n2 either")
	}
	if !hears("n1", "n3") || !hears("n3", "n2") {
		t.Error("others are disturbed too")
	}
	if err := b.Disturb(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Each knows where the other is before packets get lost: ARP's would as well.
	eventually(t, "undisturbed", func() bool { return hears("n2", "n1") && hears("n1", "n2") })
	if err := b.Disturb(t.Context(), Trouble{[]string{"n1", "n2"}, []string{"n1", "n2"}, 50}); err != nil {
		t.Fatal(err)
	}
	r, err := b.Host("n1").Exec(t.Context(), nil, "ping", "-q", "-c100", "-i0.01", "-W1", b.Host("n2").Addr().String())
	if err != nil || !strings.Contains(r.Stdout, "% packet loss") || strings.Contains(r.Stdout, " 0% packet loss") || strings.Contains(r.Stdout, " 100% packet loss") {
		t.Errorf("of half the packets: %v %s", err, r.Stdout)
	}
	if err := b.Disturb(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "undisturbed", func() bool { return hears("n1", "n2") })
	if err := b.Disturb(t.Context(), Trouble{[]string{"n1"}, []string{"n9"}, 20}); err == nil {
		t.Error("disturbing an unknown host is no error")
	}
}

func testScope(t *testing.T, h *Host) {
	got := shell(t, h, "systemd-run --quiet --scope --unit=try cat /proc/self/cgroup | tail -n1")
	if want := "0::/system.slice/try.scope"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// testContainer runs crun below conmon as the daemon does: in a leaf of a scope that systemd delegated.
func testContainer(t *testing.T, h *Host) {
	// No cgroup namespace: the container shall show its place in the host's tree.
	const config = `{
	"ociVersion": "1.0.0",
	"root": {"path": "/var/lib/shoal/merged"},
	"process": {"args": ["/bin/cat", "/proc/self/cgroup"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
	"mounts": [
		{"destination": "/proc", "type": "proc", "source": "proc"},
		{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
		{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}
	],
	"linux": {
		"cgroupsPath": "/shoal.slice/pod.scope/web",
		"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]
	}
}`
	if err := h.WriteFile(t.Context(), "/var/lib/shoal/bundle/config.json", []byte(config)); err != nil {
		t.Fatal(err)
	}
	got := shell(t, h, `
cd /var/lib/shoal
mkdir -p low/bin low/proc low/dev low/sys up work merged exits
cp -L --parents $(ldd /bin/cat | grep -o '/[^ ]*') /bin/cat low/
mount -t overlay overlay -o lowerdir=low,upperdir=up,workdir=work merged
cd bundle
systemd-run --quiet --scope --slice=shoal.slice --unit=pod --property=Delegate=yes sh -euc '
	scope=/sys/fs/cgroup/shoal.slice/pod.scope
	mkdir $scope/init
	echo $$ > $scope/init/cgroup.procs
	conmon --no-new-keyring -c web -u web -b . -r /usr/bin/crun -p pid -l k8s-file:log --exit-dir ../exits \
		--full-attach --no-sync-log --runtime-arg --cgroup-manager=cgroupfs --syslog &
	wait'
for i in $(seq 100); do test -e pid && break; sleep 0.05; done
crun --cgroup-manager=cgroupfs start web
for i in $(seq 100); do test -e ../exits/web && break; sleep 0.05; done
cat ../exits/web; echo; cat log
crun delete web; umount ../merged`)
	if !strings.HasPrefix(got, "0\n") || !strings.Contains(got, "0::/shoal.slice/pod.scope/web") {
		t.Errorf("exit code and log: %q", got)
	}
}

// testPodNetwork builds what the daemon builds for a pod: a bridge, a veth, masquerade, forwarding.
func testPodNetwork(t *testing.T, h *Host) {
	got := shell(t, h, `
sysctl -qw net.ipv4.ip_forward=1
ip link add pods type bridge
ip addr add 10.1.0.1/24 dev pods
ip link set pods up
ip netns add pod
ip link add veth0 type veth peer name eth0 netns pod
ip link set veth0 master pods up
ip -n pod addr add 10.1.0.2/24 dev eth0
ip -n pod link set eth0 up
ip -n pod route add default via 10.1.0.1
nft -f - <<'NFT'
table ip pods {
	chain post {
		type nat hook postrouting priority srcnat
		ip saddr 10.1.0.0/24 oifname != "pods" counter masquerade
	}
}
NFT
ip netns exec pod ping -c1 -W2 "$1" >/dev/null
nft list table ip pods | grep -o 'packets [0-9]*'
ip netns exec pod sysctl -w net.ipv4.ping_group_range='0 0'
ip netns del pod; ip link del pods; nft delete table ip pods`, gateway.String())
	if want := "packets 1\nnet.ipv4.ping_group_range = 0 0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func testPowerCut(t *testing.T, h *Host) {
	before := shell(t, h, `
systemd-run --quiet --unit=victim sleep infinity
echo kept > /var/lib/shoal/file; echo kept > /root/file; echo lost > /run/file; journalctl --sync; sync
cat /proc/sys/kernel/random/boot_id`)
	if err := h.PowerCut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Exec(t.Context(), nil, "true"); err == nil {
		t.Error("a host without power ran a command")
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := shell(t, h, `cat /var/lib/shoal/file /root/file; test ! -e /run/file; systemctl is-active victim || true
journalctl -q --no-pager -b -1 -u victim | grep -c Started || true`)
	if want := "kept\nkept\ninactive\n1"; got != want {
		t.Errorf("after the power cut: %q, want %q", got, want)
	}
	if after := shell(t, h, "cat /proc/sys/kernel/random/boot_id"); after == before {
		t.Error("the host did not boot again")
	}
}

func testShutdown(t *testing.T, h *Host) {
	shell(t, h, `systemd-run --quiet --unit=orderly --property=ExecStop="/bin/sh -c 'echo stopped > /root/stopped'" sleep infinity`)
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := shell(t, h, "cat /root/stopped"); got != "stopped" {
		t.Errorf("got %q", got)
	}
}

// TestMain lets the test's program be the owner of a bed that another test kills.
func TestMain(m *testing.M) {
	if name := os.Getenv("BED_TEST_OWNER"); name != "" {
		if _, err := Up(context.Background(), Config{Name: name}); err != nil {
			panic(err)
		}
		os.Stdout.WriteString("up\n")
		select {}
	}
	os.Exit(m.Run())
}

// owner starts a process that makes a bed and holds it.
func startOwner(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BED_TEST_OWNER="+name)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "up\n" {
		t.Fatalf("owner: %q, %v, %s", line, err, complaint.String())
	}
	return cmd
}

// leftovers are a bed's traces on the machine, looked for where the kernel keeps them.
func leftovers(t *testing.T, name string) []string {
	t.Helper()
	dir := string(bedPlace(name))
	var found []string
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		found = append(found, "directory "+dir)
	}
	procs, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range procs {
		if mounts, _ := os.ReadFile(path); strings.Contains(string(mounts), dir+"/") {
			found = append(found, "mounts or processes: "+path)
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "shoal-testbed-"+name {
			found = append(found, "cgroup "+path)
		}
		return nil
	})
	return found
}

func TestNothingStaysWhenTheOwnerIsKilled(t *testing.T) {
	needMachine(t)
	name := fmt.Sprintf("test-killed-owner-%d", os.Getpid())
	owner := startOwner(t, name)
	if got := leftovers(t, name); len(got) < 3 {
		t.Fatalf("the search for leftovers is blind: it sees only %q of a living bed", got)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is left", func() bool { return len(leftovers(t, name)) == 0 })
}

func TestNothingStaysWhenTheSupervisorIsKilledToo(t *testing.T) {
	needMachine(t)
	name := fmt.Sprintf("test-killed-supervisor-%d", os.Getpid())
	owner := startOwner(t, name)
	pid, err := bedPlace(name).supervisor()
	if err != nil || pid == 0 {
		t.Fatalf("supervisor: %d, %v", pid, err)
	}
	if err := errors.Join(owner.Process.Kill(), syscall.Kill(pid, syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is left", func() bool {
		if err := Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		return len(leftovers(t, name)) == 0
	})
}

func TestBedEndsWithItsContext(t *testing.T) {
	needMachine(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b, err := Up(ctx, Config{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	eventually(t, "nothing is left", func() bool { return len(leftovers(t, b.Name())) == 0 })
	if err := b.Down(); err != nil {
		t.Error(err)
	}
}

func TestTwoBedsLiveSideBySideAndAnotherProcessMayEndOne(t *testing.T) {
	one, two := up(t, Config{}), up(t, Config{})
	opened, err := Open(one.Name())
	if err != nil {
		t.Fatal(err)
	}
	if got := shell(t, opened.Host("n1"), "hostname"); got != "n1" {
		t.Errorf("got %q", got)
	}
	if err := opened.Down(); err != nil {
		t.Fatal(err)
	}
	if got := leftovers(t, one.Name()); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
	if got := shell(t, two.Host("n1"), "hostname"); got != "n1" {
		t.Errorf("the other bed: %q", got)
	}
}

func TestNameOfALivingBedIsTaken(t *testing.T) {
	b := up(t, Config{})
	if _, err := Up(t.Context(), Config{Name: b.Name()}); err == nil {
		t.Error("two beds have one name")
	}
}
