package warden

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/gate"
	"github.com/shoal-project/shoal/daemon/identity"
	"github.com/shoal-project/shoal/daemon/lease"
	"github.com/shoal-project/shoal/daemon/tenure"
)

// bed is hosts with lease processes and the part of a daemon that talks to
// them, on loopback. What gossip does is done by a map.
type bed struct {
	t       *testing.T
	keyFile string
	cgroups string

	mu    sync.Mutex
	hosts map[string]*box
}

// box is a host.
type box struct {
	b        *bed
	name     string
	dir      string
	address  string
	key      []byte
	identity string
	joins    bool
	expect   int
	alone    bool // no cluster key, and nobody in sight
	only     bool

	mu       sync.Mutex
	up, left bool
	standing tenure.Standing
	stop     func()
}

func newBed(t *testing.T) *bed {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes cgroups")
	}
	b := &bed{t: t, hosts: make(map[string]*box), cgroups: cgroup2(t)}
	b.keyFile = filepath.Join(t.TempDir(), "cluster.key")
	if err := os.WriteFile(b.keyFile, []byte(cluster.NewKey().Text()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// cgroup2 is a directory for slices.
func cgroup2(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[2] == "cgroup2" {
			dir, err := os.MkdirTemp(f[1], "shoal-warden-test-")
			if err != nil {
				t.Skipf("can't make a cgroup in %s: %v", f[1], err)
			}
			t.Cleanup(func() {
				slices, _ := filepath.Glob(dir + "/*/cgroup.procs")
				for _, s := range slices {
					_ = os.Remove(filepath.Dir(s))
				}
				if err := os.Remove(dir); err != nil {
					t.Log(err)
				}
			})
			return dir
		}
	}
	t.Skip("no cgroup v2 hierarchy is mounted")
	return ""
}

// add makes a host that is not started.
func (b *bed) add(name string) *box {
	b.t.Helper()
	parent := "/dev/shm" // others' disks may take seconds for each vote
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "w") // a socket's path is short
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	defer l.Close()
	h := &box{b: b, name: name, dir: dir, address: l.Addr().String(), identity: filepath.Join(dir, "identity")}
	key, err := identity.Open(h.identity)
	if err != nil {
		b.t.Fatal(err)
	}
	h.key = key.Public().(ed25519.PublicKey)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hosts[name] = h
	return h
}

// start runs the host's lease process and its daemon.
func (h *box) start() {
	h.startProcess()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up = true
}

func (h *box) startProcess() {
	t := h.b.t
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	log := slog.New(slog.NewTextHandler(t.Output(), nil)).With("host", h.name)
	all.Go(func() {
		err := Run(ctx, Config{
			Dir: filepath.Join(h.dir, "witness"), Socket: h.socket(), Session: filepath.Join(h.dir, "session"),
			Slice: gate.Slice(filepath.Join(h.b.cgroups, h.name)), Budget: lease.Default,
			StopPods: func(context.Context) error { return nil }, Ping: func() {}, Log: log, Silent: 3 * time.Second,
		})
		if err != nil {
			log.Error("the lease process ended", "err", err)
		}
	})
	all.Go(func() { h.daemon(ctx) })
	h.stop = func() {
		cancel()
		all.Wait()
		h.stop = nil
		h.mu.Lock()
		defer h.mu.Unlock()
		h.up = false
	}
	t.Cleanup(func() {
		if h.stop != nil {
			h.stop()
		}
	})
}

func (h *box) socket() string { return filepath.Join(h.dir, "s") }

// daemon tells the lease process what a daemon does.
func (h *box) daemon(ctx context.Context) {
	client := tenure.NewClient(h.socket())
	var s tenure.Standing
	for ctx.Err() == nil {
		told := h.told()
		tell := tenure.Tell{Seen: s.Version, Word: gate.Word{Cleared: s.Lease.Loss}}
		if s.Known != tenure.Sum(told) {
			tell.Host = &told
		}
		next, err := client.Tell(ctx, tell)
		if err != nil {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		s = next
		h.mu.Lock()
		h.standing = s
		h.mu.Unlock()
	}
}

func (h *box) told() tenure.Host {
	b := h.b
	b.mu.Lock()
	defer b.mu.Unlock()
	out := tenure.Host{Node: h.name, Identity: h.identity, Joins: h.joins, Expect: h.expect}
	if !h.alone {
		out.KeyFile, out.Listen = b.keyFile, h.address
	}
	for _, name := range slices.Sorted(maps.Keys(b.hosts)) {
		if m := b.hosts[name]; m == h || !h.alone && !m.alone {
			out.Members = append(out.Members, m.member())
		}
	}
	return out
}

func (h *box) member() tenure.Member {
	h.mu.Lock()
	defer h.mu.Unlock()
	return tenure.Member{Name: h.name, Address: h.address, Key: h.key, Only: h.only, Alive: h.up && !h.left, Left: h.left, Witness: h.standing.Self}
}

func (h *box) stands() tenure.Standing {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.standing
}

// holds waits until the hosts have leases.
func (b *bed) holds(hosts ...*box) {
	b.t.Helper()
	for _, h := range hosts {
		b.eventually("a lease of "+h.name, func() error {
			if s := h.stands(); s.Lease.Epoch == 0 {
				return errors.New(s.Problem)
			}
			return nil
		})
	}
}

// seats waits until the witnesses are those hosts, all with a vote, as any host says.
func (b *bed) seats(from *box, want ...string) tenure.Report {
	b.t.Helper()
	var r tenure.Report
	b.eventually("the witnesses "+strings.Join(want, " "), func() (err error) {
		r, err = tenure.NewClient(from.socket()).Report(b.t.Context())
		if err != nil {
			return err
		}
		var got []string
		for _, s := range r.Seats {
			if s.Votes && s.Answers {
				got = append(got, s.Node)
			} else {
				got = append(got, s.Node+"?")
			}
		}
		if !slices.Equal(got, want) || r.Leader == "" {
			return fmt.Errorf("they are %v, led by %q", got, r.Leader)
		}
		return nil
	})
	return r
}

func (h *box) claim(key string, try uint64) lease.Outcome {
	h.b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := tenure.NewClient(h.socket()).Do(ctx, lease.Command{Do: lease.Acquire, Key: key, Epoch: h.stands().Lease.Epoch, Try: try})
	if err != nil {
		h.b.t.Fatalf("%s claims %s: %v", h.name, key, err)
	}
	return out
}

func (b *bed) eventually(what string, do func() error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := do()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			b.t.Fatalf("%s: %v", what, err)
		case <-again.C:
		}
	}
}

// longer is for tests that -short leaves out.
func longer(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("elections of many hosts: not with -short")
	}
}
