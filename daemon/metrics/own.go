package metrics

import (
	"context"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
)

var (
	build    = gauge("shoal_build_info", "1, labelled with the version of shoald and of Go.", "version", "goversion")
	pods     = gauge("shoal_pods", "Pods of this node by phase.", "phase")
	files    = gauge("shoal_manifest_files", "Files in the manifest directories by state.", "state")
	problems = gauge("shoal_manifest_problems", "Things that are wrong with manifest files.")
	events   = counter("shoal_events_total", "Events by type and reason, since shoald was started.", "type", "reason")
	queries  = counter("shoal_dns_queries_total", "Answers of the cluster DNS by where they came from, since shoald was started.", "source", "rcode")
	requests = counter("shoal_api_requests_total", "Requests to the API, since shoald was started.", "method", "code")
)

// own collects how shoald itself is.
type own struct{ Sources }

// Describe sends nothing: what there is depends on what happened.
func (own) Describe(chan<- *prometheus.Desc) {}

// patience bounds how long a scrape waits for the daemon's loop.
const patience = 5 * time.Second

func (o own) Collect(metrics chan<- prometheus.Metric) {
	ch := out(metrics)
	ch.put(build, 1, o.Version, runtime.Version())
	phases := map[v1.PodPhase]int{v1.PodPending: 0, v1.PodRunning: 0, v1.PodSucceeded: 0, v1.PodFailed: 0}
	for _, p := range o.Pods() {
		if p.Status.Phase != "" {
			phases[p.Status.Phase]++
		} else {
			phases[v1.PodPending]++
		}
	}
	for phase, n := range phases {
		ch.put(pods, float64(n), string(phase))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if states, wrong, err := o.Files(ctx); err != nil {
		o.Log.Warn("a scrape of the metrics failed", "err", err)
	} else {
		for state, n := range states {
			ch.put(files, float64(n), state)
		}
		ch.put(problems, float64(wrong))
	}
	for e, n := range o.Events() {
		ch.put(events, float64(n), e.Type, e.Reason)
	}
	for q, n := range o.Queries() {
		ch.put(queries, float64(n), q.Source, q.Code)
	}
	for r, n := range o.Requests() {
		ch.put(requests, float64(n), r.Method, strconv.Itoa(r.Code))
	}
}
