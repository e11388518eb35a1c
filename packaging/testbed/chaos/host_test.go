package chaos

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// unit is shoald as the package installs it, as far as restarts go, but back at once: more can be killed in a minute.
const unit = `[Unit]
Description=shoald
StartLimitIntervalSec=0
[Service]
Type=notify
ExecStart=/usr/bin/shoald
KillMode=process
Restart=always
RestartSec=20ms
LimitMEMLOCK=infinity
LimitNOFILE=1048576
TasksMax=infinity
[Install]
WantedBy=multi-user.target
`

const manifests = "/etc/shoal/manifests/"

// host is a light host on which shoald runs.
type host struct {
	*bed.Host
	t *testing.T
}

var (
	race  = flag.Bool("shoald.race", false, "build shoald with the race detector")
	built = flag.String("shoald.dir", "", "where shoald and shoal are that are built already")
)

// binDir is where programs are built; it ends with the tests.
var binDir string

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if binDir, err = os.MkdirTemp("", "shoal-chaos-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(binDir)
	os.Exit(code)
}

// programs builds shoald and shoal from this tree, once.
var programs = sync.OnceValues(func() (dir string, err error) {
	if *built != "" {
		return *built, nil
	}
	for _, name := range []string{"shoald", "shoal-lease", "shoal"} {
		args, cgo := []string{"build", "-o", binDir}, "CGO_ENABLED=0"
		if *race && name == "shoald" {
			args, cgo = append(args, "-race"), "CGO_ENABLED=1"
		}
		if *clocks && name == "shoald" {
			overlay, err := clockOverlay(binDir)
			if err != nil {
				return "", err
			}
			args = append(args, "-overlay", overlay)
		}
		build := exec.Command("go", append(args, "github.com/shoal-project/shoal/cmd/"+name)...)
		build.Env = append(os.Environ(), cgo)
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w\n%s", err, out)
		}
	}
	return binDir, nil
})

// needs skips a test where the machine can't boot hosts.
func needs(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: hosts are booted")
	}
	for _, tool := range []string{"mmdebstrap", "systemd-nspawn", "nft", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v: `go run ./packaging/testbed deps` installs it", err)
		}
	}
}

// newHost boots a host, with shoald built from this tree.
func newHost(t *testing.T) host {
	needs(t)
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	// Not the test's context: the host is asked for its journal when the test is over.
	b, err := bed.Up(context.WithoutCancel(t.Context()), bed.Config{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Down(); err != nil {
			t.Error(err)
		}
	})
	h := host{b.Host("n1"), t}
	for _, name := range []string{"shoald", "shoal"} {
		if err := h.CopyTo(t.Context(), filepath.Join(bin, name), "/usr/bin/"+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.WriteFile(t.Context(), "/etc/systemd/system/shoald.service", []byte(unit)); err != nil {
		t.Fatal(err)
	}
	h.shell("systemctl daemon-reload; systemctl enable --now --quiet shoald")
	t.Cleanup(func() { h.checkJournal() })
	return h
}

// checkJournal sees that shoald never ended by itself: systemd would hide that by starting it again.
func (h host) checkJournal() {
	out, err := h.Shell(context.WithoutCancel(h.t.Context()),
		"journalctl -q -u shoald -o cat | grep -E '^(panic|fatal error|goroutine |.*DATA RACE)|Main process exited, code=(exited|dumped)' -A30 | head -n 100 || true")
	if err != nil || out != "" {
		h.t.Errorf("shoald ended by itself: %v %s", err, out)
	}
	out, err = h.Shell(context.WithoutCancel(h.t.Context()),
		`journalctl -q -u shoald -o cat | grep level=ERROR | sed -E 's/[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]+/N/g; s/pod=[^ ]*//' | sort | uniq -c | sort -rn | head -n 20 || true`)
	if out != "" || err != nil {
		h.t.Logf("errors that shoald saw: %v\n%s", err, out)
	}
}

// shell runs a script that must succeed.
func (h host) shell(script string, args ...string) string {
	h.t.Helper()
	out, err := h.Shell(h.t.Context(), script, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// write puts a file into its place, with its pod declared, in one rename.
func (h host) write(f *file) {
	h.t.Helper()
	h.shell(`printf %s "$2" > /root/next; mv /root/next "$1"`, manifests+f.path, f.yaml())
}

// until fails the test when ok stays unhappy for that long. ok says what is amiss.
func (h host) until(limit time.Duration, ok func() string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		amiss := ok()
		if amiss == "" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			h.t.Fatalf("still after %v:\n%s\n\nshoald knows:\n%s\n\nshoald said:\n%s", limit, amiss,
				h.shell("shoal get pods -A -o wide 2>&1; shoal why 2>&1; shoal manifests 2>&1"), h.shell("journalctl -q -o short-precise -u shoald -n 150"))
		}
	}
}

func (h host) look() Snapshot {
	h.t.Helper()
	s, err := Look(h.t.Context(), h.Host)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// settle waits until the host shows these pods and nothing else, and returns what it showed.
func (h host) settle(pods []Pod) (s Snapshot) {
	h.t.Helper()
	h.until(2*time.Minute, func() string {
		s = h.look()
		return strings.Join(Leaks(s, pods), "\n")
	})
	return s
}

// pods is what shoald says of its pods, by name.
func (h host) pods() map[string]v1.Pod {
	h.t.Helper()
	var list v1.PodList
	if err := json.Unmarshal([]byte(h.shell("shoal get pods -o json")), &list); err != nil {
		h.t.Fatal(err)
	}
	pods := make(map[string]v1.Pod)
	for _, p := range list.Items {
		pods[p.Name] = p
	}
	return pods
}

// counted checks that a container which counts lost no line of its log, and returns how far it came.
func (h host) counted(pod, container string) int {
	h.t.Helper()
	n := 0
	for line := range strings.Lines(h.shell(`cat /var/log/pods/default_"$1"_*/"$2"/*.log`, pod, container)) {
		if _, got, _ := strings.Cut(strings.TrimSpace(line), " stdout F "); got != fmt.Sprint(n) {
			h.t.Errorf("%s/%s: line %d of the log is %q", pod, container, n, line)
			return n
		}
		n++
	}
	return n
}
