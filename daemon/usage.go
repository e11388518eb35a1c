package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubelet "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	metricsv1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/shoal-project/shoal/daemon/metrics"
	"github.com/shoal-project/shoal/daemon/scope"
	"github.com/shoal-project/shoal/daemon/stats"
	"github.com/shoal-project/shoal/manifests"
	"github.com/shoal-project/shoal/storage/volume"
)

// newMeter makes what measures this host and its pods.
func (d *Daemon) newMeter() *stats.Meter {
	tree := scope.TreeOf(d.host.scopes)
	return stats.NewMeter(stats.Config{
		Pods:       d.agent.Measured,
		PodsCgroup: tree.Dir, PodsCgroupPath: tree.Path, CgroupV1: tree.V1,
		RootDir: d.path("var/lib/shoal"), ImageDir: d.path("var/lib/shoal/oci"),
		DiskUsage: volume.Usage, Now: d.Now, Log: d.Log,
	})
}

// usage is what the API tells of use.
type usage struct{ d *Daemon }

// Nodes is this node alone.
func (u usage) Nodes(ctx context.Context) ([]*metricsv1.NodeMetrics, error) {
	s, err := u.d.host.meter.Rates(ctx)
	if err != nil {
		return nil, err
	}
	list, known := resourceList(s.Node.Usage)
	if !known {
		return nil, nil
	}
	n := &metricsv1.NodeMetrics{Timestamp: metav1.NewTime(s.Time), Window: window(s.Node.CPU), Usage: list}
	n.Name = u.d.Config.Node
	n.CreationTimestamp = n.Timestamp
	if o, ok := u.d.view.Get(u.d.nodeKey()); ok {
		n.Labels = o.GetLabels()
	}
	return []*metricsv1.NodeMetrics{n}, nil
}

// Pods are those whose every running container is known, as metrics-server has it.
func (u usage) Pods(ctx context.Context) ([]*metricsv1.PodMetrics, error) {
	s, err := u.d.host.meter.Rates(ctx)
	if err != nil {
		return nil, err
	}
	var pods []*metricsv1.PodMetrics
	for _, p := range s.Pods {
		m := &metricsv1.PodMetrics{Timestamp: metav1.NewTime(s.Time), Window: window(p.CPU), Containers: []metricsv1.ContainerMetrics{}}
		m.Name, m.Namespace, m.CreationTimestamp = p.Name, p.Namespace, m.Timestamp
		if o, ok := u.d.view.Get(manifests.Key{Kind: "Pod", Namespace: p.Namespace, Name: p.Name}); ok {
			m.Labels = o.GetLabels()
		}
		for _, c := range p.Containers {
			if list, known := resourceList(c.Usage); known {
				m.Containers = append(m.Containers, metricsv1.ContainerMetrics{Name: c.Name, Usage: list})
			}
		}
		if len(p.Containers) > 0 && len(m.Containers) == len(p.Containers) {
			pods = append(pods, m)
		}
	}
	return pods, nil
}

// resourceList is known when both processor and memory are: kubectl would show
// what is left out as 0.
func resourceList(u stats.Usage) (v1.ResourceList, bool) {
	cpu, rated := u.CPU.Rate.Get()
	memory, known := u.Memory.WorkingSet.Get()
	return v1.ResourceList{
		v1.ResourceCPU:    *resource.NewScaledQuantity(int64(cpu), resource.Nano),
		v1.ResourceMemory: *resource.NewQuantity(int64(memory), resource.BinarySI),
	}, rated && known
}

func window(c stats.CPU) metav1.Duration {
	return metav1.Duration{Duration: c.Window.Round(time.Millisecond)}
}

// patience is how long a client waits for files to be counted; what is not
// counted by then is left out of the answer.
const patience = 2 * time.Second

// Summary is the kubelet's.
func (u usage) Summary(ctx context.Context) (*kubelet.Summary, error) {
	s, err := u.d.host.meter.Rates(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return stats.Summarize(u.d.Config.Node, s, u.d.host.meter.Storage(ctx)), nil
}

// metricSources is what Prometheus is told.
func (d *Daemon) metricSources() metrics.Sources {
	h := d.host
	return metrics.Sources{
		Version: d.Version, Log: d.Log, Pods: d.pods, Files: d.countFiles,
		Sample: func() (*stats.Sample, error) { return h.meter.Sample() },
		Storage: func() stats.Storage {
			now, cancel := context.WithCancel(context.Background())
			cancel()
			return h.meter.Storage(now)
		},
		Events: func() map[metrics.Event]uint64 {
			counts := make(map[metrics.Event]uint64)
			for k, n := range d.events.Counts() {
				counts[metrics.Event(k)] = n
			}
			return counts
		},
		Queries: func() map[metrics.Query]uint64 {
			counts := make(map[metrics.Query]uint64)
			for k, n := range h.dns.Load().Queries() {
				counts[metrics.Query(k)] = n
			}
			return counts
		},
		Requests: func() map[metrics.Request]uint64 {
			counts := make(map[metrics.Request]uint64)
			if s := h.requests.Load(); s != nil {
				for k, n := range s.Requests() {
					counts[metrics.Request(k)] = n
				}
			}
			return counts
		},
	}
}

// countFiles counts manifest files by state, and what is wrong in them.
func (d *Daemon) countFiles(ctx context.Context) (states map[string]int, problems int, err error) {
	states = make(map[string]int)
	err = d.do(ctx, func() {
		for _, f := range d.set.Files {
			states[string(fileState(f))]++
		}
		problems = len(d.set.AllProblems())
	})
	return states, problems, err
}

// serveMetrics answers Prometheus over TCP, where the configuration says so,
// until ctx ends. Nobody has to say who they are: it is on loopback. A port
// that another program has costs the metrics and nothing else.
func (d *Daemon) serveMetrics(ctx context.Context) {
	at := d.Config.Metrics.Listen
	if at == "" {
		return
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", at)
	if err != nil {
		d.events.Warning(d.nodeReference(), "MetricsNotServed", "metrics.listen = %q: %v", at, err)
		return
	}
	srv := &http.Server{
		Handler: d.host.metrics, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(d.Log.Handler(), slog.LevelDebug),
	}
	context.AfterFunc(ctx, func() { srv.Close() })
	go func() {
		if err := srv.Serve(l); ctx.Err() == nil {
			d.Log.Error("metrics are not served any more", "err", err)
		}
	}()
}
