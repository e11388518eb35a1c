package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/idmap"
)

func ownUsers(cfg *Config) { no := false; cfg.Pod.Spec.HostUsers = &no }

// ownerOf is who a file belongs to on the host.
func ownerOf(t testing.TB, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

func TestRootOfAUserNamespaceIsNobodyOnTheHost(t *testing.T) {
	b := newBed(t)
	null := ownerOf(t, os.DevNull)
	t.Cleanup(func() { // the machine must not suffer from a failure
		if ownerOf(t, os.DevNull) != null {
			os.Chown(os.DevNull, 0, 0)
			os.Chmod(os.DevNull, 0o666)
		}
	})
	cfg := b.run(`id -u; cat /proc/self/uid_map; hostname; echo reopened >/dev/stdout; chmod 600 /dev/null && echo closed; sleep 1000`, ownUsers)
	b.until("the script's output", func() bool { return strings.Contains(b.log(cfg, "stdout"), "reopened") })
	got := strings.Fields(b.log(cfg, "stdout"))
	if want := []string{"0", "0", fmt.Sprint(testUsers.First), "65536", "web", "reopened"}; len(got) < 6 || strings.Join(got[:6], " ") != strings.Join(want, " ") {
		t.Errorf("got %q, want %q", got, want)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.read(cfg.Dir).PID))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("Uid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d", testUsers.First); !strings.Contains(string(status), want) {
		t.Errorf("got %s, want %s", status, want)
	}
	info, err := os.Stat(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if now := ownerOf(t, os.DevNull); now != null || info.Mode().Perm() != 0o666 {
		t.Errorf("the host's /dev/null belongs to %s, %v; it was %s", now, info.Mode(), null)
	}
}

// What a pod's root may do in namespaces of its own: they belong to its user
// namespace.
func TestNamespacesBelongToTheUserNamespace(t *testing.T) {
	b := newBed(t)
	out := b.output(`ip addr add 10.9.9.9/32 dev lo && echo address; hostname other && hostname; (nc -l -p 80 127.0.0.1 </dev/null & echo $!) ;`+
		` ping -c1 -w2 127.0.0.1 >/dev/null && echo ping; mount -t tmpfs x /tmp && echo mount`, ownUsers, func(cfg *Config) {
		cfg.Container.SecurityContext = &v1.SecurityContext{Capabilities: &v1.Capabilities{Add: []v1.Capability{"NET_ADMIN", "SYS_ADMIN"}}}
	})
	for _, want := range []string{"address\nother\n", "ping\nmount\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("got %q, want %q in it", out, want)
		}
	}
}

func TestExecJoinsTheUserNamespace(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000", ownUsers, func(cfg *Config) {
		uid := int64(1000)
		cfg.Container.SecurityContext = &v1.SecurityContext{RunAsUser: &uid}
	})
	null := ownerOf(t, os.DevNull)
	var out bytes.Buffer
	code, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{
		Cmd: []string{"sh", "-c", "id -u; cat /dev/stdin >/dev/stdout; exit 3"}, Stdin: strings.NewReader("in\n"), Stdout: &out})
	if err != nil || code != 3 || out.String() != "1000\nin\n" {
		t.Errorf("got %d, %v, %q", code, err, out.String())
	}
	out.Reset()
	if code, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"cat"}}); err != nil || code != 0 {
		t.Errorf("without streams: got %d, %v", code, err)
	}
	if code, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"sh", "-c", "id -u; test -t 0"}, TTY: true, Stdout: &out}); err != nil || code != 0 || out.String() != "1000\r\n" {
		t.Errorf("terminal: got %d, %v, %q", code, err, out.String())
	}
	if now := ownerOf(t, os.DevNull); now != null {
		t.Errorf("the host's /dev/null belongs to %s, it was %s", now, null)
	}
}

// A command in a container of another user than root must not get the host's
// /dev/null as its own either.
func TestExecGivesNoDeviceAway(t *testing.T) {
	b := newBed(t)
	cfg := b.run("sleep 1000", func(cfg *Config) {
		uid := int64(1000)
		cfg.Container.SecurityContext = &v1.SecurityContext{RunAsUser: &uid}
	})
	null := ownerOf(t, os.DevNull)
	if code, err := b.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"true"}}); err != nil || code != 0 {
		t.Errorf("got %d, %v", code, err)
	}
	if now := ownerOf(t, os.DevNull); now != null {
		os.Chown(os.DevNull, 0, 0)
		t.Errorf("the host's /dev/null belongs to %s, it was %s", now, null)
	}
}

func TestMountsWithTheHostsIDsAreMapped(t *testing.T) {
	b := newBed(t)
	host, own := filepath.Join(b.dir, "host"), filepath.Join(b.dir, "own")
	for _, dir := range []string{host, own} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := b.config(`stat -c '%u:%g' /host/f /own/f; cat /host/f; cat /own/f || echo denied; touch /host/new; chown 7:8 /host/new`, ownUsers, func(cfg *Config) {
		cfg.Mounts = []Mount{{Source: host, Destination: "/host", IDMap: true}, {Source: own, Destination: "/own"}}
	})
	if _, err := b.tryCreate(cfg); err != nil {
		if u := (*idmap.Unsupported)(nil); errors.As(err, &u) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	if err := b.Start(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	b.ended(cfg.Dir)
	if got, want := b.log(cfg, "stdout"), "0:0\n65534:65534\nx\ndenied\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := ownerOf(t, filepath.Join(host, "new")); got != "7:8" {
		t.Errorf("on the host it belongs to %s, want 7:8", got)
	}
}

func TestAMountThatCannotBeMappedSaysWhy(t *testing.T) {
	b := newBed(t)
	cfg := b.config("true", ownUsers, func(cfg *Config) {
		cfg.Mounts = []Mount{{Source: "/proc", Destination: "/host", IDMap: true}}
	})
	_, err := b.tryCreate(cfg)
	var typed *Error
	if !errors.As(err, &typed) || typed.Reason != CreateContainerError || !strings.Contains(err.Error(), "mount of /host in a pod with hostUsers: false: /proc lies on a file system (proc)") {
		t.Errorf("got %v", err)
	}
}

func TestSysctlsOfAUserNamespace(t *testing.T) {
	b := newBed(t)
	dir := filepath.Join(b.dir, "pods/pod1")
	sb, err := StartSandbox(t.Context(), SandboxConfig{Dir: dir, Hostname: "web", Users: testUsers,
		Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "99", "kernel.shmmni": "1234", "kernel.msgmax": "4321"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"net/ipv4/ip_unprivileged_port_start": "99", "kernel/shmmni": "1234", "kernel/msgmax": "4321"} {
		var got []byte
		err := onOwnThread(func() error {
			if err := errors.Join(enter(sb.NetNS), enter(sb.IPCNS)); err != nil {
				return err
			}
			var err error
			got, err = os.ReadFile("/proc/sys/" + name)
			return err
		})
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s is %q, %v, want %s", name, got, err, want)
		}
	}
	read, err := ReadSandbox(dir)
	if err != nil || read != sb {
		t.Errorf("read %+v, %v, want %+v", read, err, sb)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o710 || ownerOf(t, dir) != fmt.Sprintf("0:%d", testUsers.First) {
		t.Errorf("the pod's directory: %v, %s, %v", info.Mode(), ownerOf(t, dir), err)
	}
	if err := b.Delete(context.Background(), filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
}
