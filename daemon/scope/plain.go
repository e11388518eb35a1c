package scope

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// plain makes cgroups itself, where nobody else looks after the tree.
//
// Processes are tracked in cgroup v2. Where cgroup v1 has the controllers (a
// hybrid machine), limits go there, at the same path in each hierarchy: it is
// where crun and runc put the containers' limits, too.
type plain struct {
	log         *slog.Logger
	root        string            // of the cgroup v2 hierarchy
	under       string            // path below each root, mostly empty
	v1          map[string]string // roots of the v1 hierarchies by controller; empty on a pure v2 machine
	controllers []string
}

func openPlain(o Options, log *slog.Logger) (*plain, error) {
	root, err := cgroupRoot()
	if err != nil {
		return nil, err
	}
	h := &plain{log: log, root: root, under: o.Under}
	base := filepath.Join(root, o.Under, RootSlice)
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, err
	}
	if root != "/sys/fs/cgroup" {
		h.v1 = hierarchiesV1(o.Under)
	}
	if len(h.v1) > 0 {
		h.controllers = sortedKeys(h.v1)
		return h, nil
	}
	h.enableDown(base)
	h.controllers, err = controllersOf(base)
	return h, err
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// hierarchiesV1 finds the v1 controllers that we use and may write to.
func hierarchiesV1(under string) map[string]string {
	found := map[string]string{}
	for _, c := range needed {
		root := filepath.Join("/sys/fs/cgroup", c)
		var s unix.Statfs_t
		if unix.Statfs(root, &s) != nil || s.Type != unix.CGROUP_SUPER_MAGIC {
			continue
		}
		dir := filepath.Join(root, under, RootSlice)
		if os.MkdirAll(dir, 0o755) == nil && (c != "cpuset" || inheritCPUs(root, dir) == nil) {
			found[c] = root
		}
	}
	return found
}

// inheritCPUs gives each cpuset from below root down to dir the CPUs and memory
// nodes of its parent: a new one of cgroup v1 has none, and takes no process.
func inheritCPUs(root, dir string) error {
	rel, err := filepath.Rel(root, dir)
	if err != nil {
		return err
	}
	parent := root
	for name := range strings.SplitSeq(rel, "/") {
		child := filepath.Join(parent, name)
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			own, err := words(child, file)
			if err != nil {
				return err
			}
			if len(own) > 0 {
				continue
			}
			theirs, err := words(parent, file)
			if err == nil {
				err = write(child, file, strings.Join(theirs, ""))
			}
			if err != nil {
				return err
			}
		}
		parent = child
	}
	return nil
}

// enableDown turns controllers on from the root down to dir. One that can't be
// is missed when its file is; that is noticed by whoever looks at Controllers.
func (h *plain) enableDown(dir string) {
	rel, err := filepath.Rel(h.root, dir)
	if err != nil {
		return
	}
	at := h.root
	for name := range strings.SplitSeq(rel, "/") {
		if err := enable(at); err != nil {
			h.log.Debug("cgroup controllers stay off", "cgroup", at, "err", err)
		}
		at = filepath.Join(at, name)
	}
}

func (h *plain) Controllers() []string { return slices.Clone(h.controllers) }
func (h *plain) CgroupV1() bool        { return len(h.v1) > 0 }
func (h *plain) Missing() []string     { return missing(h.controllers) }
func (h *plain) Close() error          { return nil }

func (h *plain) unit(path string) (Unit, error) {
	u := Unit{Name: filepath.Base(path), Cgroup: filepath.Join(h.root, path), Path: path}
	active, err := populated(u.Cgroup)
	u.Active = active
	return u, err
}

func (h *plain) Start(ctx context.Context, spec Spec) (Unit, error) {
	path := filepath.Join("/", h.under, slicePath(spec.Slice), spec.Name)
	dir := filepath.Join(h.root, path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Unit{}, fmt.Errorf("start scope %s: %w", spec.Name, err)
	}
	if !h.CgroupV1() {
		h.enableDown(dir)
	}
	err := h.apply(path, spec.Resources)
	if err == nil {
		err = prepare(dir, spec.PIDs)
	}
	if err == nil {
		// After cgroup v2, by which processes are tracked: what they fork in
		// between is unlimited rather than lost.
		err = h.joinV1(path, spec.PIDs)
	}
	if err != nil {
		return Unit{}, fmt.Errorf("start scope %s: %w", spec.Name, err)
	}
	return h.unit(path)
}

// joinV1 moves pids into the pod's v1 cgroups; those may hold processes beside
// children.
func (h *plain) joinV1(path string, pids []int) error {
	for _, root := range h.v1 {
		for _, pid := range pids {
			if err := move(filepath.Join(root, path), pid); err != nil {
				return err
			}
		}
	}
	return nil
}

// apply writes r to the cgroups at path, as far as there are controllers.
func (h *plain) apply(path string, r Resources) error {
	if !h.CgroupV1() {
		var err error
		if r, err = lifted(filepath.Join(h.root, path), r); err != nil {
			return err
		}
	}
	list := settings(r)
	if h.CgroupV1() {
		list = settingsV1(r)
	}
	for c, root := range h.v1 {
		dir := filepath.Join(root, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if c != "cpuset" {
			continue
		}
		if err := inheritCPUs(root, dir); err != nil {
			return err
		}
	}
	for _, s := range list {
		if !slices.Contains(h.controllers, s.Controller) {
			continue
		}
		root := h.root
		if h.CgroupV1() {
			root = h.v1[s.Controller]
		}
		if err := write(filepath.Join(root, path), s.File, s.Value); err != nil {
			return fmt.Errorf("set %s to %s: %w", s.File, strconv.Quote(s.Value), err)
		}
	}
	return nil
}

// find is the scope's path below the hierarchies' roots; it may be in any slice.
func (h *plain) find(name string) (string, error) {
	dirs, err := scopes(filepath.Join(h.root, h.under))
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(dirs, func(dir string) bool { return filepath.Base(dir) == name })
	if i < 0 {
		return "", fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return strings.TrimPrefix(dirs[i], h.root), nil
}

func (h *plain) Update(_ context.Context, name string, r Resources) error {
	path, err := h.find(name)
	if err == nil {
		err = h.apply(path, r)
	}
	if err != nil {
		return fmt.Errorf("update scope: %w", err)
	}
	return nil
}

func (h *plain) Stop(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	path, err := h.find(name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil {
		err = kill(ctx, filepath.Join(h.root, path))
	}
	// cgroup v2 goes last: as long as it is there, Stop can be repeated.
	if err == nil {
		err = h.removeV1(ctx, path)
	}
	if err == nil {
		err = remove(ctx, filepath.Join(h.root, path))
	}
	if err != nil {
		return fmt.Errorf("stop scope %s: %w", name, err)
	}
	return nil
}

// removeV1 removes what is at path in every v1 hierarchy: OCI runtimes make
// cgroups in all of them, not only where we did, and leave the parents behind.
func (h *plain) removeV1(ctx context.Context, path string) error {
	if !h.CgroupV1() {
		return nil
	}
	entries, err := os.ReadDir("/sys/fs/cgroup")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "unified" {
			// What is only here, and not in cgroup v2, would keep it busy.
			dir := filepath.Join("/sys/fs/cgroup", e.Name(), path)
			if err := vacate(ctx, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *plain) List(context.Context) ([]Unit, error) {
	dirs, err := scopes(filepath.Join(h.root, h.under))
	if err != nil {
		return nil, fmt.Errorf("list scopes: %w", err)
	}
	var units []Unit
	for _, dir := range dirs {
		u, err := h.unit(strings.TrimPrefix(dir, h.root))
		if err != nil {
			return nil, fmt.Errorf("list scopes: %w", err)
		}
		units = append(units, u)
	}
	return units, nil
}

func (h *plain) Slices(_ context.Context, want map[string]Resources) error {
	for name, r := range want {
		path := filepath.Join("/", h.under, slicePath(name))
		if err := os.MkdirAll(filepath.Join(h.root, path), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("set %s: %w", name, err)
		}
		if !h.CgroupV1() {
			h.enableDown(filepath.Join(h.root, path))
		}
		if err := h.apply(path, r); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}
