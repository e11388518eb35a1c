package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Updates are the times from the rename of a config map's file to its new bytes in a pod's volume.
type Updates struct {
	Times []time.Duration
	Pods  int // that mount it, one of which is looked into
}

// updatesPods mount the config map; one that is used by many is the harder case.
const updatesPods = 10

func configMap(value string) []byte {
	return fmt.Appendf(nil, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bench}\ndata: {key: %q}\n", value)
}

func mounting(pod string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Pod
metadata: {name: %[1]s}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: %[2]s
    command: [/served, "8080", %[1]s]
    volumeMounts: [{name: v, mountPath: /out}]
  volumes: [{name: v, configMap: {name: bench}}]
`, pod, shoalImage)
}

// updates edits a config map again and again.
func (m *measurement) updates(ctx context.Context) (got Updates, err error) {
	file := filepath.Join(manifestDir, "bench-config.yaml")
	defer os.Remove(file)
	if err := edit(file, "0"); err != nil {
		return got, err
	}
	pods, err := m.run(ctx, updatesPods, func(pod string, _ int) []byte { return mounting(pod) })
	defer func() { err = errors.Join(err, stopAll(ctx, entry{contender: m.shoal}, pods)) }()
	if err != nil {
		return got, err
	}
	pid, err := processOf("/served", pods[len(pods)-1])
	if err != nil {
		return got, err
	}
	// Through the container's own root, so it is what the container sees.
	dir := fmt.Sprintf("/proc/%d/root/out", pid)
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return got, err
	}
	defer w.Close()
	if err := w.Add(dir); err != nil {
		return got, err
	}
	got.Pods = updatesPods
	for i := range m.Rounds + 1 {
		value := strconv.Itoa(i + 1)
		begin := monotonic()
		if err := edit(file, value); err != nil {
			return got, err
		}
		if err := seen(ctx, w, filepath.Join(dir, "key"), value); err != nil {
			return got, err
		}
		if took := monotonic() - begin; i > 0 { // the first round only warms up
			got.Times = append(got.Times, took)
		}
		// An editor's next save comes later than the others' volumes.
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return got, err
		}
	}
	return got, nil
}

// edit replaces the config map's file at once.
func edit(file, value string) error {
	fresh := filepath.Join("/etc/shoal", filepath.Base(file))
	if err := os.WriteFile(fresh, configMap(value), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, file)
}

// seen returns when a file of a volume says want.
func seen(ctx context.Context, w *fsnotify.Watcher, file, want string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if text, err := os.ReadFile(file); err == nil && string(text) == want {
			return nil
		}
		select {
		case <-w.Events:
		case err := <-w.Errors:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%s does not say %q: %w", file, want, context.Cause(ctx))
		}
	}
}

// processOf finds the process of a program that has a certain last argument.
func processOf(program, last string) (int, error) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		text, _ := os.ReadFile(path) // one that ended is not it
		args := strings.Split(string(bytes.TrimRight(text, "\x00")), "\x00")
		if args[0] == program && args[len(args)-1] == last {
			return strconv.Atoi(filepath.Base(filepath.Dir(path)))
		}
	}
	return 0, fmt.Errorf("no process %s ... %s", program, last)
}
