package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/lease"
)

// newSlice is a slice of the machine's own cgroup v2 hierarchy, for this test.
func newSlice(t *testing.T) Slice {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes cgroups")
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[2] == "cgroup2" {
			parent, err := os.MkdirTemp(f[1], "shoal-gate-test-")
			if err != nil {
				t.Skipf("can't make a cgroup in %s: %v", f[1], err)
			}
			s := Slice(filepath.Join(parent, "exclusive"))
			t.Cleanup(func() {
				_ = s.Shut()
				eventually(t, "the cgroups to be empty", func() error {
					pods, _ := filepath.Glob(string(s) + "/*/cgroup.procs")
					for _, pod := range pods {
						if err := os.Remove(filepath.Dir(pod)); err != nil {
							return err
						}
					}
					return errors.Join(os.Remove(string(s)), os.Remove(parent))
				})
			})
			if err := s.Prepare(); err != nil {
				t.Skip(err)
			}
			return s
		}
	}
	t.Skip("no cgroup v2 hierarchy is mounted")
	return ""
}

func eventually(t *testing.T, what string, do func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := do()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-again.C:
		}
	}
}

// pod starts a command in a cgroup of its own in the slice. What it answers is
// closed when the command has ended.
func pod(t *testing.T, s Slice, name string, command ...string) <-chan error {
	t.Helper()
	dir := filepath.Join(string(s), name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(d.Fd())}
	ended := make(chan error, 1)
	go func() { // Start waits for the exec, which does not happen where the slice is frozen
		defer d.Close()
		ended <- cmd.Run()
	}()
	return ended
}

func within(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("it still runs")
		return nil
	}
}

func populated(s Slice, name string) func() error {
	return func() error {
		if there, _, err := Slice(filepath.Join(string(s), name)).Look(); err != nil || !there {
			return fmt.Errorf("nothing runs in %s: %v", name, err)
		}
		return nil
	}
}

func TestAShutSliceKillsAndLetsNothingRunLate(t *testing.T) {
	s := newSlice(t)
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	early := pod(t, s, "early", "sleep", "600")
	eventually(t, "the pod", populated(s, "early"))
	if err := s.Shut(); err != nil {
		t.Fatal(err)
	}
	if err := within(t, early); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the pod ended with %v", err)
	}
	mark := filepath.Join(t.TempDir(), "mark")
	late := pod(t, s, "late", "touch", mark)
	eventually(t, "the late pod to be there, frozen", func() error {
		there, frozen, err := Slice(filepath.Join(string(s), "late")).Look()
		if err != nil || !there || !frozen {
			return fmt.Errorf("populated %v, frozen %v, %v", there, frozen, err)
		}
		return nil
	})
	if err := s.Shut(); err != nil {
		t.Fatal(err)
	}
	if err := within(t, late); err == nil {
		t.Error("the late pod ran to its end")
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the late pod ran")
	}
}

// world is the witnesses' leader and the daemon of one host.
type world struct {
	over   chan struct{} // closed when Run has returned
	mu     sync.Mutex
	state  *lease.State
	leader *lease.Leader
	cut    bool
	silent bool
	clear  bool
	said   Standing
	pings  int
}

func (w *world) set(change func(*world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

type witnesses struct{ *world }

func (w witnesses) Ask(_ context.Context, r lease.Request) (lease.Answer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch now := Boottime(); {
	case w.cut:
		return lease.Answer{}, errors.New("cut off")
	case r.Do == lease.Register:
		r.Epoch = w.state.Apply(1, lease.Command{Do: lease.Register, Node: r.Node, Session: r.Session, Lease: r.Lease}).Epoch.Number
		return w.leader.Renew(w.state, r.Renewal, now), nil
	case r.Do == lease.Resign:
		w.state.Apply(1, lease.Command{Do: lease.Resign, Node: r.Node, Epoch: r.Epoch})
		return lease.Answer{Session: r.Session, Sent: r.Sent, Epoch: r.Epoch}, nil
	default:
		return w.leader.Renew(w.state, r.Renewal, now), nil
	}
}

type daemon struct{ *world }

func (d daemon) Ask(_ context.Context, s Standing) (Word, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.said = s
	if d.silent {
		return Word{}, errors.New("it hangs")
	}
	var w Word
	if d.clear {
		w.Cleared = s.Loss
	}
	return w, nil
}

func (w *world) epoch(want uint64) func() error {
	return func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if got := w.said.Epoch; got != want {
			return fmt.Errorf("the daemon was told of epoch %d, want %d", got, want)
		}
		return nil
	}
}

// run starts a lease process whose times are short.
func run(t *testing.T, s Slice, change func(*Config)) *world {
	t.Helper()
	b := lease.Budget{
		Renew: 50 * time.Millisecond, Deadline: 2 * time.Second, Watchdog: time.Second, Kill: time.Second, Lease: 4 * time.Second,
		HandOver: time.Minute, Grace: 3 * time.Second, Drift: 1,
	}
	w := &world{state: lease.NewState(), leader: lease.Lead(b, 1, Boottime()), clear: true, over: make(chan struct{})}
	c := Config{
		Node: "n1", Session: "s1", Slice: s, Budget: b, Witnesses: witnesses{w}, Daemon: daemon{w}, Log: slog.New(slog.DiscardHandler),
		Ping: func() { w.set(func(w *world) { w.pings++ }) }, StopPods: func(context.Context) error { return nil },
	}
	if change != nil {
		change(&c)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		defer close(w.over)
		ended <- Run(ctx, c)
	}()
	t.Cleanup(func() {
		stop()
		if err := within(t, ended); err != nil {
			t.Error(err)
		}
		if there, frozen, err := s.Look(); err == nil && !frozen {
			t.Errorf("a lease process that ended left the slice open (populated: %v)", there)
		}
	})
	return w
}

func TestAMissedDeadlineKillsWithoutTheDaemon(t *testing.T) {
	s := newSlice(t)
	w := run(t, s, nil)
	eventually(t, "an epoch", w.epoch(1))
	db := pod(t, s, "db-0", "sleep", "600")
	eventually(t, "the pod", populated(s, "db-0"))

	w.set(func(w *world) { w.cut, w.silent, w.clear = true, true, false })
	if err := within(t, db); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the pod ended with %v", err)
	}
	w.set(func(w *world) { w.cut, w.silent = false, false })
	eventually(t, "word of the loss", w.epoch(0))
	// The daemon has not let go yet: the process may not ask again.
	w.set(func(w *world) {
		w.state.Apply(1, lease.Command{Do: lease.Fence, Node: "n1", Epoch: 1, Term: 1})
		w.pings = 0
	})
	eventually(t, "some more beats", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.pings < 5 {
			return errors.New("too few")
		}
		if w.state.Count != 1 {
			t.Fatal("registered before the daemon let go")
		}
		return nil
	})
	w.set(func(w *world) { w.clear = true })
	eventually(t, "the next epoch", w.epoch(2))
	again := pod(t, s, "db-1", "true")
	if err := within(t, again); err != nil {
		t.Errorf("a pod in the slice that was opened again: %v", err)
	}
}

func TestAnEpochThatIsOverKillsAtOnce(t *testing.T) {
	s := newSlice(t)
	w := run(t, s, func(c *Config) { c.Budget.Deadline, c.Budget.Lease = 30*time.Second, 50*time.Second })
	eventually(t, "an epoch", w.epoch(1))
	db := pod(t, s, "db-0", "sleep", "600")
	eventually(t, "the pod", populated(s, "db-0"))
	w.set(func(w *world) { w.state.Apply(1, lease.Command{Do: lease.Fence, Node: "n1", Epoch: 1, Term: 1}) })
	if err := within(t, db); err == nil {
		t.Error("the pod ran to its end")
	}
	eventually(t, "the next epoch", w.epoch(2))
}

// terminate is what systemd does with a pod's scope.
func terminate(s Slice, pod string) func(context.Context) error {
	return func(context.Context) error {
		procs, err := os.ReadFile(filepath.Join(string(s), pod, "cgroup.procs"))
		for pid := range strings.FieldsSeq(string(procs)) {
			var n int
			if _, err := fmt.Sscan(pid, &n); err == nil {
				_ = syscall.Kill(n, syscall.SIGTERM)
			}
		}
		return err
	}
}

func TestAProcessThatIsToldToEndHandsOverFirst(t *testing.T) {
	s := newSlice(t)
	leave := make(chan struct{})
	w := run(t, s, func(c *Config) { c.StopPods, c.Leave = terminate(s, "db-0"), leave })
	eventually(t, "an epoch", w.epoch(1))
	db := pod(t, s, "db-0", "sleep", "600")
	eventually(t, "the pod", populated(s, "db-0"))
	close(leave)
	if err := within(t, db); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("the pod ended with %v, want the signal of an orderly stop", err)
	}
	select {
	case <-w.over:
	case <-time.After(time.Minute):
		t.Fatal("the process has handed over, and runs on")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state.Current("n1", 1) {
		t.Error("it ended before the witnesses knew")
	}
}

func TestADaemonThatStaysDeadEndsInAHandOver(t *testing.T) {
	s := newSlice(t)
	var db <-chan error
	w := run(t, s, func(c *Config) { c.StopPods = terminate(s, "db-0") })
	eventually(t, "an epoch", w.epoch(1))
	db = pod(t, s, "db-0", "sleep", "600")
	eventually(t, "the pod", populated(s, "db-0"))
	w.set(func(w *world) { w.silent = true })
	if err := within(t, db); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("the pod ended with %v, want the signal of an orderly stop", err)
	}
	eventually(t, "the resignation", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.state.Current("n1", 1) {
			return errors.New("the epoch is not over")
		}
		return nil
	})
}

func TestASessionIsOneBoots(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lease", "session")
	first, err := Session(file)
	if err != nil || len(first) < 20 {
		t.Fatalf("got %q, %v", first, err)
	}
	if again, err := Session(file); err != nil || again != first {
		t.Errorf("got %q, %v, want %q", again, err, first)
	}
	for _, broken := range []string{"", "half"} {
		if err := os.WriteFile(file, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if next, err := Session(file); err != nil || next == first || next == broken {
			t.Errorf("after %q: got %q, %v", broken, next, err)
		}
	}
}

func TestASliceThatIsNoCgroupIsRefused(t *testing.T) {
	if err := Slice(filepath.Join(t.TempDir(), "exclusive")).Prepare(); err == nil || !strings.Contains(err.Error(), "cgroup v2") {
		t.Errorf("got %v", err)
	}
}
