package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// newHost boots a host, with shoald built from this tree.
func newHost(t *testing.T) host {
	if os.Geteuid() != 0 {
		t.Skip("needs root: hosts are booted")
	}
	for _, tool := range []string{"mmdebstrap", "systemd-nspawn", "nft", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v: `go run ./packaging/testbed deps` installs it", err)
		}
	}
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin,
		"github.com/shoal-project/shoal/cmd/shoald", "github.com/shoal-project/shoal/cmd/shoal")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := bed.Up(t.Context(), bed.Config{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
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
	return h
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
			h.t.Fatalf("still after %v:\n%s\n\nshoald said:\n%s", limit, amiss, h.shell("journalctl -q -o short-precise -u shoald -n 150"))
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
