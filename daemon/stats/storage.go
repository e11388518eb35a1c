package stats

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// scanned is how old a count of files may be to be given out again: the
// kubelet's volumeStatsAggPeriod.
const scanned = time.Minute

// Disk is what a directory tree takes on disk.
type Disk struct {
	Time          time.Time
	Bytes, Inodes Amount
}

// Storage is what pods keep on this host's disks.
type Storage struct {
	Time time.Time // when the count began; zero: there is none yet
	Pods map[string]PodStorage
}

// PodStorage is what one pod keeps.
type PodStorage struct {
	Containers map[string]ContainerStorage
	Volumes    map[string]Disk // those that go with the pod; those in memory too
	// Total is what counts against the pod's ephemeral-storage limit: writable
	// layers, logs, and volumes that are not in memory.
	Total Disk
}

// ContainerStorage is what one container keeps.
type ContainerStorage struct {
	Layer Disk // what it wrote over its image
	Logs  Disk // also of its earlier runs
}

// storage is the last count, and one that may be under way.
type storage struct {
	mu   sync.Mutex
	last Storage
	busy chan struct{} // closed when the count under way is over; nil: there is none
}

// Storage counts files, or gives out what was counted within the last minute.
// Counting goes on in the background when ctx ends; then the result is what is
// known so far, which may be old or nothing: see Storage.Time.
func (m *Meter) Storage(ctx context.Context) Storage {
	s := &m.storage
	s.mu.Lock()
	if !s.last.Time.IsZero() && m.cfg.Now().Sub(s.last.Time) < scanned {
		defer s.mu.Unlock()
		return s.last
	}
	if s.busy == nil {
		s.busy = make(chan struct{})
		go m.count(s.busy)
	}
	busy := s.busy
	s.mu.Unlock()
	select {
	case <-busy:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// longest bounds a count: a container may make files faster than they are counted.
const longest = 10 * time.Minute

func (m *Meter) count(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	counted := Storage{Time: m.cfg.Now(), Pods: make(map[string]PodStorage)}
	for _, p := range m.cfg.Pods() {
		counted.Pods[p.UID] = m.countPod(ctx, p)
	}
	s := &m.storage
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.busy = counted, nil
	close(done)
}

func (m *Meter) countPod(ctx context.Context, p Pod) PodStorage {
	s := PodStorage{Containers: make(map[string]ContainerStorage), Volumes: make(map[string]Disk)}
	s.Total = Disk{Time: m.cfg.Now(), Bytes: Known(0), Inodes: Known(0)}
	add := func(d Disk) {
		s.Total.Bytes, s.Total.Inodes = s.Total.Bytes.Plus(d.Bytes), s.Total.Inodes.Plus(d.Inodes)
	}
	for _, c := range p.Containers {
		one := ContainerStorage{Layer: m.disk(ctx, c.Layer)}
		s.Containers[c.Name] = one
		add(one.Layer)
	}
	// Logs of containers that ended count as well.
	for _, name := range directories(p.Logs) {
		logs := m.disk(ctx, filepath.Join(p.Logs, name))
		if one, runs := s.Containers[name]; runs {
			one.Logs = logs
			s.Containers[name] = one
		}
		add(logs)
	}
	for _, v := range p.Volumes {
		s.Volumes[v.Name] = m.disk(ctx, v.Dir)
		if !v.Memory {
			add(s.Volumes[v.Name])
		}
	}
	return s
}

// disk counts a tree. One that is not there takes nothing; one that could not
// be counted to the end is unknown, unless it is known to be at least as large
// as what was counted of it, which is what limits ask.
func (m *Meter) disk(ctx context.Context, dir string) Disk {
	d := Disk{Time: m.cfg.Now()}
	if dir == "" {
		return d
	}
	bytes, inodes, err := m.cfg.DiskUsage(ctx, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.Bytes, d.Inodes = Known(0), Known(0)
	case err == nil || bytes > 0:
		d.Bytes, d.Inodes = Known(uint64(bytes)), Known(uint64(inodes))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.cfg.Log.Warn("can't count all files of a pod", "dir", dir, "err", err)
	}
	return d
}

func directories(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // the pod has not logged anything
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}
