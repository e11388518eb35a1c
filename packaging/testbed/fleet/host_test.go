package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// patience is how long a condition may take on a busy machine.
const patience = time.Minute

// cluster is hosts of a bed that are to be one cluster, in the hands of a test.
type cluster struct {
	*testing.T
	*bed.Bed
}

// shared is the cluster of three, n1 to n3, that most tests share; n4 is off it.
var shared struct {
	sync.Mutex
	bed *bed.Bed
}

// long leaves a test to make test-full.
func long(t *testing.T) {
	if os.Getenv("SHOAL_TESTBED_FULL") == "" {
		t.Skip("takes minutes: make test-full sets SHOAL_TESTBED_FULL=1")
	}
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if shared.bed != nil {
		if err := shared.bed.Down(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// three is the shared cluster. A test leaves it as it found it: all hosts on and in touch, with no manifests.
func three(t *testing.T) cluster {
	t.Helper()
	needs(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.bed == nil {
		b, err := boot(bed.Config{Hosts: 4})
		if err != nil {
			t.Fatal(err)
		}
		shared.bed = b
		c := cluster{t, b}
		hosts := []string{"n1", "n2", "n3"}
		c.install(hosts...)
		c.configure(c.sh("n1", "shoal keygen"), hosts, hosts...)
	}
	c := cluster{t, shared.bed}
	c.explainFailure()
	t.Cleanup(c.tidy)
	c.together("n1", "n2", "n3")
	return c
}

// boot makes a bed that outlives the test which asked for it: a failure is explained when the test's own context has ended.
func boot(config bed.Config) (*bed.Bed, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	late := time.AfterFunc(2*patience, func() { cancel(errors.New("the hosts have not booted")) })
	defer late.Stop()
	return bed.Up(ctx, config)
}

// tidy brings a shared cluster back to how it was.
func (c cluster) tidy() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := c.Heal(ctx)
	for _, name := range []string{"n1", "n2", "n3"} {
		err = errors.Join(err, c.Host(name).Start(ctx))
		_, clean := c.Host(name).Shell(ctx, "rm -rf /etc/shoal/manifests/*; systemctl start shoald")
		err = errors.Join(err, clean)
	}
	if err != nil {
		c.Error(err)
	}
}

// needs skips a test where the machine can't run it.
func needs(t *testing.T, tools ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots hosts: not with -short")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: it boots hosts")
	}
	for _, tool := range append(tools, "mmdebstrap", "systemd-nspawn", "nft", "dpkg-buildpackage") {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v: `make deps` installs it", err)
		}
	}
}

// newBed boots hosts for one test alone, which runs beside others of that kind.
func newBed(t *testing.T, config bed.Config) cluster {
	t.Helper()
	t.Parallel()
	config.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	b, err := boot(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Down(); err != nil {
			t.Error(err)
		}
	})
	c := cluster{t, b}
	c.explainFailure()
	return c
}

// explainFailure logs, when the test has failed, what a reader wants to see of each host.
func (c cluster) explainFailure() {
	c.Cleanup(func() {
		if !c.Failed() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		for _, name := range c.HostNames() {
			r, err := c.Host(name).Exec(ctx, nil, "sh", "-c", `shoal members; shoal get nodes; shoal get pods -A -o wide; shoal manifests
systemctl --no-pager --no-legend list-units 'shoal-*.scope'; journalctl --no-pager -n 30 -u shoald -o short-precise`)
			c.Logf("%s at the end: %v\n%s%s", name, err, r.Stdout, r.Stderr)
		}
	})
}

// install installs the package on hosts, all at once.
func (c cluster) install(names ...string) {
	c.Helper()
	deb, err := bed.Package()
	if err != nil {
		c.Fatal(err)
	}
	c.each(names, func(h *bed.Host) error {
		if err := h.CopyTo(c.Context(), deb, "/root/shoal.deb"); err != nil {
			return err
		}
		_, err := h.Shell(c.Context(), "DEBIAN_FRONTEND=noninteractive dpkg -i /root/shoal.deb")
		return err
	})
}

// configure gives hosts a key and a join list, and restarts their daemons.
func (c cluster) configure(key string, join []string, names ...string) {
	c.Helper()
	list, err := json.Marshal(join)
	if err != nil {
		c.Fatal(err)
	}
	c.each(names, func(h *bed.Host) error {
		// Hosts share this machine's disk, which may be fuller than a host's should be.
		toml := fmt.Appendf(nil, "join = %s\n[eviction.hard]\n\"nodefs.available\" = \"1%%\"\n\"imagefs.available\" = \"1%%\"\n", list)
		if err := h.WriteFile(c.Context(), "/etc/shoal/shoal.toml", toml); err != nil {
			return err
		}
		_, err := h.Shell(c.Context(), `umask 077; printf '%s\n' "$1" > /etc/shoal/cluster.key; systemctl restart shoald`, key)
		return err
	})
}

// anyDisk has hosts take no notice of how full the disk is: it is this machine's.
const anyDisk = "[eviction]\ntransition_period = \"1s\"\n[eviction.hard]\n\"nodefs.available\" = \"0%\"\n\"imagefs.available\" = \"0%\"\n"

// each does something on hosts, on all at once, that must succeed.
func (c cluster) each(names []string, do func(*bed.Host) error) {
	c.Helper()
	errs := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { errs[i] = do(c.Host(name)) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		c.Fatal(err)
	}
}

// sh runs a script on a host that must succeed and returns what it printed, without the last newline.
func (c cluster) sh(host, script string, args ...string) string {
	c.Helper()
	out, err := c.Host(host).Shell(c.Context(), script, args...)
	if err != nil {
		c.Fatal(err)
	}
	return out
}

// try runs a script once. What it printed is in the error when it fails.
func (c cluster) try(host, script string) (string, error) {
	r, err := c.Host(host).Exec(c.Context(), nil, "sh", "-euc", script)
	if err == nil && r.Exit != 0 {
		err = errors.New(r.Stdout + r.Stderr)
	}
	return strings.TrimSpace(r.Stdout), err
}

// until repeats a script on a host until it succeeds.
func (c cluster) until(host, script string) {
	c.Helper()
	c.eventually(host+": "+script, func() error {
		_, err := c.try(host, script)
		return err
	})
}

// show repeats a script on hosts until it prints want on each.
func (c cluster) show(hosts []string, want, script string) {
	c.Helper()
	for _, host := range hosts {
		c.eventually(host+": "+script, func() error {
			got, err := c.try(host, script)
			if err == nil && got != want {
				err = fmt.Errorf("got %q, want %q", got, want)
			}
			return err
		})
	}
}

func (c cluster) eventually(what string, try func() error) {
	c.Helper()
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
			c.Fatalf("%s: not within %s: %v", what, patience, err)
		case <-c.Context().Done():
			c.Fatal(context.Cause(c.Context()))
		}
	}
}

// drop puts a file into a host's /etc/shoal/manifests, at once and whole.
func (c cluster) drop(host, name, text string) {
	c.Helper()
	if err := c.Host(host).WriteFile(c.Context(), "/etc/shoal/manifests/"+name, []byte(text)); err != nil {
		c.Fatal(err)
	}
}
