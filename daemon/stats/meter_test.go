package stats

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

// host is a made-up /proc and cgroup tree.
type host struct {
	t    *testing.T
	dir  string
	now  time.Time
	pods []Pod
}

// newHost lays out the files of testdata/NAME.txtar.
func newHost(t *testing.T, name string) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir(), now: time.Unix(1_800_000_000, 0)}
	a, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		h.write(f.Name, string(f.Data))
	}
	return h
}

func (h *host) write(name, text string) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) config() Config {
	return Config{
		Pods: func() []Pod { return h.pods }, Proc: filepath.Join(h.dir, "proc"), Sys: filepath.Join(h.dir, "sys"),
		RootDir: h.dir, ImageDir: h.dir, Now: func() time.Time { return h.now }, Log: slog.New(slog.DiscardHandler),
	}
}

func (h *host) cgroup(path string) string { return filepath.Join(h.dir, "cgroup", path) }

func TestACgroupV2TellsAll(t *testing.T) {
	h := newHost(t, "v2")
	h.pods = []Pod{{UID: "u", Name: "web", Namespace: "default", Started: h.now.Add(-time.Hour), Cgroup: h.cgroup("web.scope"),
		Containers: []Container{{Name: "app", ID: "app-0-u", Started: h.now.Add(-time.Hour), Cgroup: h.cgroup("web.scope/app")}}}}
	blocks := filepath.Join(h.dir, "sys/dev/block")
	if err := errors.Join(os.MkdirAll(blocks, 0o755), os.Symlink("../../devices/virtio1/block/vda", filepath.Join(blocks, "254:0"))); err != nil {
		t.Fatal(err)
	}
	s, err := NewMeter(h.config()).Sample()
	if err != nil {
		t.Fatal(err)
	}
	got := s.Pods[0].Containers[0].Usage
	want := Usage{
		CPU: CPU{
			Total: Known(4_000_000_000), User: Known(3_000_000_000), System: Known(1_000_000_000),
			Periods: Known(100), Throttled: Known(40), ThrottledTime: Known(2_500_000_000),
			Pressure: Pressure{Known: true, Some: Stall{1.5, 0.25, 0, 700 * time.Microsecond}, Full: Stall{0, 0, 0, 300 * time.Microsecond}},
		},
		Memory: Memory{
			Usage: Known(10_000_000), WorkingSet: Known(8_000_000), RSS: Known(6_000_000), Cache: Known(3_000_000), Mapped: Known(500_000),
			Kernel: Known(900_000), Swap: Known(4096), PageFaults: Known(5000), MajorPageFaults: Known(7), OOMKills: Known(2),
		},
		IO: IO{
			ReadBytes: Known(1500), WrittenBytes: Known(4000), Reads: Known(6), Writes: Known(8),
			Devices: []DeviceIO{{"/dev/vda", 1000, 4000, 5, 8}, {"8:16", 500, 0, 1, 0}},
		},
		Processes: Known(3),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestWhatIsNotThereIsUnknownAndNotZero(t *testing.T) {
	h := newHost(t, "v2")
	h.pods = []Pod{{UID: "u", Cgroup: h.cgroup("gone.scope"), Containers: []Container{{Name: "app", Cgroup: h.cgroup("gone.scope/app")}}}}
	s, err := NewMeter(h.config()).Sample()
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []Usage{s.Pods[0].Usage, s.Pods[0].Containers[0].Usage} {
		if !reflect.DeepEqual(u, Usage{}) {
			t.Errorf("a cgroup that is gone uses %+v, want nothing known", u)
		}
	}
	sum := Summarize("n1", s, Storage{})
	if p := sum.Pods[0]; p.CPU != nil || p.Memory != nil || p.EphemeralStorage != nil || p.Containers[0].CPU != nil {
		t.Errorf("the summary has numbers for it: %+v", p)
	}
}

func TestTheNodeCountsAsTheKubeletDoes(t *testing.T) {
	h := newHost(t, "v2")
	n, err := NewMeter(h.config()).Node()
	if err != nil {
		t.Fatal(err)
	}
	const kib = 1024
	for what, pair := range map[string][2]Amount{
		"cpu total":   {n.CPU.Total, Known((100 + 20 + 30 + 4 + 5) * tick)},
		"capacity":    {n.Capacity, Known(8000 * kib)},
		"usage":       {n.Memory.Usage, Known(6000 * kib)},
		"working set": {n.Memory.WorkingSet, Known(5000 * kib)},
		"available":   {n.Available, Known(3000 * kib)},
		"swap":        {n.Memory.Swap, Known(100 * kib)},
		"processes":   {n.Processes, Known(345)},
		"most":        {n.MaxProcesses, Known(30000)},
		"faults":      {n.Memory.PageFaults, Known(77)},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %v, want %v", what, pair[0], pair[1])
		}
	}
	if n.Main != "ens3" || len(n.Interfaces) != 2 || n.Interfaces[0] != (Interface{"ens3", 1000, 10, 1, 2, 2000, 20, 3, 4}) {
		t.Errorf("interfaces %+v, main %q", n.Interfaces, n.Main)
	}
	if !n.Boot.Equal(time.Unix(1_700_000_000, 0)) {
		t.Errorf("booted %v", n.Boot)
	}
	if _, known := n.Root.Available.Get(); !known {
		t.Error("the file system is unknown")
	}
}

func TestRatesAreOfTheLastSecondsAndNotOfEver(t *testing.T) {
	h := newHost(t, "v2")
	started := h.now.Add(-time.Hour)
	h.pods = []Pod{{UID: "u", Cgroup: h.cgroup("web.scope"), Started: started,
		Containers: []Container{{Name: "app", ID: "1", Started: started, Cgroup: h.cgroup("web.scope/app")}}}}
	m := NewMeter(h.config())
	usage := uint64(4_000_000_000)
	var s *Sample
	sample := func(later time.Duration, used time.Duration) (Amount, time.Duration) {
		t.Helper()
		h.now = h.now.Add(later)
		usage += uint64(used)
		h.write("cgroup/web.scope/app/cpu.stat", "usage_usec "+strconv.FormatUint(usage/1000, 10)+"\n")
		var err error
		if s, err = m.Sample(); err != nil {
			t.Fatal(err)
		}
		return s.Pods[0].Containers[0].CPU.Rate, s.Pods[0].Containers[0].CPU.Window
	}
	check := func(what string, rate Amount, window time.Duration, wantRate Amount, wantWindow time.Duration) {
		t.Helper()
		if rate != wantRate || window != wantWindow {
			t.Errorf("%s: got %v of %v, want %v of %v", what, rate, window, wantRate, wantWindow)
		}
	}
	rate, window := sample(0, 0)
	check("the first", rate, window, Amount{}, 0)
	rate, window = sample(4*time.Second, time.Second)
	check("after 4 s", rate, window, Known(250_000_000), 4*time.Second)
	rate, window = sample(500*time.Millisecond, time.Second)
	check("too soon", rate, window, Known(250_000_000), 4*time.Second)
	rate, window = sample(6*time.Second, 4250*time.Millisecond)
	check("after 10.5 s", rate, window, Known(595238095), 10500*time.Millisecond)
	rate, window = sample(2*time.Second, 0)
	check("the base moves on", rate, window, Known(0), 2*time.Second)
	rate, window = sample(time.Hour, time.Minute)
	check("an hour later", rate, window, Amount{}, 0)
	usage = 0
	rate, window = sample(3*time.Second, time.Second)
	check("a counter that went back", rate, window, Amount{}, 0)
	h.pods[0].Containers[0] = Container{Name: "app", ID: "2", Started: h.now, Cgroup: h.cgroup("web.scope/app")}
	usage = 0
	rate, window = sample(2*time.Second, time.Second)
	check("a new container, since its start", rate, window, Known(500_000_000), 2*time.Second)
}

func TestDisksAreCountedOncePerMinuteAndNobodyWaitsForEver(t *testing.T) {
	h := newHost(t, "v2")
	h.pods = []Pod{{UID: "u", Logs: filepath.Join(h.dir, "logs"), Containers: []Container{{Name: "app", Layer: "/layer"}},
		Volumes: []Volume{{Name: "data", Dir: "/data"}, {Name: "shm", Dir: "/shm", Memory: true}}}}
	h.write("logs/app/0.log", "x")
	h.write("logs/init/0.log", "x")
	sizes := map[string]int64{"/layer": 1, "/data": 10, "/shm": 100, filepath.Join(h.dir, "logs/app"): 1000, filepath.Join(h.dir, "logs/init"): 10000}
	counts, hold := 0, make(chan struct{})
	cfg := h.config()
	cfg.DiskUsage = func(_ context.Context, dir string) (int64, int64, error) {
		<-hold
		counts++
		return sizes[dir], 1, nil
	}
	m := NewMeter(cfg)
	impatient, cancel := context.WithCancel(context.Background())
	cancel()
	if s := m.Storage(impatient); !s.Time.IsZero() {
		t.Errorf("it has counted already: %+v", s)
	}
	close(hold)
	for range 3 {
		s := m.Storage(context.Background())
		got := s.Pods["u"]
		if got.Total.Bytes != Known(11011) || got.Total.Inodes != Known(4) || got.Volumes["shm"].Bytes != Known(100) ||
			got.Containers["app"].Layer.Bytes != Known(1) || got.Containers["app"].Logs.Bytes != Known(1000) {
			t.Errorf("got %+v", got)
		}
	}
	if counts != 5 {
		t.Errorf("counted %d trees, want 5", counts)
	}
	h.now = h.now.Add(scanned)
	m.Storage(context.Background())
	if counts != 10 {
		t.Errorf("a minute later %d trees were counted in all, want 10", counts)
	}
}
