package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// parallel is how many starts run side by side: as many as shoald allows itself.
func parallel() int { return runtime.NumCPU() + 1 }

func daemonPID(ctx context.Context) (int, error) {
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--value", "--property=MainPID", "shoald").Output()
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || pid == 0 {
		return 0, fmt.Errorf("shoald is not running (MainPID %q)", out)
	}
	return pid, nil
}

func daemonMemory(ctx context.Context) (Memory, error) {
	pid, err := daemonPID(ctx)
	if err != nil {
		return Memory{}, err
	}
	return memory(pid)
}

// memory reads smaps_rollup (proc(5)).
func memory(pid int) (Memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	return Memory{RSS: field(text, "Rss:"), Anonymous: field(text, "Anonymous:"), PSS: field(text, "Pss:")}, err
}

// field is the number of kilobytes in a line of a file like smaps, in bytes.
func field(text []byte, name string) int64 {
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			kb, _ := strconv.ParseInt(f[1], 10, 64) // the kernel writes numbers
			return kb << 10
		}
	}
	return 0
}

// cpuTime is what all of a process's threads, ended ones too, have used (clock_getcpuclockid(3)).
func cpuTime(pid int) time.Duration {
	const scheduler = 2 // CPUCLOCK_SCHED of the whole process
	var ts unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|scheduler), &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// wakeups is how often threads of a process have gone to sleep by themselves, and so were woken.
func wakeups(pid int) int64 {
	var sum int64
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(task) // a thread that ended no longer counts
		sum += field(text, "voluntary_ctxt_switches:") >> 10
	}
	return sum
}

func threads(pid int) int {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return len(tasks)
}

// around is the PSS for each pod of processes that are not the pods' own: those that supervise and that hold
// namespaces. No other pods may run.
func around(pods int) int64 {
	var sum int64
	all, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, path := range all {
		comm, _ := os.ReadFile(path)
		if !slices.Contains([]string{"conmon", "catatonit", "pause"}, strings.TrimSpace(string(comm))) {
			continue
		}
		text, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "smaps_rollup"))
		sum += field(text, "Pss:")
	}
	return sum / int64(pods)
}

// machine is what the figures were measured on, in a line.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u) // never fails
	model := "unknown processor"
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			model = strings.Trim(name, "\t :\n")
			break
		}
	}
	return fmt.Sprintf("%d cores of %s, Linux %s", runtime.NumCPU(), model, unix.ByteSliceToString(u.Release[:]))
}
