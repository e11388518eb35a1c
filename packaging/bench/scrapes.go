package main

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Scrape is what one question about use costs the daemon, medians.
type Scrape struct {
	Name  string
	Times []time.Duration // until the answer is there
	CPU   []time.Duration // of the daemon
	Bytes int
}

// scrapeRounds are few: what one costs hardly varies, and each waits.
const scrapeRounds = 15

// old is when the daemon measures anew; see fresh of daemon/stats.
const old = 1100 * time.Millisecond

// scrapes asks a daemon with many pods for their use.
func (m *measurement) scrapes(ctx context.Context) (all []Scrape, err error) {
	idle := ordeal{probes: []string{""}}
	pods, err := m.run(ctx, m.Probed, func(pod string, _ int) []byte { return idle.manifest(pod, false) })
	defer func() { err = errors.Join(err, stopAll(ctx, entry{contender: m.shoal}, pods)) }()
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, settle); err != nil {
		return nil, err
	}
	pid, err := daemonPID(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range []struct{ name, path string }{
		{"/metrics", "/metrics"},
		{"/metrics/resource", "/metrics/resource"},
		{"top pods (metrics.k8s.io)", "/apis/metrics.k8s.io/v1beta1/pods"},
		{"/stats/summary", "/api/v1/nodes/n1/proxy/stats/summary"},
	} {
		got := Scrape{Name: s.name}
		for i := range scrapeRounds + 1 {
			begin, cpu := monotonic(), cpuTime(pid)
			body, err := m.shoal.get(ctx, s.path, "")
			if err != nil {
				return all, err
			}
			if i > 0 { // the first round only warms up
				got.Times, got.CPU = append(got.Times, monotonic()-begin), append(got.CPU, cpuTime(pid)-cpu)
			}
			got.Bytes = len(body)
			if err := pause(ctx, old); err != nil {
				return all, err
			}
		}
		all = append(all, got)
	}
	return all, nil
}

func (s Scrape) cpu() time.Duration  { return Series{Times: slices.Clone(s.CPU)}.Quantile(0.5) }
func (s Scrape) took() time.Duration { return Series{Times: slices.Clone(s.Times)}.Quantile(0.5) }
