package scope

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// initLeaf holds the processes of the pod itself. A cgroup whose children have
// controllers may hold no process (cgroups(7), "no internal processes").
const initLeaf = "init"

// cgroupRoot is where cgroup v2 is mounted: alone, or beside cgroup v1.
func cgroupRoot() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var s unix.Statfs_t
		if unix.Statfs(dir, &s) == nil && s.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	return "", errors.New("no cgroup v2 is mounted")
}

// write writes one value to a cgroup's file, in the one write that the kernel
// wants, and never makes a file: a missing one means a missing controller.
func write(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func words(dir, file string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(dir, file))
	return strings.Fields(string(b)), err
}

// controllersOf lists what can be limited in dir, a cgroup that is not the root.
func controllersOf(dir string) ([]string, error) {
	found, err := words(dir, "cgroup.controllers")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "memory.swap.max")); err == nil {
		found = append(found, "swap")
	}
	slices.Sort(found)
	return found, nil
}

// enable turns on all that dir has for its children. One that refuses (cpu does
// while realtime processes are about) must not keep the others off.
func enable(dir string) error {
	available, err := words(dir, "cgroup.controllers")
	if err != nil {
		return err
	}
	on, err := words(dir, "cgroup.subtree_control")
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range available {
		if !slices.Contains(on, c) {
			errs = append(errs, write(dir, "cgroup.subtree_control", "+"+c))
		}
	}
	return errors.Join(errs...)
}

// prepare gives the scope in dir its init leaf, moves into it the pids given
// and whatever is in dir itself, and enables controllers for the leaves.
func prepare(dir string, pids []int) error {
	leaf := filepath.Join(dir, initLeaf)
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, pid := range pids {
		if err := move(leaf, pid); err != nil {
			return err
		}
	}
	for {
		inside, err := procs(dir)
		if err != nil {
			return err
		}
		if len(inside) == 0 {
			return enable(dir)
		}
		for _, pid := range inside {
			if err := move(leaf, pid); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
}

func move(dir string, pid int) error {
	if err := write(dir, "cgroup.procs", strconv.Itoa(pid)); err != nil {
		return fmt.Errorf("move process %d: %w", pid, err)
	}
	return nil
}

// procs lists the processes in dir itself. One that belongs to another pid
// namespace, shown as 0, can't be moved and is left out.
func procs(dir string) ([]int, error) {
	list, err := words(dir, "cgroup.procs")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, w := range list {
		if pid, err := strconv.Atoi(w); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func populated(dir string) (bool, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return bytes.Contains(b, []byte("populated 1")), err
}

// Kill has the kernel end every process in a cgroup (version 2) and below, and
// does not wait for it. Kernels before 5.14 can't: fs.ErrNotExist.
func Kill(dir string) error {
	if err := write(dir, "cgroup.kill", "1"); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	return nil
}

// kill ends every process in dir and below and waits until none is left.
func kill(ctx context.Context, dir string) error {
	err := write(dir, "cgroup.kill", "1")
	if errors.Is(err, fs.ErrNotExist) {
		if _, gone := os.Stat(dir); errors.Is(gone, fs.ErrNotExist) {
			return nil
		}
		return killEach(ctx, dir) // a kernel before 5.14
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	return awaitEmpty(ctx, dir)
}

// killEach does the work of cgroup.kill by hand: frozen, the processes can't
// fork while they are being killed, and SIGKILL thaws none but ends all.
func killEach(ctx context.Context, dir string) error {
	if err := write(dir, "cgroup.freeze", "1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("freeze cgroup: %w", err)
	}
	for {
		alive, err := populated(dir)
		if err != nil || !alive {
			return err
		}
		if err := killProcs(dir); err != nil {
			return err
		}
		if err := waitEvent(ctx, dir, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// killProcs kills what is in dir and below at this moment.
func killProcs(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return ignoreGone(err)
		}
		pids, err := procs(path)
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // it may be gone already
		}
		return ignoreGone(err)
	})
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// awaitEmpty waits until no process is left in dir and below.
func awaitEmpty(ctx context.Context, dir string) error {
	for {
		alive, err := populated(dir)
		if err != nil || !alive {
			return err
		}
		if err := waitEvent(ctx, dir, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// waitEvent waits until cgroup.events of dir changes, at most for as long as
// given: the file may have changed before it was opened.
func waitEvent(ctx context.Context, dir string, most time.Duration) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("wait for cgroup to empty: %w", err)
	}
	f, err := os.Open(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return ignoreGone(err)
	}
	defer f.Close()
	if alive, err := populated(dir); err != nil || !alive {
		return err
	}
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}
	if _, err := unix.Poll(fds, int(most.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("poll cgroup.events: %w", err)
	}
	return nil
}

// remove removes the empty cgroups of dir and below. Processes that were just
// killed keep theirs busy for a moment.
func remove(ctx context.Context, dir string) error {
	return untilFree(ctx, func() error { return removeOnce(dir) })
}

// vacate removes dir and below with all processes in it. It kills again in each
// turn: what was forked while the others were being killed is there only now.
func vacate(ctx context.Context, dir string) error {
	return untilFree(ctx, func() error {
		if err := killProcs(dir); err != nil {
			return err
		}
		return removeOnce(dir)
	})
}

// untilFree does it again for as long as a cgroup is busy.
func untilFree(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil || !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func removeOnce(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ignoreGone(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeOnce(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	return nil
}

// scopes finds the scopes in the slices below root, sorted by name.
func scopes(root string) ([]string, error) {
	found, err := scopesIn(filepath.Join(root, RootSlice))
	slices.SortFunc(found, func(a, b string) int {
		return strings.Compare(filepath.Base(a), filepath.Base(b))
	})
	return found, err
}

func scopesIn(slice string) ([]string, error) {
	entries, err := os.ReadDir(slice)
	if err != nil {
		return nil, ignoreGone(err)
	}
	var found []string
	for _, e := range entries {
		path := filepath.Join(slice, e.Name())
		switch {
		case !e.IsDir() || !strings.HasPrefix(e.Name(), "shoal-"):
		case strings.HasSuffix(e.Name(), ".scope"):
			found = append(found, path)
		case strings.HasSuffix(e.Name(), ".slice"):
			below, err := scopesIn(path)
			if err != nil {
				return nil, err
			}
			found = append(found, below...)
		}
	}
	return found, nil
}

// slicePath is where a slice lies in the tree: systemd nests them by the dashes
// in their names, a-b.slice in a.slice (systemd.slice(5)).
func slicePath(slice string) string {
	name := strings.TrimSuffix(slice, ".slice")
	var path string
	for i := range name {
		if name[i] == '-' {
			path = filepath.Join(path, name[:i]+".slice")
		}
	}
	return filepath.Join(path, slice)
}
