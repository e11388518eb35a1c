package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// reports receives when pods' programs began.
type reports struct {
	dir     string
	watcher *fsnotify.Watcher

	mu    sync.Mutex
	began map[string]chan time.Duration // by pod; each holds one
}

func watchReports(dir string) (*reports, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	if err := w.Add(dir); err != nil {
		return nil, err
	}
	r := &reports{dir: dir, watcher: w, began: make(map[string]chan time.Duration)}
	go r.receive()
	return r, nil
}

func (r *reports) close() { r.watcher.Close() }

func (r *reports) receive() {
	for ev := range r.watcher.Events {
		text, err := os.ReadFile(ev.Name)
		line, whole := strings.CutSuffix(string(text), "\n")
		if err != nil || !whole {
			continue // removed, or not written yet
		}
		ns, err := strconv.ParseInt(line, 10, 64)
		if err != nil {
			continue
		}
		select {
		case r.of(filepath.Base(ev.Name)) <- time.Duration(ns):
		default: // a second event about the same file
		}
	}
}

func (r *reports) of(pod string) chan time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.began[pod] == nil {
		r.began[pod] = make(chan time.Duration, 1)
	}
	return r.began[pod]
}

// await returns when, on the monotonic clock, the pod's program began. Names are used once.
func (r *reports) await(ctx context.Context, pod string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case at := <-r.of(pod):
		return at, os.Remove(filepath.Join(r.dir, pod))
	case <-ctx.Done():
		return 0, fmt.Errorf("pod %s did not start: %w", pod, context.Cause(ctx))
	}
}

// monotonic is the clock that the pods' program reads.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // every kernel has it
	}
	return time.Duration(ts.Nano())
}
