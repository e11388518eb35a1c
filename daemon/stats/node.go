package stats

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Node measures the host as a whole, without its pods. It is cheap: a dozen
// small files.
func (m *Meter) Node() (Node, error) {
	l := newLook(m.cfg)
	n := Node{Time: m.cfg.Now(), CPUs: runtime.NumCPU()}
	stat, err := l.read(l.cfg.Proc + "/stat")
	if err != nil {
		return n, fmt.Errorf("measure the host: read %s/stat: %w", l.cfg.Proc, err)
	}
	n.CPU, n.Boot = parseNodeCPU(stat)
	info, err := l.read(l.cfg.Proc + "/meminfo")
	if err != nil {
		return n, fmt.Errorf("measure the host: read %s/meminfo: %w", l.cfg.Proc, err)
	}
	l.nodeMemory(&n, parseKiB(info))
	l.nodeProcesses(&n)
	n.CPU.Pressure = l.pressure(l.cfg.Proc + "/pressure/cpu")
	n.Memory.Pressure = l.pressure(l.cfg.Proc + "/pressure/memory")
	n.IO.Pressure = l.pressure(l.cfg.Proc + "/pressure/io")
	n.Interfaces = l.interfaces(l.cfg.Proc + "/net/dev")
	if route, err := l.read(l.cfg.Proc + "/net/route"); err == nil {
		n.Main = defaultRoute(route)
	}
	if n.Root, err = l.fileSystem(m.cfg.RootDir, n.Time); err != nil {
		return n, err
	}
	n.Images, err = l.fileSystem(m.cfg.ImageDir, n.Time)
	return n, err
}

// NodeOver measures the host as Node does, with the processor's rate over a time
// that the caller is ready to wait; the kernel counts in steps of 10 ms.
func (m *Meter) NodeOver(ctx context.Context, window time.Duration) (Node, error) {
	before, err := m.Node()
	if err != nil {
		return before, err
	}
	wait := time.NewTimer(window)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return before, context.Cause(ctx)
	}
	n, err := m.Node()
	n.CPU.Rate, n.CPU.Window = perSecond(before.CPU.Total, n.CPU.Total, n.Time.Sub(before.Time), window/2)
	return n, err
}

// parseNodeCPU reads /proc/stat (proc_stat(5)). Guests' time is in user's
// already; steal is another machine's.
func parseNodeCPU(text []byte) (c CPU, boot time.Time) {
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		switch {
		case len(f) >= 8 && string(f[0]) == "cpu":
			n := func(i int) uint64 { return parseAmount(f[i]).n * tick }
			c.User = Known(n(1) + n(2))
			c.System = Known(n(3) + n(6) + n(7))
			c.Total = c.User.Plus(c.System)
		case len(f) == 2 && string(f[0]) == "btime":
			boot = time.Unix(int64(parseAmount(f[1]).n), 0)
		}
	}
	return c, boot
}

// nodeMemory counts as the kubelet does for the root cgroup: all that is not
// free is used, and what is used less the inactive file pages is the working set.
func (l *look) nodeMemory(n *Node, info map[string]Amount) {
	n.Capacity = info["MemTotal"]
	n.Memory.Usage = info["MemTotal"].Minus(info["MemFree"])
	n.Memory.WorkingSet = n.Memory.Usage.Minus(info["Inactive(file)"])
	n.Memory.RSS, n.Memory.Mapped = info["AnonPages"], info["Mapped"]
	n.Memory.Cache = info["Cached"].Plus(info["Buffers"])
	n.Memory.Swap, n.SwapFree = info["SwapTotal"].Minus(info["SwapFree"]), info["SwapFree"]
	n.Available = n.Capacity.Minus(n.Memory.WorkingSet)
	vm := l.flat(l.cfg.Proc + "/vmstat")
	n.Memory.PageFaults, n.Memory.MajorPageFaults = vm["pgfault"], vm["pgmajfault"]
	n.Memory.OOMKills = vm["oom_kill"]
}

// nodeProcesses reads the number of threads and their limit as the kubelet's
// pkg/kubelet/stats/pidlimit does.
func (l *look) nodeProcesses(n *Node) {
	if load, err := l.read(l.cfg.Proc + "/loadavg"); err == nil {
		if f := bytes.Fields(load); len(f) >= 4 {
			if _, all, ok := bytes.Cut(f[3], []byte("/")); ok {
				n.Processes = parseAmount(all)
			}
		}
	}
	pids := l.number(l.cfg.Proc + "/sys/kernel/pid_max")
	threads := l.number(l.cfg.Proc + "/sys/kernel/threads-max")
	switch {
	case pids.known && threads.known:
		n.MaxProcesses = Known(min(pids.n, threads.n))
	case pids.known:
		n.MaxProcesses = pids
	default:
		n.MaxProcesses = threads
	}
}

// fileSystem asks for the one that dir is on. One that makes inodes as it needs
// them (btrfs) has none to count.
func (l *look) fileSystem(dir string, now time.Time) (FileSystem, error) {
	if dir == "" {
		return FileSystem{}, nil
	}
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return FileSystem{}, fmt.Errorf("measure the file system of %s: %w", dir, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return FileSystem{}, fmt.Errorf("measure the file system of %s: %w", dir, err)
	}
	block := uint64(s.Frsize)
	f := FileSystem{
		Time: now, ID: st.Dev, Device: l.device(number(st.Dev)),
		Capacity: Known(s.Blocks * block), Available: Known(s.Bavail * block), Used: Known((s.Blocks - s.Bfree) * block),
	}
	if s.Files > 0 {
		f.Inodes, f.InodesFree, f.InodesUsed = Known(s.Files), Known(s.Ffree), Known(s.Files-s.Ffree)
	}
	return f, nil
}
