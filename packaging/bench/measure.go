package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// measure runs in the host and prints the report.
func measure(ctx context.Context, p plan) error {
	r, err := watchReports(work + "/out")
	if err != nil {
		return err
	}
	defer r.close()
	n, err := newNetwork()
	if err != nil {
		return err
	}
	s := newShoal()
	m := measurement{plan: p, reports: r, shoal: s}
	result := Result{Pods: p.Pods, Machine: machine(), LoadBefore: load()}
	// The daemon's rest is measured first, before anything has been asked of it.
	if p.has(partRest) {
		if result.Idle[0], err = m.idle(ctx, 0); err != nil {
			return err
		}
	}
	if p.has(partStarts, partBursts, partRest) {
		if err := m.pods(ctx, n, &result); err != nil {
			return err
		}
	}
	if p.has(partProbes) {
		if result.Loads, err = m.probes(ctx); err != nil {
			return err
		}
	}
	if p.has(partUpdates) {
		if result.Updates, err = m.updates(ctx); err != nil {
			return fmt.Errorf("updates: %w", err)
		}
	}
	if p.has(partScrapes) {
		if result.Scrapes, err = m.scrapes(ctx); err != nil {
			return fmt.Errorf("scrapes: %w", err)
		}
	}
	result.LoadAfter = load()
	fmt.Print(result.String())
	return nil
}

// pods measures all contenders, and then Shoal and podman at rest.
func (m *measurement) pods(ctx context.Context, n *network, result *Result) (err error) {
	if m.entries, err = contenders(ctx, m.plan, m.shoal, m.reports, n); err != nil {
		return err
	}
	if m.has(partStarts) {
		if result.Starts, err = m.starts(ctx); err != nil {
			return err
		}
	}
	if m.has(partBursts) {
		if result.Bursts, err = m.bursts(ctx); err != nil {
			return err
		}
	}
	if m.has(partRest) {
		return m.rest(ctx, result)
	}
	return nil
}

type measurement struct {
	plan
	reports *reports
	shoal   *shoal
	entries []entry
	serial  int
}

// Names of contenders in the tables.
const (
	nameBare     = "crun run, alone"
	nameBaseline = "crun run, same bundle"
	nameCounted  = "the same, making netns, overlay and cgroup counted"
	nameSystemd  = "systemd-run --scope, no container"
	nameFloor    = "pause, scope, conmon and crun, all else made before: the least of this design"
	namePodman   = "podman kube play"
	nameShoal    = "Shoal"
)

func contenders(ctx context.Context, p plan, s *shoal, r *reports, n *network) ([]entry, error) {
	template, err := newCrun(ctx, s, r, n)
	if err != nil {
		return nil, err
	}
	as := func(set func(*crun)) *crun {
		c := &crun{bundle: template.bundle, etc: template.etc, net: n}
		set(c)
		return c
	}
	least, err := newFloor(ctx, as(func(*crun) {}))
	if err != nil {
		return nil, err
	}
	side := parallel()
	entries := []entry{
		{nameBare, as(func(c *crun) { c.bare = true }), side},
		{nameBaseline, as(func(*crun) {}), side},
		{nameCounted, as(func(c *crun) { c.counted = true }), side},
		{nameSystemd, &systemdRun{}, side},
		{nameFloor, least, side},
		{nameShoal, s, 0},
	}
	if p.Podman {
		pm, err := newPodman(ctx)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{namePodman, pm, side})
	}
	return entries, nil
}

// name is a new pod's.
func (m *measurement) name() string {
	m.serial++
	return fmt.Sprintf("b%d", m.serial)
}

// starts has everyone start one pod after the other. The first round only warms up.
func (m *measurement) starts(ctx context.Context) ([]Series, error) {
	series := make([]Series, len(m.entries))
	for i, e := range m.entries {
		series[i].Name = e.name
	}
	for round := range m.Rounds + 1 {
		for i := range m.entries {
			i = (i + round) % len(m.entries)
			took, err := m.one(ctx, m.entries[i])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.entries[i].name, err)
			}
			if round > 0 {
				series[i].Times = append(series[i].Times, took)
			}
		}
		if round%20 == 0 {
			fmt.Fprintf(os.Stderr, "bench: round %d of %d, load %s\n", round, m.Rounds, load())
		}
	}
	return series, nil
}

func (m *measurement) one(ctx context.Context, e entry) (time.Duration, error) {
	pod := m.name()
	if err := e.prepare(ctx, pod); err != nil {
		return 0, err
	}
	begin := monotonic()
	err := e.start(ctx, pod)
	var at time.Duration
	if err == nil {
		at, err = m.reports.await(ctx, pod)
	}
	return at - begin, errors.Join(err, e.stop(context.WithoutCancel(ctx), pod))
}

// bursts has everyone start many pods at once, and times each burst as a whole.
func (m *measurement) bursts(ctx context.Context) ([]Series, error) {
	series := make([]Series, len(m.entries))
	for i, e := range m.entries {
		series[i].Name = e.name
	}
	for round := range m.Bursts {
		for i := range m.entries {
			i = (i + round) % len(m.entries)
			pods, took, err := m.burst(ctx, m.entries[i])
			err = errors.Join(err, stopAll(ctx, m.entries[i], pods))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.entries[i].name, err)
			}
			series[i].Times = append(series[i].Times, took)
			fmt.Fprintf(os.Stderr, "bench: burst of %s: %v, load %s\n", m.entries[i].name, took, load())
		}
	}
	return series, nil
}

// burst leaves the pods running.
func (m *measurement) burst(ctx context.Context, e entry) (pods []string, took time.Duration, err error) {
	for range m.Pods {
		pods = append(pods, m.name())
	}
	for _, pod := range pods {
		if err := e.prepare(ctx, pod); err != nil {
			return pods, 0, err
		}
	}
	width := e.width
	if width == 0 {
		width = 1
	}
	var mu sync.Mutex
	var errs []error
	var last time.Duration
	await := func(pod string) {
		at, err := m.reports.await(ctx, pod)
		mu.Lock()
		defer mu.Unlock()
		last, errs = max(last, at), append(errs, err)
	}
	begin := monotonic()
	each(pods, width, func(pod string) {
		if err := e.start(ctx, pod); err != nil {
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		} else if e.width > 0 {
			await(pod)
		}
	})
	if e.width == 0 {
		for _, pod := range pods {
			await(pod)
		}
	}
	return pods, last - begin, errors.Join(errs...)
}

func stopAll(ctx context.Context, e entry, pods []string) error {
	ctx = context.WithoutCancel(ctx)
	var mu sync.Mutex
	var errs []error
	each(pods, 4, func(pod string) {
		err := e.stop(ctx, pod)
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	})
	return errors.Join(errs...)
}

// each calls f for every pod, at most width at a time.
func each(pods []string, width int, f func(string)) {
	free := make(chan struct{}, width)
	var all sync.WaitGroup
	for _, pod := range pods {
		free <- struct{}{}
		all.Go(func() { f(pod); <-free })
	}
	all.Wait()
}

// rest measures what pods cost that only run: of Shoal's, and of podman's for comparison.
func (m *measurement) rest(ctx context.Context, result *Result) error {
	i := slices.IndexFunc(m.entries, func(e entry) bool { return e.name == nameShoal })
	pods, _, err := m.burst(ctx, m.entries[i])
	if err == nil {
		result.Idle[1], err = m.idle(ctx, len(pods))
	}
	if err == nil {
		result.Around = append(result.Around, Around{nameShoal, around(len(pods))})
		if err = m.shoal.use(ctx, m.Calls); err == nil {
			result.Calls = m.Calls
			result.Used, err = daemonMemory(ctx)
		}
	}
	if err := errors.Join(err, stopAll(ctx, m.entries[i], pods)); err != nil {
		return fmt.Errorf("%s at rest: %w", nameShoal, err)
	}
	if i = slices.IndexFunc(m.entries, func(e entry) bool { return e.name == namePodman }); i >= 0 {
		pods, _, err := m.burst(ctx, m.entries[i])
		result.Around = append(result.Around, Around{namePodman, around(len(pods))})
		if err := errors.Join(err, stopAll(ctx, m.entries[i], pods)); err != nil {
			return fmt.Errorf("%s at rest: %w", namePodman, err)
		}
	}
	return nil
}

// settle is how long the daemon is left alone before it counts as idle.
const settle = 10 * time.Second

func (m *measurement) idle(ctx context.Context, pods int) (Idle, error) {
	if err := pause(ctx, settle); err != nil {
		return Idle{}, err
	}
	pid, err := daemonPID(ctx)
	if err != nil {
		return Idle{}, err
	}
	cpu, switches := cpuTime(pid), wakeups(pid)
	if err := pause(ctx, m.Idle); err != nil {
		return Idle{}, err
	}
	idle := Idle{Pods: pods, For: m.Idle, CPU: cpuTime(pid) - cpu, Wakeups: wakeups(pid) - switches, Threads: threads(pid)}
	idle.Memory, err = daemonMemory(ctx)
	return idle, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
