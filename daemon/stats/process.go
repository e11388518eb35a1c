package stats

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// tick is the kernel's USER_HZ in nanoseconds; 100 Hz on every architecture
// that Debian has (proc_pid_stat(5)).
const tick = 10_000_000

// measure adds up what processes use, for hosts whose cgroups don't tell.
// Processor time is of those that live and of children they have waited for.
func (l *look) measure(pids []int) Usage {
	if len(pids) == 0 {
		return Usage{}
	}
	var u Usage
	seen := false
	u.Processes = Known(0)
	memory := Memory{WorkingSet: Known(0), RSS: Known(0), Swap: Known(0)}
	for _, pid := range pids {
		dir := filepath.Join(l.cfg.Proc, strconv.Itoa(pid))
		p, ok := l.process(dir)
		if !ok {
			continue // it has ended
		}
		seen = true
		u.CPU.User = Known(u.CPU.User.n + p.user)
		u.CPU.System = Known(u.CPU.System.n + p.system)
		u.Processes.n += p.threads
		own := l.processMemory(dir, p.kernel)
		memory.WorkingSet = memory.WorkingSet.Plus(own.WorkingSet)
		memory.RSS = memory.RSS.Plus(own.RSS)
		memory.Swap = memory.Swap.Plus(own.Swap)
	}
	if !seen {
		return Usage{}
	}
	u.CPU.Total = u.CPU.User.Plus(u.CPU.System)
	u.Memory = memory
	return u
}

// process is what proc_pid_stat(5) tells.
type process struct {
	user, system uint64 // nanoseconds
	threads      uint64
	kernel       bool // no memory of its own: a zombie
}

func (l *look) process(dir string) (process, bool) {
	text, err := l.read(dir + "/stat")
	if err != nil {
		return process{}, false
	}
	return parseProcess(text)
}

func parseProcess(text []byte) (process, bool) {
	// The name, in parentheses, may hold anything.
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return process{}, false
	}
	f := bytes.Fields(text[end+1:])
	if len(f) < 21 {
		return process{}, false
	}
	n := func(field int) uint64 { return parseAmount(f[field-3]).n } // fields count from 1; the first here is the third
	return process{
		user: (n(14) + n(16)) * tick, system: (n(15) + n(17)) * tick, threads: n(20), kernel: n(23) == 0,
	}, true
}

// processMemory reads smaps_rollup (proc_pid_smaps(5)). Where it may not be
// read, the whole is unknown rather than too small.
func (l *look) processMemory(dir string, zombie bool) Memory {
	if zombie {
		return Memory{WorkingSet: Known(0), RSS: Known(0), Swap: Known(0)}
	}
	text, err := l.read(dir + "/smaps_rollup")
	if gone(err) {
		return Memory{WorkingSet: Known(0), RSS: Known(0), Swap: Known(0)}
	}
	if err != nil {
		return Memory{}
	}
	m := parseKiB(text)
	anonymous := m["Pss_Anon"]
	if !anonymous.known {
		anonymous = m["Anonymous"] // before Linux 5.9
	}
	return Memory{WorkingSet: m["Pss"], RSS: anonymous, Swap: m["SwapPss"]}
}

// parseKiB reads lines "Name:   123 kB", as bytes.
func parseKiB(text []byte) map[string]Amount {
	m := make(map[string]Amount)
	for line := range bytes.Lines(text) {
		key, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		number, isSize := bytes.CutSuffix(bytes.TrimSpace(value), []byte(" kB"))
		if a := parseAmount(number); isSize && a.known {
			m[string(key)] = a.times(1024)
		}
	}
	return m
}

// procsBelow lists the processes in a cgroup v2 and all below it.
func (l *look) procsBelow(dir string) []int {
	var pids []int
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // it may go while we look
		}
		text, err := l.read(path + "/cgroup.procs")
		if err != nil {
			return nil
		}
		for line := range bytes.Lines(text) {
			if a := parseAmount(bytes.TrimSpace(line)); a.n > 0 {
				pids = append(pids, int(a.n))
			}
		}
		return nil
	})
	return pids
}

// sameMounts lists the processes in the mount namespace of one: each container
// has its own, and what is run in it later joins that.
func (l *look) sameMounts(pid int) []int {
	if pid == 0 {
		return nil
	}
	if l.processes == nil {
		l.processes = make(map[string][]int)
		dirs, err := os.ReadDir(l.cfg.Proc)
		if err != nil {
			return nil
		}
		for _, d := range dirs {
			if n, err := strconv.Atoi(d.Name()); err == nil {
				if ns := l.mounts(n); ns != "" {
					l.processes[ns] = append(l.processes[ns], n)
				}
			}
		}
	}
	ns := l.mounts(pid)
	if ns == "" || ns == l.mounts(os.Getpid()) {
		return nil // not a container's, or not yet
	}
	return l.processes[ns]
}

func (l *look) mounts(pid int) string {
	ns, err := os.Readlink(filepath.Join(l.cfg.Proc, strconv.Itoa(pid), "ns/mnt"))
	if err != nil {
		return ""
	}
	return ns
}
