package witness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/gate"
	"github.com/shoal-project/shoal/daemon/lease"
)

// exclusive is a host that wants to run the one writer: its lease process, and
// what its daemon does about the claim.
type exclusive struct {
	bed   *bed
	name  string
	slice gate.Slice
	log   string // what all writers append their tokens to

	cut atomic.Bool // from all witnesses
	end func()      // of the lease process; returns when it has ended

	mu       sync.Mutex
	standing gate.Standing
	hold     lease.Hold
	starting bool
	running  bool
	starts   int
	last     error // of a start, or of the writer's end
}

// Ask is the lease process' to the witnesses.
func (h *exclusive) ask(ctx context.Context, do func(*Witness) error) error {
	err := errors.New("cut off")
	for _, w := range h.bed.wits {
		if h.cut.Load() || ctx.Err() != nil {
			break
		}
		if err = do(w); err == nil {
			break
		}
	}
	return err
}

type toWitnesses struct{ *exclusive }

func (h toWitnesses) Ask(ctx context.Context, r lease.Request) (a lease.Answer, err error) {
	err = h.ask(ctx, func(w *Witness) (err error) { a, err = w.Ask(ctx, r); return err })
	return a, err
}

type toDaemon struct{ *exclusive }

func (h toDaemon) Ask(_ context.Context, s gate.Standing) (gate.Word, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.standing = s
	if h.starting {
		return gate.Word{}, nil
	}
	return gate.Word{Cleared: s.Loss}, nil
}

// begin starts the lease process.
func (h *exclusive) begin(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- gate.Run(ctx, gate.Config{
			Node: h.name, Session: "session of " + h.name, Slice: h.slice, Budget: h.bed.budget, Witnesses: toWitnesses{h}, Daemon: toDaemon{h},
			Ping: func() {}, StopPods: func(context.Context) error { return nil }, Log: slog.New(slog.DiscardHandler),
		})
	}()
	h.end = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// work claims, and starts the writer, whenever it may.
func (h *exclusive) work(ctx context.Context) {
	again := time.NewTicker(30 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
		h.mu.Lock()
		epoch := h.standing.Epoch
		switch {
		case epoch == 0 || h.running || h.starting:
			h.mu.Unlock()
		case h.hold.May(epoch):
			h.starting = true
			h.mu.Unlock()
			h.start(h.hold.Token)
		default:
			h.hold = h.hold.Ask(gate.Boottime(), epoch)
			wish := lease.Command{Do: lease.Acquire, Node: h.name, Epoch: epoch, Key: "pod/default/db-0", Try: h.hold.Try}
			h.mu.Unlock()
			var out lease.Outcome
			err := h.ask(ctx, func(w *Witness) (err error) { out, err = w.Do(wish); return err })
			h.mu.Lock()
			if err == nil {
				h.hold = h.hold.Hear(h.name, wish.Try, out)
			}
			h.mu.Unlock()
		}
	}
}

// start starts the writer in the slice. It comes back when the writer runs, or
// was killed before it did.
func (h *exclusive) start(token uint64) {
	// A new one each time: Linux 6.18 kills at birth what is cloned into a cgroup that was killed once.
	h.starts++
	dir := filepath.Join(string(h.slice), fmt.Sprint("db-0.", h.starts))
	err := os.Mkdir(dir, 0o755)
	cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("while :; do echo %d %s >>%s; sleep 0.01; done", token, h.name, h.log))
	if d, openErr := os.Open(dir); openErr == nil {
		defer d.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(d.Fd())}
		err = cmd.Start()
	} else {
		err = errors.Join(err, openErr)
	}
	h.mu.Lock()
	h.starting, h.running, h.last = false, err == nil, err
	h.mu.Unlock()
	if err == nil {
		go func() {
			err := cmd.Wait() // killed, as a rule
			h.mu.Lock()
			h.running, h.last = false, err
			h.mu.Unlock()
		}()
	}
}

// lines are what was written: the tokens and who had them. It is an error if a
// token comes after a larger one.
func written(log string) (lines []string, err error) {
	f, err := os.Open(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	most := uint64(0)
	for scan := bufio.NewScanner(f); scan.Scan(); {
		var token uint64
		var name string
		if _, err := fmt.Sscan(scan.Text(), &token, &name); err != nil {
			return lines, fmt.Errorf("line %q: %w", scan.Text(), err)
		}
		if token < most {
			return lines, fmt.Errorf("%s wrote with token %d after one with %d had", name, token, most)
		}
		most = token
		lines = append(lines, scan.Text())
	}
	return lines, nil
}

func TestTheCheckerSeesWritersThatOverlap(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	for text, bad := range map[string]bool{"3 a\n3 a\n5 b\n": false, "3 a\n5 b\n3 a\n": true} {
		if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := written(log); (err != nil) != bad {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// slices are cgroups of the machine's own hierarchy, for this test.
func slices(t *testing.T, n int) (all []gate.Slice) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes cgroups")
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if f[2] != "cgroup2" || len(all) > 0 {
			continue
		}
		parent, err := os.MkdirTemp(f[1], "shoal-witness-test-")
		if err != nil {
			t.Skipf("can't make a cgroup in %s: %v", f[1], err)
		}
		t.Cleanup(func() { _ = os.Remove(parent) })
		for i := range n {
			s := gate.Slice(filepath.Join(parent, fmt.Sprint("host", i)))
			if err := s.Prepare(); err != nil {
				t.Skip(err)
			}
			all = append(all, s)
			t.Cleanup(func() {
				_ = s.Shut()
				for range 3000 { // the kernel takes a moment to reap
					pods, _ := filepath.Glob(string(s) + "/db-0.*")
					for _, pod := range pods {
						_ = os.Remove(pod)
					}
					if err := os.Remove(string(s)); err == nil || errors.Is(err, os.ErrNotExist) {
						return
					}
				}
			})
		}
	}
	if len(all) == 0 {
		t.Skip("no cgroup v2 hierarchy is mounted")
	}
	return all
}

// Three hosts with real lease processes and real cgroups want to run one writer,
// and lose the witnesses, each other and their lease processes.
func TestWritersNeverOverlap(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 12 s of real leases")
	}
	places := slices(t, 3)
	b := &bed{t: t, now: gate.Boottime, budget: lease.Budget{
		Renew: 100 * time.Millisecond, Deadline: 1500 * time.Millisecond, Watchdog: 500 * time.Millisecond, Kill: time.Second, Lease: 3 * time.Second,
		HandOver: time.Second, Grace: time.Minute, Drift: 2,
	}}
	b.begin(3)
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	hosts := make(map[string]*exclusive)
	for i, place := range places {
		h := &exclusive{bed: b, name: string(rune('a' + i)), slice: place, log: log}
		hosts[h.name] = h
		h.begin(t)
		work.Go(func() { h.work(ctx) })
	}
	defer func() {
		if t.Failed() {
			for _, h := range hosts {
				h.mu.Lock()
				there, frozen, err := h.slice.Look()
				t.Logf("%s: %+v, hold %+v, starting %v, running %v, slice populated %v, frozen %v, %v, last %v", h.name, h.standing, h.hold, h.starting, h.running, there, frozen, err, h.last)
				h.mu.Unlock()
			}
			for i, w := range b.wits {
				w.State(func(s *lease.State) { t.Logf("witness %d, leads: %v: %+v", i, w.leading() != nil, *s) })
			}
		}
		stop()
		for _, h := range hosts {
			h.end() // kills a start that hangs, too
		}
		work.Wait()
	}()
	// more waits for that many lines, of somebody else than the one that is named.
	more := func(what string, n int, not string) (who string) {
		t.Helper()
		before, _ := written(log)
		b.eventually(what, func() error {
			lines, err := written(log)
			if err != nil && !strings.Contains(err.Error(), "EOF") {
				t.Fatal(err)
			}
			if len(lines) < len(before)+n {
				return fmt.Errorf("%d lines, want %d", len(lines), len(before)+n)
			}
			_, who, _ = strings.Cut(lines[len(lines)-1], " ")
			if who == not {
				return fmt.Errorf("%s writes on", who)
			}
			return nil
		})
		return who
	}
	for range 2 {
		who := more("a writer", 20, "")
		hosts[who].cut.Store(true)
		next := more("a takeover from a host that was cut off", 20, who)
		hosts[who].cut.Store(false)

		old := b.leader()
		b.nets[old].isolate(true)
		b.leader(old)
		b.nets[old].isolate(false)
		more("a writer after a leader was lost", 20, "")

		hosts[next].end()
		hosts[next].begin(t)
		more("a writer after a lease process was lost", 20, "")
	}
	lines, err := written(log)
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d lines, the last one %q", len(lines), lines[len(lines)-1])
}
