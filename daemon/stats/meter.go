package stats

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"time"
)

// Config says where to look.
type Config struct {
	// Pods are those to measure, as they are now.
	Pods func() []Pod
	// Proc is where procfs is, Sys sysfs; default /proc and /sys.
	Proc, Sys string
	// CgroupV1 is where cgroup v1's hierarchies are mounted, by controller;
	// empty where pods' limits are in cgroup v2.
	CgroupV1 map[string]string
	// PodsCgroup is the directory of the cgroup v2 that all pods are below;
	// empty on a host without. PodsCgroupPath is the same from the hierarchy's root.
	PodsCgroup, PodsCgroupPath string
	// RootDir is a directory on the file system of pods' data, ImageDir that of
	// the image store.
	RootDir, ImageDir string
	// DiskUsage counts bytes and inodes of a directory tree.
	DiskUsage func(ctx context.Context, dir string) (bytes, inodes int64, err error)
	Now       func() time.Time
	Log       *slog.Logger
}

const (
	// fresh is how old a sample may be to be given out again: more often than
	// that nobody learns anything.
	fresh = time.Second
	// apart is how far the sample that rates are made from should lie back:
	// the kubelet's housekeeping interval.
	apart = 10 * time.Second
	// stale is how old it may be: rates should tell of now.
	stale = 2 * time.Minute
)

// Meter measures. It may be used by several goroutines at once.
type Meter struct {
	cfg Config

	mu   sync.Mutex
	base *Sample // what rates are made from
	last *Sample

	storage storage
}

// NewMeter makes a Meter. It measures nothing yet.
func NewMeter(c Config) *Meter {
	if c.Proc == "" {
		c.Proc = "/proc"
	}
	if c.Sys == "" {
		c.Sys = "/sys"
	}
	return &Meter{cfg: c}
}

// Sample measures node and pods, or gives out what was measured less than a
// second ago. A pod that can't be measured, because it is ending, is unknown in
// it. The result must not be changed.
func (m *Meter) Sample() (*Sample, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last != nil && m.cfg.Now().Sub(m.last.Time) < fresh {
		return m.last, nil
	}
	return m.take()
}

// take measures. The lock is held: two askers share one answer.
func (m *Meter) take() (*Sample, error) {
	node, err := m.Node()
	if err != nil {
		return nil, err
	}
	s := &Sample{Time: node.Time, Node: node}
	look := newLook(m.cfg)
	for _, p := range m.cfg.Pods() {
		s.Pods = append(s.Pods, look.pod(p))
	}
	s.Node.Pods = look.usage(m.cfg.PodsCgroup, m.cfg.PodsCgroupPath)
	if m.last != nil && (m.base == nil || s.Time.Sub(m.base.Time) >= 2*apart || m.last.Time.Sub(m.base.Time) >= apart) {
		m.base = m.last
	}
	if m.base != nil && s.Time.Sub(m.base.Time) > stale {
		m.base = nil
	}
	addRates(s, m.base)
	m.last = s
	return s, nil
}

// Rates is Sample with the rates known. Where nobody has asked for a while it
// takes a second, or until ctx ends.
func (m *Meter) Rates(ctx context.Context) (*Sample, error) {
	s, err := m.Sample()
	if err != nil {
		return nil, err
	}
	if _, known := s.Node.CPU.Rate.Get(); known {
		return s, nil
	}
	wait := time.NewTimer(fresh + 50*time.Millisecond)
	defer wait.Stop()
	select {
	case <-wait.C:
		return m.Sample()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// addRates fills in what each used per second since base.
func addRates(s, base *Sample) {
	before := make(map[string]CPU)
	var since time.Time
	if base != nil {
		since = base.Time
		before[""], before["/"] = base.Node.CPU, base.Node.Pods.CPU
		for _, p := range base.Pods {
			before[p.UID] = p.CPU
			for _, c := range p.Containers {
				before[c.ID] = c.CPU
			}
		}
	}
	rate := func(key string, now *CPU, started time.Time) {
		old, was := before[key]
		from := since
		if !was {
			// Its counter began at 0 when it was started.
			old, from = CPU{Total: Known(0)}, started
		}
		now.Rate, now.Window = perSecond(old.Total, now.Total, s.Time.Sub(from), fresh)
	}
	if base != nil {
		rate("", &s.Node.CPU, time.Time{})
		rate("/", &s.Node.Pods.CPU, time.Time{})
	}
	for i := range s.Pods {
		p := &s.Pods[i]
		if base == nil && s.Time.Sub(p.Started) > stale {
			continue // a mean of its whole life says nothing of now
		}
		rate(p.UID, &p.CPU, p.Started)
		for j := range p.Containers {
			rate(p.Containers[j].ID, &p.Containers[j].CPU, p.Containers[j].Started)
		}
	}
}

// perSecond is unknown for a window shorter than least, too short to tell, and
// for a counter that went back.
func perSecond(from, to Amount, window, least time.Duration) (Amount, time.Duration) {
	if !from.known || !to.known || to.n < from.n || window < least {
		return Amount{}, 0
	}
	return Known(uint64(float64(to.n-from.n) / window.Seconds())), window
}

// gone says whether what was to be measured has ended.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || isNoDevice(err) }
