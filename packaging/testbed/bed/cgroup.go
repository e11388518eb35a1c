package bed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cgroups is one cgroup in the hierarchies that systemd-nspawn looks at: the unified one, and the named one of systemd
// where the machine has that.
type cgroups struct {
	unified string
	named   string // empty where the machine has only cgroup v2
}

// child is the cgroup of that name below c, made if needed.
func (c cgroups) child(name string) (cgroups, error) {
	child := cgroups{unified: filepath.Join(c.unified, name)}
	if c.named != "" {
		child.named = filepath.Join(c.named, name)
	}
	for _, dir := range child.dirs() {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return cgroups{}, err
		}
	}
	return child, nil
}

func (c cgroups) dirs() []string {
	if c.named == "" {
		return []string{c.unified}
	}
	return []string{c.unified, c.named}
}

// kill ends every process in c and removes c.
func (c cgroups) kill(ctx context.Context) error {
	for _, dir := range c.dirs() {
		if err := killTree(ctx, dir); err != nil {
			return err
		}
	}
	return nil
}

// killTree tries until the tree is gone: dying processes hold their cgroup for a moment.
func killTree(ctx context.Context, dir string) error {
	for {
		err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0) // only v2 has it
		if errors.Is(err, fs.ErrNotExist) {
			if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
		}
		if err = removeTree(dir); err == nil {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("end processes: %w", err)
		}
	}
}

// removeTree removes a cgroup and those below it. The files in a cgroup's directory go with it.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// bedCgroups is where the cgroups of a bed are. Below a systemd it is the delegated scope that the supervisor runs in.
func bedCgroups(name string) (cgroups, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return cgroups{}, err
	}
	c := cgroupMounts(string(mounts))
	if c.unified == "" {
		return cgroups{}, errors.New("no cgroup v2 is mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified")
	}
	if !belowSystemd() {
		return c.child("shoal-testbed-" + name)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return cgroups{}, err
	}
	paths := ownCgroups(string(own))
	c.unified = filepath.Join(c.unified, paths.unified)
	if c.named != "" {
		c.named = filepath.Join(c.named, paths.named)
	}
	return c, nil
}

// belowSystemd tells whether the machine's PID 1 is systemd, as sd_booted(3) does.
func belowSystemd() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// cgroupMounts finds the two hierarchies in the text of a mountinfo file, proc(5).
func cgroupMounts(mountinfo string) cgroups {
	var c cgroups
	lines := bufio.NewScanner(strings.NewReader(mountinfo))
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		where, what := strings.Fields(before), strings.Fields(after)
		if !ok || len(where) < 5 || len(what) < 3 {
			continue
		}
		switch {
		case what[0] == "cgroup2" && c.unified == "":
			c.unified = where[4]
		case what[0] == "cgroup" && strings.Contains(what[2], "name=systemd"):
			c.named = where[4]
		}
	}
	return c
}

// ownCgroups finds a process's places in the text of its /proc/PID/cgroup, cgroups(7).
func ownCgroups(text string) cgroups {
	var c cgroups
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) != 3 {
			continue
		}
		switch fields[1] {
		case "":
			c.unified = fields[2]
		case "name=systemd":
			c.named = fields[2]
		}
	}
	return c
}

// delegate makes the supervisor's cgroup one that may have children with controllers: its own process leaves it for a
// leaf, and all controllers are turned on for the rest.
func (c cgroups) delegate() error {
	leaf, err := c.child("supervisor")
	if err != nil {
		return err
	}
	if err := leaf.enter(os.Getpid()); err != nil {
		return err
	}
	controllers, err := os.ReadFile(filepath.Join(c.unified, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(controllers)) {
		if err := os.WriteFile(filepath.Join(c.unified, "cgroup.subtree_control"), []byte("+"+name), 0); err != nil {
			return err
		}
	}
	return nil
}

// enter moves a process into c.
func (c cgroups) enter(pid int) error {
	for _, dir := range c.dirs() {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return err
		}
	}
	return nil
}
