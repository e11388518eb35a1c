package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
)

// The kubelet's /metrics/resource (pkg/kubelet/metrics/collectors/resource_metrics.go).
var (
	nodeCPU    = counter("node_cpu_usage_seconds_total", "Cumulative cpu time consumed by the node in core-seconds")
	nodeMemory = gauge("node_memory_working_set_bytes", "Current working set of the node in bytes")
	nodeSwap   = gauge("node_swap_usage_bytes", "Current swap usage of the node in bytes. Reported only on non-windows systems")

	podCPU    = counter("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", "namespace", "pod")
	podMemory = gauge("pod_memory_working_set_bytes", "Current working set of the pod in bytes", "namespace", "pod")
	podSwap   = gauge("pod_swap_usage_bytes", "Current amount of the pod swap usage in bytes. Reported only on non-windows systems", "namespace", "pod")

	resourceCPU    = counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", "container", "namespace", "pod")
	resourceMemory = gauge("container_memory_working_set_bytes", "Current working set of the container in bytes", "container", "namespace", "pod")
	resourceSwap   = gauge("container_swap_usage_bytes", "Current amount of the container swap usage in bytes. Reported only on non-windows systems", "container", "namespace", "pod")
	resourceStart  = gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds", "container", "namespace", "pod")

	scrapeError = gauge("resource_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise")
)

// resource collects what metrics-server wants.
type resource struct {
	Sources
	// containers says to have those as well; on the page with all of it they
	// are cadvisor's, by the same names.
	containers bool
}

// Describe sends nothing: what there is depends on the host.
func (resource) Describe(chan<- *prometheus.Desc) {}

func (r resource) Collect(metrics chan<- prometheus.Metric) {
	ch := out(metrics)
	s, err := r.Sample()
	if err != nil {
		r.Log.Warn("a scrape of the metrics failed", "err", err)
		ch.put(scrapeError, 1)
		return
	}
	ch.put(scrapeError, 0)
	ch.amount(nodeCPU, s.Node.CPU.Total, nanoseconds)
	ch.amount(nodeMemory, s.Node.Memory.WorkingSet, plain)
	ch.amount(nodeSwap, s.Node.Memory.Swap, plain)
	for _, p := range s.Pods {
		ch.amount(podCPU, p.CPU.Total, nanoseconds, p.Namespace, p.Name)
		ch.amount(podMemory, p.Memory.WorkingSet, plain, p.Namespace, p.Name)
		ch.amount(podSwap, p.Memory.Swap, plain, p.Namespace, p.Name)
		for _, c := range p.Containers {
			ch.amount(resourceSwap, c.Memory.Swap, plain, c.Name, p.Namespace, p.Name)
			if !r.containers {
				continue
			}
			ch.amount(resourceCPU, c.CPU.Total, nanoseconds, c.Name, p.Namespace, p.Name)
			ch.amount(resourceMemory, c.Memory.WorkingSet, plain, c.Name, p.Namespace, p.Name)
			ch.time(resourceStart, c.Started, c.Name, p.Namespace, p.Name)
		}
	}
}
