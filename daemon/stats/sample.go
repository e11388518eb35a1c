package stats

import "time"

// Pod is a pod to measure: where to look for it.
type Pod struct {
	UID, Namespace, Name string
	Started              time.Time
	// Cgroup is the directory of the pod's cgroup v2; empty on a host without.
	Cgroup string
	// CgroupPath is Cgroup as seen from the root of the hierarchy; on a host
	// with cgroup v1 the pod is at the same path there.
	CgroupPath string
	// Network is a process in the pod's own network namespace; 0: the pod has
	// the host's.
	Network    int
	Containers []Container
	Volumes    []Volume
	// Logs is the pod's log directory, with one for each container in it.
	Logs string
}

// Container is a running container to measure.
type Container struct {
	Name    string
	ID      string
	Image   string
	Attempt int
	Started time.Time
	// Cgroup is the directory of the container's own cgroup v2; empty where it
	// has none, as on hosts with cgroup v1.
	Cgroup string
	PID    int // of its first process; its mount namespace tells which others are the container's
	// Layer is the container's writable layer.
	Layer string
}

// Volume is a volume that takes space on this host and goes with its pod.
type Volume struct {
	Name string
	Dir  string
	// Memory says that it is kept in memory (tmpfs), so it takes no disk.
	Memory bool
}

// Sample is what was used at one moment.
type Sample struct {
	Time time.Time
	Node Node
	Pods []PodUsage
}

// PodUsage is what one pod uses.
type PodUsage struct {
	Pod
	Usage
	Interfaces []Interface // of its own network namespace
	Containers []ContainerUsage
}

// ContainerUsage is what one container uses.
type ContainerUsage struct {
	Container
	Usage
}

// Usage is what processes use. Counters (totals) begin with the cgroup.
type Usage struct {
	CPU       CPU
	Memory    Memory
	IO        IO
	Processes Amount // processes and threads
}

// CPU is processor time, in nanoseconds.
type CPU struct {
	Total, User, System Amount
	// Rate is nanoseconds of processor per second: 10^9 is one core. Unknown
	// until there are two samples at least a second apart.
	Rate Amount
	// Window is the time that Rate is the mean of.
	Window time.Duration
	// Periods and Throttled count the quota's periods, and those in which it
	// was used up; ThrottledTime is how long processes waited for the next.
	Periods, Throttled, ThrottledTime Amount
	Pressure                          Pressure
}

// Memory is in bytes.
type Memory struct {
	// Usage is all that is charged, page cache with it.
	Usage Amount
	// WorkingSet is Usage without file pages that have not been used lately
	// (inactive_file), the kubelet's figure for eviction and top. Where there is
	// no memory controller it is the processes' own memory and their share of
	// what is mapped by several (Pss, proc_pid_smaps(5)): without page cache.
	WorkingSet Amount
	RSS        Amount // anonymous memory
	Cache      Amount // page cache
	Mapped     Amount // files mapped
	Kernel     Amount // the kernel's own, for these processes
	Swap       Amount
	// PageFaults and MajorPageFaults are counters.
	PageFaults, MajorPageFaults Amount
	// OOMKills counts processes that the kernel killed for want of memory.
	OOMKills Amount
	Pressure Pressure
}

// IO counts what block devices did; cached reads and writes are not in it.
type IO struct {
	ReadBytes, WrittenBytes Amount
	Reads, Writes           Amount
	Devices                 []DeviceIO
	Pressure                Pressure
}

// DeviceIO is IO on one block device.
type DeviceIO struct {
	Device                  string // "/dev/sda", or MAJOR:MINOR for one without a block device
	ReadBytes, WrittenBytes uint64
	Reads, Writes           uint64
}

// Pressure is how long processes had to wait for a resource (PSI, the kernel's
// Documentation/accounting/psi.rst).
type Pressure struct {
	Known      bool
	Some, Full Stall
}

// Stall is time that some, or all, processes waited.
type Stall struct {
	Avg10, Avg60, Avg300 float64 // percent of the last so many seconds
	Total                time.Duration
}

// Interface is the traffic of a network interface, seen from inside.
type Interface struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Node is what the host as a whole uses.
type Node struct {
	Time time.Time
	Boot time.Time
	Usage
	CPUs int // logical processors
	// Capacity and Available are bytes of memory; Available is Capacity less
	// the working set, the kubelet's memory.available.
	Capacity, Available Amount
	SwapFree            Amount
	// MaxProcesses is how many processes and threads the kernel allows.
	MaxProcesses Amount
	Interfaces   []Interface
	// Main names the interface of the default route.
	Main string
	// Pods is what all pods together use.
	Pods Usage
	// Root is the file system with /var/lib/shoal, Images that of the image store.
	Root, Images FileSystem
}

// FileSystem is what statfs(2) tells. Used is what is not free; Available is
// what is left to those who are not root.
type FileSystem struct {
	Time                           time.Time
	ID                             uint64 // its device number: the same file system has the same
	Device                         string // as DeviceIO's
	Capacity, Available, Used      Amount // bytes
	Inodes, InodesFree, InodesUsed Amount
}
