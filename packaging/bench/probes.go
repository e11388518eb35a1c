package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ordeal is what pods ask of the daemon by their probes.
type ordeal struct {
	name   string
	probes []string // of each of a pod's containers, as YAML in it; half of the pods have even instead, if there is one
	even   []string
	rate   float64 // probes a second, of all pods together
	least  bool    // the same number of connections is made by a program that does nothing else
}

// Probes in flow style; P is the container's port.
const (
	everySecond = "periodSeconds: 1"
	everyTen    = "periodSeconds: 10"
)

func httpProbe(kind, period string) string {
	return kind + "Probe: {httpGet: {path: /, port: P}, " + period + "}"
}
func tcpProbe(kind, period string) string {
	return kind + "Probe: {tcpSocket: {port: P}, " + period + "}"
}
func execProbe(kind, period string) string {
	return kind + "Probe: {exec: {command: [/served]}, " + period + "}"
}

// probeLoads are the issue's, for so many pods. A container has two probes at most, so five take three containers.
func probeLoads(pods int) []ordeal {
	n := float64(pods)
	both := httpProbe("liveness", everySecond) + "\n    " + tcpProbe("readiness", everySecond)
	return []ordeal{
		{name: "no probes", probes: []string{""}},
		{name: "http, each 10 s", probes: []string{httpProbe("liveness", everyTen)}, rate: n / 10},
		{name: "exec, each 10 s", probes: []string{execProbe("liveness", everyTen)}, rate: n / 10},
		{
			name: "http and tcp, five a second", rate: 5 * n, least: true,
			probes: []string{both, both, httpProbe("liveness", everySecond)},
			even:   []string{both, both, tcpProbe("liveness", everySecond)},
		},
	}
}

// Load is what the daemon used for probes.
type Load struct {
	Name     string
	Pods     int
	Rate     float64 // probes a second
	For      time.Duration
	Daemon   time.Duration // its own processor time
	Children time.Duration // that of the commands which it ran and which have ended
	Wakeups  int64
	Memory   Memory
	// Least is what as many connections, made and closed by a loop, cost this program; 0: not measured.
	Least time.Duration
}

// firstPort is where probed containers listen, each in its pod one higher.
const firstPort = 8080

func (l ordeal) manifest(pod string, even bool) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Pod\nmetadata: {name: %s, labels: {bench: probes}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n", pod)
	probes := l.probes
	if even && l.even != nil {
		probes = l.even
	}
	for i, p := range probes {
		port := strconv.Itoa(firstPort + i)
		fmt.Fprintf(&b, "  - name: c%d\n    image: %s\n    command: [/served, %q, %s]\n", i, shoalImage, port, pod)
		if p != "" {
			fmt.Fprintf(&b, "    %s\n", strings.ReplaceAll(p, "port: P", "port: "+port))
		}
	}
	return []byte(b.String())
}

// probes has many pods probed, in one way after the other.
func (m *measurement) probes(ctx context.Context) ([]Load, error) {
	var all []Load
	for _, l := range probeLoads(m.Probed) {
		got, err := m.probe(ctx, l)
		if err != nil {
			return all, fmt.Errorf("probes (%s): %w", l.name, err)
		}
		fmt.Fprintf(os.Stderr, "bench: probes: %s: %.3f %% of a core, load %s\n", l.name, 100*got.Daemon.Seconds()/got.For.Seconds(), load())
		all = append(all, got)
	}
	return all, nil
}

func (m *measurement) probe(ctx context.Context, l ordeal) (got Load, err error) {
	pods, err := m.run(ctx, m.Probed, func(pod string, i int) []byte { return l.manifest(pod, i%2 == 0) })
	defer func() {
		if e := stopAll(ctx, entry{contender: m.shoal}, pods); err == nil {
			err = e
		}
	}()
	if err != nil {
		return got, err
	}
	if err := pause(ctx, settle); err != nil {
		return got, err
	}
	pid, err := daemonPID(ctx)
	if err != nil {
		return got, err
	}
	cpu, children, switches := cpuTime(pid), childrenTime(pid), wakeups(pid)
	if err := pause(ctx, m.Idle); err != nil {
		return got, err
	}
	got = Load{
		Name: l.name, Pods: m.Probed, Rate: l.rate, For: m.Idle,
		Daemon: cpuTime(pid) - cpu, Children: childrenTime(pid) - children, Wakeups: wakeups(pid) - switches,
	}
	if got.Memory, err = memory(pid); err == nil && l.least {
		got.Least, err = m.connects(ctx, l.rate, len(l.probes))
	}
	if err == nil {
		err = m.unharmed(ctx)
	}
	return got, err
}

// run starts pods and waits until all are ready.
func (m *measurement) run(ctx context.Context, n int, text func(pod string, i int) []byte) (pods []string, err error) {
	for i := range n {
		pod := m.name()
		pods = append(pods, pod)
		if err := os.WriteFile(m.shoal.fresh(pod), text(pod, i), 0o644); err != nil {
			return pods, err
		}
		if err := m.shoal.start(ctx, pod); err != nil {
			return pods, err
		}
	}
	return pods, poll(ctx, func() error {
		found, err := m.shoal.pods(ctx)
		ready := 0
		for _, p := range found {
			if p.ready() {
				ready++
			}
		}
		if err == nil && ready != n {
			err = fmt.Errorf("%d of %d pods are ready", ready, n)
		}
		return err
	})
}

// unharmed is an error if a probe has failed so that a container was restarted, or is not ready: then something else was
// measured.
func (m *measurement) unharmed(ctx context.Context) error {
	found, err := m.shoal.pods(ctx)
	for _, p := range found {
		if !p.ready() || p.restarts() > 0 {
			return fmt.Errorf("pod %s is not ready, or was restarted: its probes failed", p.Metadata.Name)
		}
	}
	return err
}

// connects makes as many connections as the probes did, for as long, and says what that cost this program. It is the
// least: one goroutine, nothing sent, nothing scheduled but a tick.
func (m *measurement) connects(ctx context.Context, rate float64, ports int) (time.Duration, error) {
	found, err := m.shoal.pods(ctx)
	if err != nil {
		return 0, err
	}
	var targets []string
	for _, p := range found {
		for i := range ports {
			targets = append(targets, net.JoinHostPort(p.Status.PodIP, strconv.Itoa(firstPort+i)))
		}
	}
	const step = 50 * time.Millisecond // the prober's own
	tick := time.NewTicker(step)
	defer tick.Stop()
	dialer := net.Dialer{FallbackDelay: -1, KeepAlive: -1}
	before, n := cpuTime(os.Getpid()), 0
	for end := time.Now().Add(m.Idle); time.Now().Before(end); {
		for range int(rate * step.Seconds()) {
			conn, err := dialer.DialContext(ctx, "tcp", targets[n%len(targets)])
			if err != nil {
				return 0, err
			}
			conn.Close()
			n++
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	used := cpuTime(os.Getpid()) - before
	return time.Duration(float64(used) * rate * m.Idle.Seconds() / float64(n)), nil
}

// childrenTime is what a process's children used, those that have ended and their own (proc_pid_stat(5), cutime and
// cstime; the kernel counts in steps of 10 ms).
func childrenTime(pid int) time.Duration {
	text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	if len(f) < 15 {
		return 0
	}
	user, _ := strconv.ParseInt(f[13], 10, 64) // the kernel writes numbers
	system, _ := strconv.ParseInt(f[14], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}
