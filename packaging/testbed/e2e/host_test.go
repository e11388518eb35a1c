package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// patience is how long a condition may take on a busy machine.
const patience = time.Minute

func TestMain(m *testing.M) {
	flag.Parse()
	// A test waits for half of its time, and 20 hosts at once would each be slow.
	if err := flag.Set("test.parallel", "3"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// host is a host of the test-bed.
type host struct {
	*testing.T
	*bed.Host
}

// newHost boots a light host for this test alone, without Shoal. Tests with hosts run some at once.
func newHost(t *testing.T) host {
	t.Helper()
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it boots a host")
	}
	for _, tool := range []string{"mmdebstrap", "systemd-nspawn", "dpkg-buildpackage"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v: `make deps` installs it", err)
		}
	}
	// Not the test's own context: that ends before a failure is explained.
	b, err := bed.Up(context.WithoutCancel(t.Context()), bed.Config{Hosts: 1, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	h := host{t, b.Host("n1")}
	t.Cleanup(func() {
		if t.Failed() {
			h.explain(b)
		}
		if err := b.Down(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// explain logs what a failed test's reader wants to see. The test's own context has ended by now.
func (h host) explain(b *bed.Bed) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := b.Host("n1").Exec(ctx, nil, "sh", "-c", "journalctl --no-pager -n 60 -u shoald -o cat; shoal get pods -A; systemctl --no-pager list-units 'shoal-*'")
	if err != nil {
		h.Logf("the host can't be asked: %v; its console: %s", err, h.Console())
	}
	h.Logf("the host at the end:\n%s%s", r.Stdout, r.Stderr)
}

// newShoal boots a light host with the package installed and the daemon running.
func newShoal(t *testing.T) host {
	t.Helper()
	h := newHost(t)
	h.install()
	return h
}

// install installs the package, or upgrades to it.
func (h host) install() {
	h.Helper()
	deb, err := bed.Package()
	if err != nil {
		h.Fatal(err)
	}
	if err := h.CopyTo(h.Context(), deb, "/root/shoal.deb"); err != nil {
		h.Fatal(err)
	}
	h.sh("DEBIAN_FRONTEND=noninteractive apt-get install -y --reinstall /root/shoal.deb")
	h.answers()
}

// answers waits until the daemon's API does.
func (h host) answers() {
	h.Helper()
	h.until("shoal get nodes")
}

// sh runs a script on the host that must succeed and returns what it printed, without the last newline.
func (h host) sh(script string, args ...string) string {
	h.Helper()
	out, err := h.Shell(h.Context(), script, args...)
	if err != nil {
		h.Fatal(err)
	}
	return out
}

// fails runs a script that must not succeed and returns all that it printed.
func (h host) fails(script string) string {
	h.Helper()
	r, err := h.Exec(h.Context(), nil, "sh", "-euc", script)
	if err != nil {
		h.Fatal(err)
	}
	if r.Exit == 0 {
		h.Fatalf("%s: succeeded: %s", script, r.Stdout)
	}
	return r.Stdout + r.Stderr
}

// until repeats a script until it succeeds.
func (h host) until(script string) {
	h.Helper()
	h.eventually(script, func() error {
		r, err := h.Exec(h.Context(), nil, "sh", "-euc", script)
		if err == nil && r.Exit != 0 {
			err = errors.New(r.Stdout + r.Stderr)
		}
		return err
	})
}

// shows repeats a script until it prints want.
func (h host) shows(want, script string) {
	h.Helper()
	h.eventually(script, func() error {
		r, err := h.Exec(h.Context(), nil, "sh", "-euc", script)
		if got := strings.TrimSpace(r.Stdout); err == nil && got != want {
			err = fmt.Errorf("got %q, want %q (%s)", got, want, strings.TrimSpace(r.Stderr))
		}
		return err
	})
}

func (h host) eventually(what string, try func() error) {
	h.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			h.Fatalf("%s: not within %s: %v", what, patience, err)
		case <-h.Context().Done():
			h.Fatal(context.Cause(h.Context()))
		}
	}
}

// drop puts a file into /etc/shoal/manifests, at once and whole.
func (h host) drop(name, text string) {
	h.Helper()
	if err := h.WriteFile(h.Context(), "/etc/shoal/manifests/"+name, []byte(text)); err != nil {
		h.Fatal(err)
	}
}

// get is one field of an object, as JSONPath has it.
func (h host) get(object, path string) string {
	h.Helper()
	return h.sh(`shoal get "$1" -o jsonpath="{$2}"`, object, path)
}

// ready waits until a pod is.
func (h host) ready(pod string) {
	h.Helper()
	h.shows("True", fmt.Sprintf(`shoal get pod %s -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}'`, pod))
}

// noPods waits until no pod of the namespace default is left, in the API and in systemd.
func (h host) noPods() {
	h.Helper()
	h.shows("", "shoal get pods -o name; systemctl list-units --no-legend 'shoal-*.scope'")
}

// processes are those of a pod's containers and of its pause process.
func (h host) processes(pod string) string {
	h.Helper()
	scope := h.sh(`systemctl show "shoal-default-$1-*.scope" -p ControlGroup --value`, pod)
	return h.sh(`cat /sys/fs/cgroup"$1"/*/cgroup.procs | sort -n | tr '\n' ' '`, scope)
}

// life is what changes when a pod is not the same any more, or was restarted.
func (h host) life(pod string) string {
	h.Helper()
	return h.processes(pod) + h.sh(`shoal get pod "$1" -o jsonpath='{.metadata.uid} {.status.containerStatuses[*].restartCount} {.status.containerStatuses[*].containerID}'`, pod)
}
