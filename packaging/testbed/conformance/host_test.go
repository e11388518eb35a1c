package conformance

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

var (
	existing = flag.String("bed", "", "use the first host of this bed, which has the images")
	programs = flag.String("programs", "", "directory of shoald and shoal; empty: build them")
)

// patience is how long a fact may take to become true. A quiet machine needs a hundredth of it.
const patience = 90 * time.Second

// host is the one that all tests share. The first to ask makes it.
var host struct {
	sync.Once
	bed    *bed.Bed
	host   *bed.Host
	watch  *watch
	skip   string
	err    error
	cancel context.CancelFunc
}

func TestMain(m *testing.M) {
	flag.Parse()
	// Stories wait most of the time: two at once, the default on two cores, would waste it.
	if err := flag.Set("test.parallel", "24"); err != nil {
		panic(err)
	}
	code := m.Run()
	if host.cancel != nil {
		host.cancel()
	}
	if host.bed != nil && *existing == "" {
		if err := host.bed.Down(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// onHost is the host with shoald running, and what it publishes.
func onHost(t *testing.T) (*bed.Host, *watch) {
	t.Helper()
	host.Do(func() {
		host.skip = missing()
		if host.skip == "" {
			var ctx context.Context
			ctx, host.cancel = context.WithCancel(context.Background())
			host.err = makeHost(ctx)
		}
	})
	if host.skip != "" {
		t.Skip(host.skip)
	}
	if host.err != nil {
		t.Fatal(host.err)
	}
	return host.host, host.watch
}

// missing is what a machine lacks to have a bed; "" when it has all.
func missing() string {
	if testing.Short() {
		return "boots a host: not with -short"
	}
	if os.Geteuid() != 0 {
		return "needs root"
	}
	for _, tool := range []string{"mmdebstrap", "systemd-nspawn", "docker-registry", "nft", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err.Error() + ": `go run ./packaging/testbed deps` installs it"
		}
	}
	return ""
}

func makeHost(ctx context.Context) error {
	var err error
	if *existing != "" {
		host.bed, err = bed.Open(*existing)
	} else {
		host.bed, err = bed.Up(ctx, bed.Config{Images: bed.ImageNames()})
	}
	if err != nil {
		return err
	}
	h := host.bed.Host("n1")
	host.host = h
	if err := install(ctx, h, host.bed.MirrorConfig()); err != nil {
		return fmt.Errorf("install shoald: %w", err)
	}
	host.watch = newWatch()
	go host.watch.run(ctx, h, "pods")
	go host.watch.run(ctx, h, "events")
	return nil
}

// install puts the programs on the host and starts the daemon, anew if an earlier run of the tests left one.
func install(ctx context.Context, h *bed.Host, config string) error {
	dir := *programs
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "shoal-conformance-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		build := exec.CommandContext(ctx, "go", "build", "-o", dir, "github.com/shoal-project/shoal/cmd/shoald", "github.com/shoal-project/shoal/cmd/shoal")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	if _, err := h.Shell(ctx, `systemctl stop shoald 2>/dev/null || true; rm -rf /etc/shoal/manifests; mkdir -p /etc/shoal/manifests`); err != nil {
		return err
	}
	err := errors.Join(
		h.CopyTo(ctx, filepath.Join(dir, "shoald"), "/usr/bin/shoald"),
		h.CopyTo(ctx, filepath.Join(dir, "shoal"), "/usr/bin/shoal"),
		h.WriteFile(ctx, "/etc/shoal/shoal.toml", []byte(config)))
	if err != nil {
		return err
	}
	_, err = h.Shell(ctx, `exec systemd-run --quiet -u shoald -p KillMode=process -p Type=notify -p LimitMEMLOCK=infinity -p LimitNOFILE=1048576 -p TasksMax=infinity /usr/bin/shoald`)
	return err
}
