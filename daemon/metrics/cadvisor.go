package metrics

import (
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/stats"
)

// ofContainer are the labels that the kubelet gives cadvisor's metrics.
var ofContainer = []string{"container", "id", "image", "name", "namespace", "pod"}

func containerCounter(name, help string, more ...string) family {
	return counter(name, help, append(append([]string{}, ofContainer...), more...)...)
}

func containerGauge(name, help string, more ...string) family {
	return gauge(name, help, append(append([]string{}, ofContainer...), more...)...)
}

// cadvisor's names (github.com/google/cadvisor/metrics/prometheus.go), as far
// as dashboards and alerts use them. container_cpu_usage_seconds_total has
// cadvisor's label cpu="total".
var (
	cpuUsage     = containerCounter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", "cpu")
	cpuUser      = containerCounter("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.")
	cpuSystem    = containerCounter("container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.")
	cfsPeriods   = containerCounter("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.")
	cfsThrottled = containerCounter("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.")
	cfsTime      = containerCounter("container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.")

	memoryUsage      = containerGauge("container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed")
	memoryWorkingSet = containerGauge("container_memory_working_set_bytes", "Current working set in bytes.")
	memoryRSS        = containerGauge("container_memory_rss", "Size of RSS in bytes.")
	memoryCache      = containerGauge("container_memory_cache", "Number of bytes of page cache memory.")
	memoryMapped     = containerGauge("container_memory_mapped_file", "Size of memory mapped files in bytes.")
	memoryKernel     = containerGauge("container_memory_kernel_usage", "Size of kernel memory allocated in bytes.")
	memorySwap       = containerGauge("container_memory_swap", "Container swap usage in bytes.")
	memoryFaults     = containerCounter("container_memory_failures_total", "Cumulative count of memory allocation failures.", "failure_type", "scope")
	oomEvents        = containerCounter("container_oom_events_total", "Count of out of memory events observed for the container")

	fsReads      = containerCounter("container_fs_reads_total", "Cumulative count of reads completed", "device")
	fsReadBytes  = containerCounter("container_fs_reads_bytes_total", "Cumulative count of bytes read", "device")
	fsWrites     = containerCounter("container_fs_writes_total", "Cumulative count of writes completed", "device")
	fsWriteBytes = containerCounter("container_fs_writes_bytes_total", "Cumulative count of bytes written", "device")
	fsUsage      = containerGauge("container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", "device")
	fsLimit      = containerGauge("container_fs_limit_bytes", "Number of bytes that can be consumed by the container on this filesystem.", "device")
	fsInodes     = containerGauge("container_fs_inodes_total", "Number of Inodes", "device")
	fsInodesFree = containerGauge("container_fs_inodes_free", "Number of available Inodes", "device")

	threads   = containerGauge("container_threads", "Number of threads running inside the container")
	startTime = containerGauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds.")
	lastSeen  = containerGauge("container_last_seen", "Last time a container was seen by the exporter")

	specQuota   = containerGauge("container_spec_cpu_quota", "CPU quota of the container.")
	specPeriod  = containerGauge("container_spec_cpu_period", "CPU period of the container.")
	specShares  = containerGauge("container_spec_cpu_shares", "CPU share of the container.")
	specMemory  = containerGauge("container_spec_memory_limit_bytes", "Memory limit for the container.")
	cpuWaiting  = containerCounter("container_pressure_cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion.")
	cpuStalled  = containerCounter("container_pressure_cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion.")
	memWaiting  = containerCounter("container_pressure_memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion.")
	memStalled  = containerCounter("container_pressure_memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion.")
	ioWaiting   = containerCounter("container_pressure_io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion.")
	ioStalled   = containerCounter("container_pressure_io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion.")
	rxBytes     = containerCounter("container_network_receive_bytes_total", "Cumulative count of bytes received", "interface")
	rxPackets   = containerCounter("container_network_receive_packets_total", "Cumulative count of packets received", "interface")
	rxErrors    = containerCounter("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", "interface")
	rxDropped   = containerCounter("container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", "interface")
	txBytes     = containerCounter("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", "interface")
	txPackets   = containerCounter("container_network_transmit_packets_total", "Cumulative count of packets transmitted", "interface")
	txErrors    = containerCounter("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", "interface")
	txDropped   = containerCounter("container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", "interface")
	machineCPUs = gauge("machine_cpu_cores", "Number of logical CPU cores.")
	machineRAM  = gauge("machine_memory_bytes", "Amount of memory installed on the machine.")
)

// cadvisor collects what dashboards for Kubernetes show.
type cadvisor struct{ Sources }

// Describe sends nothing: what there is depends on the host.
func (cadvisor) Describe(chan<- *prometheus.Desc) {}

func (c cadvisor) Collect(metrics chan<- prometheus.Metric) {
	ch := out(metrics)
	s, err := c.Sample()
	if err != nil {
		c.Log.Warn("a scrape of the metrics failed", "err", err)
		return
	}
	ch.put(machineCPUs, float64(s.Node.CPUs))
	ch.amount(machineRAM, s.Node.Capacity, plain)
	ch.usage(s.Node.Pods, "", "/shoal.slice", "", "", "", "")
	disk := c.Storage()
	specs := make(map[string]*v1.Pod)
	for _, p := range c.Pods() {
		specs[string(p.UID)] = p
	}
	for _, p := range s.Pods {
		ch.network(p.Interfaces, "", p.CgroupPath, "", "", p.Namespace, p.Name)
		for _, one := range p.Containers {
			id := one.ID
			if one.Cgroup != "" {
				id = filepath.Join(p.CgroupPath, filepath.Base(one.Cgroup))
			}
			labels := []string{one.Name, id, one.Image, one.ID, p.Namespace, p.Name}
			ch.usage(one.Usage, labels...)
			ch.time(startTime, one.Started, labels...)
			ch.time(lastSeen, s.Time, labels...)
			ch.files(disk.Pods[p.UID].Containers[one.Name], s.Node.Root, labels)
			if spec := specs[p.UID]; spec != nil {
				ch.spec(spec, one.Name, labels)
			}
		}
	}
}

func (ch out) usage(u stats.Usage, labels ...string) {
	with := func(more ...string) []string { return append(labels[:len(labels):len(labels)], more...) }
	ch.amount(cpuUsage, u.CPU.Total, nanoseconds, with("total")...)
	ch.amount(cpuUser, u.CPU.User, nanoseconds, labels...)
	ch.amount(cpuSystem, u.CPU.System, nanoseconds, labels...)
	ch.amount(cfsPeriods, u.CPU.Periods, plain, labels...)
	ch.amount(cfsThrottled, u.CPU.Throttled, plain, labels...)
	ch.amount(cfsTime, u.CPU.ThrottledTime, nanoseconds, labels...)
	m := u.Memory
	ch.amount(memoryUsage, m.Usage, plain, labels...)
	ch.amount(memoryWorkingSet, m.WorkingSet, plain, labels...)
	ch.amount(memoryRSS, m.RSS, plain, labels...)
	ch.amount(memoryCache, m.Cache, plain, labels...)
	ch.amount(memoryMapped, m.Mapped, plain, labels...)
	ch.amount(memoryKernel, m.Kernel, plain, labels...)
	ch.amount(memorySwap, m.Swap, plain, labels...)
	ch.amount(memoryFaults, m.PageFaults, plain, with("pgfault", "hierarchy")...)
	ch.amount(memoryFaults, m.MajorPageFaults, plain, with("pgmajfault", "hierarchy")...)
	ch.amount(oomEvents, m.OOMKills, plain, labels...)
	for _, d := range u.IO.Devices {
		ch.put(fsReads, float64(d.Reads), with(d.Device)...)
		ch.put(fsReadBytes, float64(d.ReadBytes), with(d.Device)...)
		ch.put(fsWrites, float64(d.Writes), with(d.Device)...)
		ch.put(fsWriteBytes, float64(d.WrittenBytes), with(d.Device)...)
	}
	ch.amount(threads, u.Processes, plain, labels...)
	ch.pressure(cpuWaiting, cpuStalled, u.CPU.Pressure, labels)
	ch.pressure(memWaiting, memStalled, m.Pressure, labels)
	ch.pressure(ioWaiting, ioStalled, u.IO.Pressure, labels)
}

func (ch out) pressure(waiting, stalled family, p stats.Pressure, labels []string) {
	if p.Known {
		ch.put(waiting, p.Some.Total.Seconds(), labels...)
		ch.put(stalled, p.Full.Total.Seconds(), labels...)
	}
}

func (ch out) network(list []stats.Interface, labels ...string) {
	for _, i := range list {
		with := append(labels[:len(labels):len(labels)], i.Name)
		ch.put(rxBytes, float64(i.RxBytes), with...)
		ch.put(rxPackets, float64(i.RxPackets), with...)
		ch.put(rxErrors, float64(i.RxErrors), with...)
		ch.put(rxDropped, float64(i.RxDropped), with...)
		ch.put(txBytes, float64(i.TxBytes), with...)
		ch.put(txPackets, float64(i.TxPackets), with...)
		ch.put(txErrors, float64(i.TxErrors), with...)
		ch.put(txDropped, float64(i.TxDropped), with...)
	}
}

// files is a container's writable layer and logs, once they have been counted.
func (ch out) files(d stats.ContainerStorage, fs stats.FileSystem, labels []string) {
	used := d.Layer.Bytes.Plus(d.Logs.Bytes)
	if _, known := used.Get(); !known {
		return
	}
	with := append(labels[:len(labels):len(labels)], fs.Device)
	ch.amount(fsUsage, used, plain, with...)
	ch.amount(fsLimit, fs.Capacity, plain, with...)
	ch.amount(fsInodes, fs.Inodes, plain, with...)
	ch.amount(fsInodesFree, fs.InodesFree, plain, with...)
}

// cfsPeriod is the period of the quota, in microseconds.
const cfsPeriod = 100_000

// spec is what the pod asks for; a limit of 0 is none, as cadvisor has it.
func (ch out) spec(p *v1.Pod, name string, labels []string) {
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			if c.Name != name {
				continue
			}
			ch.put(specShares, float64(max(2, c.Resources.Requests.Cpu().MilliValue()*1024/1000)), labels...)
			if limit := c.Resources.Limits.Cpu().MilliValue(); limit > 0 {
				ch.put(specQuota, float64(limit*cfsPeriod/1000), labels...)
				ch.put(specPeriod, cfsPeriod, labels...)
			}
			ch.put(specMemory, float64(c.Resources.Limits.Memory().Value()), labels...)
		}
	}
}
