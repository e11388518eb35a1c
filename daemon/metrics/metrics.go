// Package metrics tells Prometheus what pods and this host use, under the names
// of the kubelet and of cadvisor, and how shoald itself is.
//
// Nothing is measured between scrapes. docs/metrics.md lists every name; a test
// holds it to the code.
package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/stats"
)

// Sources is where the numbers come from. All are called at each scrape.
type Sources struct {
	Version string
	// Sample measures node and pods.
	Sample func() (*stats.Sample, error)
	// Storage is what is known of pods' files; it must not wait for a count.
	Storage func() stats.Storage
	// Pods are those of this node, for their phases and limits.
	Pods func() []*v1.Pod
	// Files counts the files with manifests by state, and what is wrong in them.
	Files func(context.Context) (states map[string]int, problems int, err error)
	// Events, Queries and Requests count since the daemon was started.
	Events   func() map[Event]uint64
	Queries  func() map[Query]uint64
	Requests func() map[Request]uint64
	Log      *slog.Logger
}

// Event is a kind of event: "Warning", "BackOff".
type Event struct{ Type, Reason string }

// Query is a kind of answer of the DNS: from "zone", "forward" or "refused",
// with a response code as "NOERROR".
type Query struct{ Source, Code string }

// Request is a kind of request to the API.
type Request struct {
	Method string
	Code   int
}

// Paths are what a Page is served at; the kubelet's.
const (
	Path         = "/metrics"          // all of it
	ResourcePath = "/metrics/resource" // what metrics-server reads
	CadvisorPath = "/metrics/cadvisor" // what dashboards read
)

// Metrics serves. Make one with New.
type Metrics struct {
	took  *prometheus.HistogramVec
	pages map[string]http.Handler
}

// scrapes is how many may be under way: one page of a hundred pods takes some
// megabytes while it is made.
const scrapes = 2

// New makes Metrics.
func New(s Sources) *Metrics {
	m := &Metrics{took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "shoal_operation_duration_seconds", Help: "How long an operation on a pod took, also one that failed.",
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	}, []string{"operation"})}
	m.pages = map[string]http.Handler{
		Path: page(s.Log, m.took, own{s}, cadvisor{s}, resource{s, false},
			collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
		ResourcePath: page(s.Log, resource{s, true}),
		CadvisorPath: page(s.Log, cadvisor{s}),
	}
	return m
}

func page(log *slog.Logger, list ...prometheus.Collector) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(list...)
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		ErrorLog: complaint{log}, ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapes, DisableCompression: true, // it does not leave the host
	})
}

// complaint is what the library says of a scrape that failed in part.
type complaint struct{ log *slog.Logger }

func (c complaint) Println(v ...any) {
	c.log.Warn("a scrape of the metrics failed", "err", v[len(v)-1])
}

// ServeHTTP answers below Path.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, ok := m.pages[r.URL.Path]
	switch {
	case !ok:
		http.NotFound(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
	default:
		p.ServeHTTP(w, r)
	}
}

// Took notes how long an operation took.
func (m *Metrics) Took(operation string, d time.Duration) {
	m.took.WithLabelValues(operation).Observe(d.Seconds())
}

// family is a metric that is made up at each scrape.
type family struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func counter(name, help string, labels ...string) family {
	return family{prometheus.NewDesc(name, help, labels, nil), prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) family {
	return family{prometheus.NewDesc(name, help, labels, nil), prometheus.GaugeValue}
}

// out is one scrape.
type out chan<- prometheus.Metric

func (ch out) put(f family, value float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...)
}

// amount leaves out what is unknown. The metric's unit is so many times ours.
func (ch out) amount(f family, a stats.Amount, per float64, labels ...string) {
	if n, known := a.Get(); known {
		ch.put(f, float64(n)/per, labels...)
	}
}

const (
	plain       = 1
	nanoseconds = 1e9
)

func (ch out) time(f family, t time.Time, labels ...string) {
	if !t.IsZero() {
		ch.put(f, float64(t.UnixNano())/1e9, labels...)
	}
}
