package stats

import (
	"bytes"
	"errors"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// look is one round of measuring.
type look struct {
	cfg       Config
	buf       []byte
	processes map[string][]int  // by mount namespace; nil: not looked for yet
	devices   map[string]string // names of block devices by MAJOR:MINOR
}

func newLook(c Config) *look {
	return &look{cfg: c, buf: make([]byte, 16<<10), devices: make(map[string]string)}
}

// read is a small file's content, good until the next read. Files of cgroups
// and procfs are made up at each read: no poller, no *os.File is needed.
func (l *look) read(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	n := 0
	for {
		if n == len(l.buf) {
			l.buf = append(l.buf, make([]byte, len(l.buf))...)
		}
		got, err := unix.Read(fd, l.buf[n:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		case got == 0:
			return l.buf[:n], nil
		default:
			n += got
		}
	}
}

// number is a file that holds one; unknown where there is no such file, or
// where it says "max".
func (l *look) number(path string) Amount {
	text, err := l.read(path)
	if err != nil {
		return Amount{}
	}
	return parseAmount(bytes.TrimSpace(text))
}

// flat is a file of lines "KEY VALUE".
func (l *look) flat(path string) map[string]Amount {
	text, err := l.read(path)
	if err != nil {
		return nil
	}
	return parseFlat(text)
}

func (l *look) pressure(path string) Pressure {
	text, err := l.read(path)
	if err != nil {
		return Pressure{} // the kernel has no PSI, or it is off
	}
	return parsePressure(text)
}

// pod measures a pod and its containers.
func (l *look) pod(p Pod) PodUsage {
	u := PodUsage{Pod: p, Usage: l.usage(p.Cgroup, p.CgroupPath)}
	for _, c := range p.Containers {
		u.Containers = append(u.Containers, ContainerUsage{c, l.container(c)})
	}
	if p.Cgroup == "" {
		u.Usage = sum(u.Containers)
	}
	if p.Network != 0 {
		u.Interfaces = l.interfaces(filepath.Join(l.cfg.Proc, strconv.Itoa(p.Network), "net/dev"))
	}
	return u
}

// container measures one with a cgroup of its own there, and else its processes.
func (l *look) container(c Container) Usage {
	if c.Cgroup != "" {
		return l.usage(c.Cgroup, "")
	}
	return l.measure(l.sameMounts(c.PID))
}

// usage measures a cgroup v2, and where its limits are in cgroup v1 that one at
// path. What its controllers don't tell is asked of its processes.
func (l *look) usage(dir, path string) Usage {
	if dir == "" {
		return Usage{}
	}
	u := l.usageV2(dir)
	if len(l.cfg.CgroupV1) > 0 && path != "" {
		l.addV1(&u, path)
	}
	if _, known := u.Memory.WorkingSet.Get(); known {
		return u
	}
	if _, exists := u.CPU.Total.Get(); !exists {
		return u // the cgroup is gone
	}
	all := l.measure(l.procsBelow(dir))
	u.Memory = all.Memory
	u.Memory.Pressure = l.pressure(filepath.Join(dir, "memory.pressure"))
	if _, known := u.Processes.Get(); !known {
		u.Processes = all.Processes
	}
	return u
}

// usageV2 reads a cgroup v2 (Documentation/admin-guide/cgroup-v2.rst). cpu.stat
// has its first lines also where the cpu controller is not on.
func (l *look) usageV2(dir string) (u Usage) {
	file := func(name string) string { return dir + "/" + name }
	cpu := l.flat(file("cpu.stat"))
	u.CPU = CPU{
		Total: cpu["usage_usec"].times(1000), User: cpu["user_usec"].times(1000), System: cpu["system_usec"].times(1000),
		Periods: cpu["nr_periods"], Throttled: cpu["nr_throttled"], ThrottledTime: cpu["throttled_usec"].times(1000),
		Pressure: l.pressure(file("cpu.pressure")),
	}
	if u.Memory.Usage = l.number(file("memory.current")); u.Memory.Usage.known {
		stat := l.flat(file("memory.stat"))
		u.Memory = memoryOf(u.Memory.Usage, stat, "")
		u.Memory.Kernel = stat["kernel"]
		u.Memory.Mapped = stat["file_mapped"]
		u.Memory.Swap = l.number(file("memory.swap.current"))
		u.Memory.OOMKills = l.flat(file("memory.events"))["oom_kill"]
		u.Memory.Pressure = l.pressure(file("memory.pressure"))
	}
	if text, err := l.read(file("io.stat")); err == nil {
		u.IO = parseIO(text)
		for i := range u.IO.Devices {
			d := &u.IO.Devices[i].Device
			*d = l.device(*d)
		}
	}
	u.IO.Pressure = l.pressure(file("io.pressure"))
	u.Processes = l.number(file("pids.current"))
	return u
}

// memoryOf reads memory.stat, whose names in cgroup v1 differ: theirs begin
// with "total_" for a cgroup and all below it.
func memoryOf(usage Amount, stat map[string]Amount, total string) Memory {
	m := Memory{
		Usage:      usage,
		WorkingSet: usage.Minus(stat[total+"inactive_file"]),
		PageFaults: stat[total+"pgfault"], MajorPageFaults: stat[total+"pgmajfault"],
	}
	if total == "" {
		m.RSS, m.Cache = stat["anon"], stat["file"]
	} else {
		m.RSS, m.Cache, m.Mapped = stat["total_rss"], stat["total_cache"], stat["total_mapped_file"]
		m.Swap = stat["total_swap"]
	}
	return m
}

// addV1 adds what cgroup v1's controllers tell of a pod. Processor time is in
// cgroup v2 also then.
func (l *look) addV1(u *Usage, path string) {
	file := func(controller, name string) string { return filepath.Join(l.cfg.CgroupV1[controller], path, name) }
	if l.cfg.CgroupV1["memory"] != "" {
		if usage := l.number(file("memory", "memory.usage_in_bytes")); usage.known {
			pressure := u.Memory.Pressure
			u.Memory = memoryOf(usage, l.flat(file("memory", "memory.stat")), "total_")
			u.Memory.OOMKills = l.flat(file("memory", "memory.oom_control"))["oom_kill"]
			u.Memory.Pressure = pressure
		}
	}
	if l.cfg.CgroupV1["cpu"] != "" {
		stat := l.flat(file("cpu", "cpu.stat"))
		u.CPU.Periods, u.CPU.Throttled, u.CPU.ThrottledTime = stat["nr_periods"], stat["nr_throttled"], stat["throttled_time"]
	}
	if l.cfg.CgroupV1["pids"] != "" {
		u.Processes = l.number(file("pids", "pids.current"))
	}
}

// sum is what containers use together.
func sum(containers []ContainerUsage) Usage {
	if len(containers) == 0 {
		return Usage{}
	}
	u := containers[0].Usage
	for _, c := range containers[1:] {
		u.CPU.Total = u.CPU.Total.Plus(c.CPU.Total)
		u.CPU.User, u.CPU.System = u.CPU.User.Plus(c.CPU.User), u.CPU.System.Plus(c.CPU.System)
		u.Memory.WorkingSet, u.Memory.RSS = u.Memory.WorkingSet.Plus(c.Memory.WorkingSet), u.Memory.RSS.Plus(c.Memory.RSS)
		u.Memory.Swap = u.Memory.Swap.Plus(c.Memory.Swap)
		u.Processes = u.Processes.Plus(c.Processes)
	}
	return u
}

func parseAmount(text []byte) Amount {
	n, err := strconv.ParseUint(string(text), 10, 64)
	return Amount{n, err == nil}
}

func parseFlat(text []byte) map[string]Amount {
	m := make(map[string]Amount)
	for line := range bytes.Lines(text) {
		key, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if ok {
			m[string(key)] = parseAmount(value)
		}
	}
	return m
}

// parseIO reads io.stat: "MAJOR:MINOR rbytes=1 wbytes=2 rios=3 ...". A cgroup
// that has not done any I/O has an empty file.
func parseIO(text []byte) IO {
	io := IO{ReadBytes: Known(0), WrittenBytes: Known(0), Reads: Known(0), Writes: Known(0)}
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) < 2 {
			continue // a device that has counted nothing
		}
		d := DeviceIO{Device: string(fields[0])}
		for _, f := range fields[1:] {
			key, value, _ := bytes.Cut(f, []byte("="))
			n := parseAmount(value).n
			switch string(key) {
			case "rbytes":
				d.ReadBytes = n
			case "wbytes":
				d.WrittenBytes = n
			case "rios":
				d.Reads = n
			case "wios":
				d.Writes = n
			}
		}
		io.Devices = append(io.Devices, d)
		io.ReadBytes.n += d.ReadBytes
		io.WrittenBytes.n += d.WrittenBytes
		io.Reads.n += d.Reads
		io.Writes.n += d.Writes
	}
	return io
}

// parsePressure reads a file of PSI:
// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0". The line "full" is missing
// for the processor of a whole machine on older kernels.
func parsePressure(text []byte) Pressure {
	var p Pressure
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) != 5 {
			continue
		}
		stall := &p.Some
		switch string(fields[0]) {
		case "full":
			stall = &p.Full
		case "some":
		default:
			continue
		}
		p.Known = true
		for _, f := range fields[1:] {
			key, value, _ := bytes.Cut(f, []byte("="))
			switch string(key) {
			case "total":
				stall.Total = time.Duration(parseAmount(value).n) * time.Microsecond
			case "avg10":
				stall.Avg10 = parsePercent(value)
			case "avg60":
				stall.Avg60 = parsePercent(value)
			case "avg300":
				stall.Avg300 = parsePercent(value)
			}
		}
	}
	return p
}

func parsePercent(text []byte) float64 {
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return 0
	}
	return f
}
