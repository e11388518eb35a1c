package scope

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"k8s.io/utils/cpuset"
)

const unitIface = managerName + ".Unit"

// callTimeout bounds each operation: systemd may be busy, but a host where it
// does not answer for this long has a problem that waiting does not solve.
const callTimeout = 30 * time.Second

// onSystemd makes scopes through systemd.
type onSystemd struct {
	bus         *bus
	log         *slog.Logger
	version     int
	root        string // of the cgroup v2 hierarchy
	prefix      string // of systemd's part of the tree, below root; mostly empty
	controllers []string

	slicesMu sync.Mutex
	slices   map[string][]systemd.Property // what Slices last gave to each
}

func openSystemd(ctx context.Context, log *slog.Logger) (*onSystemd, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	root, err := cgroupRoot()
	if err != nil {
		return nil, err
	}
	h := &onSystemd{bus: newBus(log), log: log, root: root, slices: map[string][]systemd.Property{}}
	var version, prefix string
	err = errors.Join(
		h.get(ctx, managerPath, managerIface, "Version", &version),
		h.get(ctx, managerPath, managerIface, "ControlGroup", &prefix),
	)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	h.version = leadingNumber(version)
	h.prefix = strings.TrimSuffix(prefix, "/init.scope")
	if h.controllers, err = h.findControllers(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// findControllers lists what systemd can hand out: what its root cgroup has. It
// turns controllers on when a unit first needs them, so its own cgroup may lack
// some (cpu, with the default DefaultCPUAccounting=no); but unlike the root that
// one shows whether swap can be limited.
func (h *onSystemd) findControllers() ([]string, error) {
	found, err := words(filepath.Join(h.root, h.prefix), "cgroup.controllers")
	if err != nil {
		return nil, err
	}
	own, err := controllersOf(filepath.Join(h.root, h.prefix, "init.scope"))
	if slices.Contains(own, "swap") {
		found = append(found, "swap")
	}
	slices.Sort(found)
	return found, err
}

// leadingNumber reads 252 from "252.39-1~deb12u1".
func leadingNumber(s string) int {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, _ := strconv.Atoi(s[:end]) // 0, an old one, if there is none
	return n
}

func (h *onSystemd) Controllers() []string { return slices.Clone(h.controllers) }
func (h *onSystemd) CgroupV1() bool        { return false }
func (h *onSystemd) Missing() []string     { return missing(h.controllers) }
func (h *onSystemd) Close() error          { return h.bus.close() }

func (h *onSystemd) unit(name, slice string, active bool) Unit {
	path := filepath.Join("/", h.prefix, slicePath(slice), name)
	return Unit{Name: name, Cgroup: filepath.Join(h.root, path), Path: path, Active: active}
}

func (h *onSystemd) Start(ctx context.Context, spec Spec) (Unit, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	unit := h.unit(spec.Name, spec.Slice, true)
	for {
		err := h.bus.job(ctx, spec.Name, "StartTransientUnit",
			spec.Name, "fail", scopeProperties(spec, h.version), []systemd.PropertyCollection{})
		if err == nil {
			if err := prepare(unit.Cgroup, nil); err != nil {
				return Unit{}, fmt.Errorf("prepare scope %s: %w", spec.Name, err)
			}
			return unit, nil
		}
		if !isBusError(err, errUnitExists) && !errors.Is(err, errLost) {
			return Unit{}, fmt.Errorf("start scope %s: %w", spec.Name, err)
		}
		adopted, err := h.adopt(ctx, spec, unit)
		if adopted || err != nil {
			return unit, err
		}
	}
}

// adopt makes of a scope that exists what spec says. It reports false once the
// scope is gone and may be started.
func (h *onSystemd) adopt(ctx context.Context, spec Spec, unit Unit) (bool, error) {
	for {
		state, err := h.state(ctx, spec.Name)
		if err != nil {
			return false, err
		}
		switch state {
		case "":
			return false, nil
		case "active":
			if err := prepare(unit.Cgroup, spec.PIDs); err != nil {
				return false, fmt.Errorf("prepare scope %s: %w", spec.Name, err)
			}
			return true, h.Update(ctx, spec.Name, spec.Resources)
		case "failed":
			// Collected soon, sooner so.
			err := h.bus.call(ctx, "ResetFailedUnit", []any{spec.Name}, nil)
			if err != nil && !isBusError(err, errNoSuchUnit) {
				return false, fmt.Errorf("reset scope %s: %w", spec.Name, err)
			}
		}
		// A start or stop is under way, and its end may have been signalled
		// already: look again.
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return false, fmt.Errorf("scope %s stays %s: %w", spec.Name, state, context.Cause(ctx))
		}
	}
}

// state is the unit's ActiveState, or empty if it does not exist.
func (h *onSystemd) state(ctx context.Context, name string) (string, error) {
	var path dbus.ObjectPath
	err := h.bus.call(ctx, "GetUnit", []any{name}, []any{&path})
	if isBusError(err, errNoSuchUnit) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for %s: %w", name, err)
	}
	var state, load string
	err = errors.Join(
		h.get(ctx, path, unitIface, "ActiveState", &state),
		h.get(ctx, path, unitIface, "LoadState", &load),
	)
	if isBusError(err, errNoSuchUnit, errUnknownUnit) || load == "not-found" {
		return "", nil
	}
	return state, err
}

func (h *onSystemd) get(ctx context.Context, path dbus.ObjectPath, iface, name string, into any) error {
	var v dbus.Variant
	err := h.bus.callOn(ctx, path, "org.freedesktop.DBus.Properties.Get", []any{iface, name}, []any{&v})
	if err != nil {
		return fmt.Errorf("read %s of systemd: %w", name, err)
	}
	return v.Store(into)
}

func (h *onSystemd) Update(ctx context.Context, name string, r Resources) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	dir, err := h.directory(name)
	if err == nil && dir != "" {
		r, err = lifted(dir, r)
	}
	if err != nil {
		return fmt.Errorf("update %s: %w", name, err)
	}
	err = h.bus.call(ctx, "SetUnitProperties", []any{name, true, properties(r)}, nil)
	if isBusError(err, errNoSuchUnit) {
		return fmt.Errorf("update %s: %w", name, ErrNotFound)
	}
	if err == nil && dir != "" && !r.AllowedCPUs.IsEmpty() {
		err = awaitCPUs(ctx, dir, r.AllowedCPUs)
	}
	if err != nil {
		return fmt.Errorf("update %s: %w", name, err)
	}
	return nil
}

func (h *onSystemd) Stop(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	units, err := h.List(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(units, func(u Unit) bool { return u.Name == name })
	if i < 0 {
		return nil
	}
	if units[i].Cgroup != "" {
		if err := kill(ctx, units[i].Cgroup); err != nil {
			return fmt.Errorf("stop %s: %w", name, err)
		}
	}
	// systemd notices by itself that the cgroup is empty; asking it is how to
	// wait for that.
	err = h.bus.job(ctx, name, "StopUnit", name, "replace")
	if errors.Is(err, errLost) {
		err = h.bus.job(ctx, name, "StopUnit", name, "replace")
	}
	if err != nil && !isBusError(err, errNoSuchUnit) {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	if units[i].Cgroup != "" {
		if err := remove(ctx, units[i].Cgroup); err != nil {
			return fmt.Errorf("stop %s: %w", name, err)
		}
	}
	return nil
}

// unitStatus is one row of ListUnitsByPatterns.
type unitStatus struct {
	Name, Description, Load, Active, Sub, Follows string
	Path                                          dbus.ObjectPath
	JobID                                         uint32
	JobType                                       string
	JobPath                                       dbus.ObjectPath
}

func (h *onSystemd) List(ctx context.Context) ([]Unit, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var rows []unitStatus
	err := h.bus.call(ctx, "ListUnitsByPatterns", []any{[]string{}, []string{"shoal-*.scope"}}, []any{&rows})
	if err != nil {
		return nil, fmt.Errorf("list scopes: %w", err)
	}
	dirs, err := scopes(filepath.Join(h.root, h.prefix))
	if err != nil {
		return nil, fmt.Errorf("list scopes: %w", err)
	}
	var units []Unit
	for _, dir := range dirs {
		i := slices.IndexFunc(rows, func(r unitStatus) bool { return r.Name == filepath.Base(dir) })
		units = append(units, Unit{
			Name: filepath.Base(dir), Cgroup: dir, Path: strings.TrimPrefix(dir, h.root),
			Active: i >= 0 && rows[i].Active == "active",
		})
	}
	for _, r := range rows {
		// Active without a cgroup: somebody removed it, and systemd will see.
		if r.Active == "active" && !slices.ContainsFunc(units, func(u Unit) bool { return u.Name == r.Name }) {
			units = append(units, Unit{Name: r.Name, Active: true})
		}
	}
	slices.SortFunc(units, func(a, b Unit) int { return strings.Compare(a.Name, b.Name) })
	return units, nil
}

func (h *onSystemd) Slices(ctx context.Context, want map[string]Resources) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	h.slicesMu.Lock()
	defer h.slicesMu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if err := h.slice(ctx, name, sliceProperties(want[name]), want[name].AllowedCPUs); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// slice spares systemd what it knows: setting properties costs it milliseconds,
// just when a pod that begins waits for its scope. systemd forgets a slice that
// it stops because nothing is left in it.
func (h *onSystemd) slice(ctx context.Context, name string, want []systemd.Property, cpus cpuset.CPUSet) error {
	_, err := os.Stat(filepath.Join(h.root, h.prefix, slicePath(name)))
	if errors.Is(err, fs.ErrNotExist) {
		delete(h.slices, name)
		err = h.bus.job(ctx, name, "StartUnit", name, "replace")
	}
	if err != nil || len(want) == 0 || reflect.DeepEqual(want, h.slices[name]) {
		return err
	}
	delete(h.slices, name) // until it is known to have worked
	if err := h.bus.call(ctx, "SetUnitProperties", []any{name, true, want}, nil); err != nil {
		return err
	}
	if !cpus.IsEmpty() {
		if err := awaitCPUs(ctx, filepath.Join(h.root, h.prefix, slicePath(name)), cpus); err != nil {
			return err
		}
	}
	h.slices[name] = want
	return nil
}
