package stats

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubelet "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// podInterface is what a pod's only interface is called.
const podInterface = "eth0"

// Summarize is a sample in the form of the kubelet's Summary API. What is
// unknown is left out of it.
func Summarize(node string, s *Sample, disk Storage) *kubelet.Summary {
	sum := &kubelet.Summary{Node: nodeStats(node, s.Node), Pods: []kubelet.PodStats{}}
	for _, p := range s.Pods {
		sum.Pods = append(sum.Pods, podStats(p, s, disk.Pods[p.UID]))
	}
	return sum
}

func nodeStats(name string, n Node) kubelet.NodeStats {
	out := kubelet.NodeStats{
		NodeName: name, StartTime: metav1.NewTime(n.Boot),
		CPU: cpuStats(n.CPU, n.Time), Memory: memoryStats(n.Memory, n.Available, n.Time), IO: ioStats(n.IO, n.Time),
		Network: networkStats(n.Interfaces, n.Main, n.Time), Fs: n.Root.stats(),
		Runtime: &kubelet.RuntimeStats{ImageFs: n.Images.stats(), ContainerFs: n.Root.stats()},
		Swap:    swapStats(n.Memory.Swap, n.SwapFree, n.Time),
		Rlimit:  &kubelet.RlimitStats{Time: metav1.NewTime(n.Time), MaxPID: signed(n.MaxProcesses), NumOfRunningProcesses: signed(n.Processes)},
	}
	if _, known := n.Pods.CPU.Total.Get(); known {
		out.SystemContainers = []kubelet.ContainerStats{{
			Name: kubelet.SystemContainerPods, StartTime: metav1.NewTime(n.Boot),
			CPU: cpuStats(n.Pods.CPU, n.Time), Memory: memoryStats(n.Pods.Memory, n.Capacity.Minus(n.Pods.Memory.WorkingSet), n.Time),
			IO: ioStats(n.Pods.IO, n.Time),
		}}
	}
	return out
}

func podStats(p PodUsage, s *Sample, disk PodStorage) kubelet.PodStats {
	out := kubelet.PodStats{
		PodRef:     kubelet.PodReference{Name: p.Name, Namespace: p.Namespace, UID: p.UID},
		StartTime:  metav1.NewTime(p.Started),
		Containers: []kubelet.ContainerStats{},
		CPU:        cpuStats(p.CPU, s.Time), Memory: memoryStats(p.Memory, Amount{}, s.Time), IO: ioStats(p.IO, s.Time),
		Network: networkStats(p.Interfaces, podInterface, s.Time),
		Swap:    swapStats(p.Memory.Swap, Amount{}, s.Time),
	}
	if _, known := p.Processes.Get(); known {
		out.ProcessStats = &kubelet.ProcessStats{ProcessCount: p.Processes.Pointer()}
	}
	for _, c := range p.Containers {
		d := disk.Containers[c.Name]
		out.Containers = append(out.Containers, kubelet.ContainerStats{
			Name: c.Name, StartTime: metav1.NewTime(c.Started),
			CPU: cpuStats(c.CPU, s.Time), Memory: memoryStats(c.Memory, Amount{}, s.Time), IO: ioStats(c.IO, s.Time),
			Rootfs: s.Node.Root.with(d.Layer), Logs: s.Node.Root.with(d.Logs),
			Swap: swapStats(c.Memory.Swap, Amount{}, s.Time),
		})
	}
	for _, v := range p.Volumes {
		if d, counted := disk.Volumes[v.Name]; counted {
			fs := s.Node.Root
			if v.Memory {
				fs = FileSystem{}
			}
			if stats := fs.with(d); stats != nil {
				out.VolumeStats = append(out.VolumeStats, kubelet.VolumeStats{Name: v.Name, FsStats: *stats})
			}
		}
	}
	out.EphemeralStorage = s.Node.Root.with(disk.Total)
	return out
}

func cpuStats(c CPU, at time.Time) *kubelet.CPUStats {
	if _, known := c.Total.Get(); !known {
		return nil
	}
	return &kubelet.CPUStats{
		Time: metav1.NewTime(at), UsageNanoCores: c.Rate.Pointer(), UsageCoreNanoSeconds: c.Total.Pointer(), PSI: psi(c.Pressure),
	}
}

func memoryStats(m Memory, available Amount, at time.Time) *kubelet.MemoryStats {
	if _, known := m.WorkingSet.Get(); !known {
		return nil
	}
	return &kubelet.MemoryStats{
		Time: metav1.NewTime(at), AvailableBytes: available.Pointer(), UsageBytes: m.Usage.Pointer(),
		WorkingSetBytes: m.WorkingSet.Pointer(), RSSBytes: m.RSS.Pointer(),
		PageFaults: m.PageFaults.Pointer(), MajorPageFaults: m.MajorPageFaults.Pointer(), PSI: psi(m.Pressure),
	}
}

func ioStats(io IO, at time.Time) *kubelet.IOStats {
	if !io.Pressure.Known {
		return nil
	}
	return &kubelet.IOStats{Time: metav1.NewTime(at), PSI: psi(io.Pressure)}
}

// psi has its total in nanoseconds, as cadvisor hands it to the kubelet.
func psi(p Pressure) *kubelet.PSIStats {
	if !p.Known {
		return nil
	}
	data := func(s Stall) kubelet.PSIData {
		return kubelet.PSIData{Total: uint64(s.Total.Nanoseconds()), Avg10: s.Avg10, Avg60: s.Avg60, Avg300: s.Avg300}
	}
	return &kubelet.PSIStats{Full: data(p.Full), Some: data(p.Some)}
}

func swapStats(used, free Amount, at time.Time) *kubelet.SwapStats {
	if _, known := used.Get(); !known {
		return nil
	}
	return &kubelet.SwapStats{Time: metav1.NewTime(at), SwapAvailableBytes: free.Pointer(), SwapUsageBytes: used.Pointer()}
}

// networkStats has the interface called main on top.
func networkStats(list []Interface, main string, at time.Time) *kubelet.NetworkStats {
	if len(list) == 0 {
		return nil
	}
	out := &kubelet.NetworkStats{Time: metav1.NewTime(at)}
	for _, i := range list {
		one := kubelet.InterfaceStats{Name: i.Name, RxBytes: &i.RxBytes, RxErrors: &i.RxErrors, TxBytes: &i.TxBytes, TxErrors: &i.TxErrors}
		out.Interfaces = append(out.Interfaces, one)
		if i.Name == main {
			out.InterfaceStats = one
		}
	}
	return out
}

func (f FileSystem) stats() *kubelet.FsStats {
	if _, known := f.Capacity.Get(); !known {
		return nil
	}
	return &kubelet.FsStats{
		Time: metav1.NewTime(f.Time), AvailableBytes: f.Available.Pointer(), CapacityBytes: f.Capacity.Pointer(), UsedBytes: f.Used.Pointer(),
		InodesFree: f.InodesFree.Pointer(), Inodes: f.Inodes.Pointer(), InodesUsed: f.InodesUsed.Pointer(),
	}
}

// with is the file system as somebody sees it who keeps d on it; nil while d has
// not been counted.
func (f FileSystem) with(d Disk) *kubelet.FsStats {
	if _, known := d.Bytes.Get(); !known {
		return nil
	}
	return &kubelet.FsStats{
		Time: metav1.NewTime(d.Time), AvailableBytes: f.Available.Pointer(), CapacityBytes: f.Capacity.Pointer(), UsedBytes: d.Bytes.Pointer(),
		InodesFree: f.InodesFree.Pointer(), Inodes: f.Inodes.Pointer(), InodesUsed: d.Inodes.Pointer(),
	}
}

func signed(a Amount) *int64 {
	n, known := a.Get()
	if !known {
		return nil
	}
	s := int64(n)
	return &s
}
