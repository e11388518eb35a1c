package scope

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Anticipate makes the next Start quicker, by some 10 ms on an idle host: call
// it beside the work that comes before Start.
//
// Moving a process between cgroups, which is how systemd puts it into a scope,
// waits for a grace period of RCU, unless another move has just been made
// (cgroup_threadgroup_rwsem is a percpu_rw_semaphore, whose rcu_sync stays
// entered for a while). Here this process moves to the cgroup that it is in.
// Nothing depends on it: an error is only that Start will take its time.
func Anticipate() error {
	root, err := cgroupRoot()
	if err != nil {
		return err
	}
	dir, err := ownCgroup()
	if err != nil {
		return err
	}
	return write(filepath.Join(root, dir), "cgroup.procs", "0")
}

// ownCgroup is this process's cgroup in the hierarchy of version 2 (cgroups(7)).
func ownCgroup() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if dir, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(dir, "\n"), nil
		}
	}
	return "", errors.New("/proc/self/cgroup names no cgroup of version 2")
}
