package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// cgroupTree is what a machine without systemd lets its programs have of cgroups.
type cgroupTree string

const (
	sameTree     cgroupTree = "same"     // the machine's own hierarchies
	unifiedTree  cgroupTree = "unified"  // cgroup v2 alone, even where the machine binds every controller to v1
	readOnlyTree cgroupTree = "readonly" // a container's
)

// enclose runs as root of the machine. It makes a cgroup for this test in each hierarchy, goes there and into namespaces
// of its own, and takes the cgroups away when nothing runs there any more.
const enclose = `
name=$1 tree=$2 setup=$3
for dir in /sys/fs/cgroup /sys/fs/cgroup/*; do
	test -e "$dir/cgroup.procs" || continue
	case $dir in /sys/fs/cgroup/*) test -e /sys/fs/cgroup/cgroup.procs && continue;; esac # a child, not a hierarchy
	mkdir "$dir/$name"
	for file in cpuset.cpus cpuset.mems; do # a new one of cgroup v1 has none and takes no process
		test ! -e "$dir/tasks" || test ! -e "$dir/$file" || cat "$dir/$file" > "$dir/$name/$file"
	done
	made="${made-} $dir/$name"
done
(
	for dir in $made; do sh -c 'echo $PPID > "$1/cgroup.procs"' sh "$dir"; done
	exec unshare --mount --net --pid --cgroup --uts --ipc --fork sh -euc "$setup" sh "$tree"
) || true
for dir in $made; do find "$dir" -depth -type d -exec rmdir {} +; done
`

// setup runs first in the namespaces. It prints its process id outside of them and waits for the end of its input, with
// which everything in the namespaces ends. Nothing is written to the machine's disk: overlays and tmpfs take it.
const setup = `
read -r pid rest < /proc/self/stat
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir /run/lock
for dir in etc var; do
	mkdir -p "/run/over/$dir/upper" "/run/over/$dir/work"
	mount -t overlay -o "lowerdir=/$dir,upperdir=/run/over/$dir/upper,workdir=/run/over/$dir/work" overlay "/$dir"
done
for dir in /etc/shoal /run/shoal /var/lib/shoal /var/log/pods; do
	mkdir -p "$dir"
	mount -t tmpfs tmpfs "$dir"
done
mkdir /etc/shoal/manifests
hierarchies=$(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2, $3, $4 }' /proc/mounts)
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /sys/fs/cgroup
case $1 in
unified) mount -t cgroup2 cgroup2 /sys/fs/cgroup ;;
*)
	echo "$hierarchies" | while read -r dir type options; do
		mkdir -p "$dir"
		case $type in
		cgroup2) mount -t cgroup2 cgroup2 "$dir" ;;
		cgroup) mount -t cgroup -o "$(echo "$options" | tr , '\n' | grep -vx -e 'r[wo]' -e relatime -e nosuid -e nodev -e noexec | paste -sd,)" cgroup "$dir" ;;
		esac
	done ;;
esac
if test "$1" = readonly; then
	awk '$3 ~ /^cgroup/ { print $2 }' /proc/mounts | while read -r dir; do mount -o remount,bind,ro "$dir"; done
fi
hostname plain
ip link set lo up
echo "$pid"
exec catatonit -- cat >/dev/null
`

// builtPrograms is a directory with shoald and shoal of the tree around this package, built once.
var builtPrograms = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs("../../../bin")
	if err != nil {
		return "", err
	}
	if out, err := exec.Command("make", "-s", "-C", filepath.Dir(dir), "build", "PROGRAMS=./cmd/shoald ./cmd/shoal").CombinedOutput(); err != nil {
		return "", fmt.Errorf("make build: %w: %s", err, out)
	}
	return dir, nil
})

// plain is a machine without systemd: namespaces of this one, with their own files, network, processes and cgroups.
type plain struct {
	*testing.T
	pid  string // of the first process inside
	bin  string
	log  string // what every shoald said
	tree cgroupTree
}

func newPlain(t *testing.T, tree cgroupTree) *plain {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes namespaces and cgroups")
	}
	for _, tool := range []string{"unshare", "nsenter", "ip", "crun", "conmon", "catatonit"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v: `make deps` installs it", err)
		}
	}
	bin, err := builtPrograms()
	if err != nil {
		t.Fatal(err)
	}
	p := &plain{T: t, bin: bin, log: filepath.Join(t.TempDir(), "log"), tree: tree}
	cmd := exec.Command("sh", "-euc", enclose, "sh", fmt.Sprintf("shoal-plain-%d-%s", os.Getpid(), tree), string(tree), setup)
	// What ends this test must not end the one that cleans up after it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe() // its end ends all, also when this test is killed
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(p.log) // what there is
			t.Logf("shoald said:\n%s", log)
		}
		stdin.Close()
		if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
			t.Errorf("the namespaces are not taken down: %v: %s", err, stderr.String())
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		stdin.Close()
		io.Copy(io.Discard, stdout)
		t.Fatalf("make namespaces: %v: %s", err, stderr.String())
	}
	p.pid = strings.TrimSpace(line)
	return p
}

// command runs a script inside. It starts in the cgroups of the namespaces' first process, as a container's would.
func (p *plain) command(ctx context.Context, script string) *exec.Cmd {
	const enter = `for f in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do
	test ! -w "$f" || echo 0 > "$f"; done 2>/dev/null; `
	cmd := exec.CommandContext(ctx, "nsenter", "-t", p.pid, "-m", "-n", "-p", "-C", "-u", "-i", "sh", "-uc", enter+script)
	cmd.Env = append(os.Environ(), "PATH="+p.bin+":"+os.Getenv("PATH"), "KUBECONFIG=/nonexistent")
	return cmd
}

// sh runs a script inside that must succeed and returns what it printed, without the last newline.
func (p *plain) sh(script string) string {
	p.Helper()
	out, err := p.try(script)
	if err != nil {
		p.Fatal(err)
	}
	return out
}

func (p *plain) try(script string) (string, error) {
	cmd := p.command(p.Context(), "set -e; "+script)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s%s", script, err, out, stderr.String())
	}
	return strings.TrimSuffix(string(out), "\n"), err
}

// shows repeats a script until it prints want.
func (p *plain) shows(want, script string) {
	p.Helper()
	host{T: p.T}.eventually(script, func() error {
		got, err := p.try(script)
		if err == nil && strings.TrimSpace(got) != want {
			err = fmt.Errorf("got %q, want %q", got, want)
		}
		return err
	})
}

// daemon starts shoald and waits for its API. The function kills it as kill -9 does.
func (p *plain) daemon() (kill func()) {
	p.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.Fatal(err)
	}
	defer log.Close()
	// Not the test's own context: that ends before the namespaces do, which end it anyway.
	cmd := p.command(context.WithoutCancel(p.Context()), "exec shoald")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		p.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	host{T: p.T}.eventually("shoal get nodes", func() error {
		_, err := p.try("shoal get nodes")
		return err
	})
	return func() {
		p.Helper()
		p.sh("kill -9 $(pgrep -x shoald)") // pgrep sees the namespace's processes only
		<-ended
	}
}
