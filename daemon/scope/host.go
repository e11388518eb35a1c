package scope

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/util"
)

// ErrNotFound says that there is no scope of the given name.
var ErrNotFound = errors.New("no such scope")

// Spec is a pod's scope as it should be.
type Spec struct {
	Name        string // from UnitName
	Slice       string // from Slice
	Description string // for people, "pod namespace/name"
	// PIDs are the first processes of the scope. systemd wants at least one,
	// and children of the host: a process that entered from outside (nsenter
	// into a container that runs the host) can't be moved.
	PIDs      []int
	Resources Resources
	// StopTimeout is how long processes may take to end after SIGTERM when the
	// machine shuts down; zero is 10 s. Host.Stop does not wait for it.
	StopTimeout time.Duration
	// BindsTo is a unit that the scope ends with (systemd.unit(5)); "": none. It is
	// started if it is not there.
	BindsTo string
}

// Unit is a scope that exists.
type Unit struct {
	Name string
	// Cgroup is the scope's directory in the cgroup v2 tree; empty on a host
	// without cgroups.
	Cgroup string
	// Path is Cgroup as seen from the root of the hierarchy, for cgroupsPath of
	// OCI specs: containers are made at Path/<container>.
	Path string
	// Active says that the scope has been started and has not ended.
	Active bool
}

// Host is where pods get their cgroups. It may be used by several goroutines at
// once, one for each scope.
type Host interface {
	// Start makes the scope and moves PIDs into its leaf cgroup "init", with
	// all controllers enabled for the leaves next to it. Where the scope
	// exists already it adds PIDs and sets Resources.
	Start(ctx context.Context, spec Spec) (Unit, error)
	// Update changes a scope's limits while it runs; limits that r leaves out
	// are lifted. ErrNotFound if there is no such scope.
	Update(ctx context.Context, name string, r Resources) error
	// Stop kills every process of the scope at once and returns when they and
	// the cgroups are gone. A scope that does not exist is no error.
	Stop(ctx context.Context, name string) error
	// List finds all scopes, whoever started them, sorted by name.
	List(ctx context.Context) ([]Unit, error)
	// Slices sets what SliceResources decided, making slices as needed.
	Slices(ctx context.Context, want map[string]Resources) error
	// Controllers lists what can be limited: cgroup controllers by their name,
	// and "swap" where memory.swap.max exists. Sorted.
	Controllers() []string
	// CgroupV1 says that Controllers are those of cgroup v1.
	CgroupV1() bool
	// Missing lists those of cpu, cpuset, memory and pids that are not
	// enforced here, for the node's condition.
	Missing() []string
	Close() error
}

// Options says where to make cgroups.
type Options struct {
	// Under is a path below the root of each hierarchy that plain cgroups are
	// made in; empty: the root. systemd has its own idea.
	Under string
}

// Open finds the best host there is. note is one line for people about what
// was found; it names what is not enforced.
//
// A machine that systemd booted is an error if systemd can't be reached: it
// owns the tree, so plain cgroups would fight with it.
func Open(ctx context.Context, o Options, log *slog.Logger) (h Host, note string, err error) {
	if util.IsRunningSystemd() {
		s, err := openSystemd(ctx, log)
		if err != nil {
			return nil, "", fmt.Errorf("systemd runs this host: %w", err)
		}
		return s, "pods run as systemd scopes" + notEnforced(s.Missing()), nil
	}
	p, err := openPlain(o, log)
	if err != nil {
		return none{}, fmt.Sprintf("systemd is not PID 1 and cgroups can't be written (%v): limits are not enforced: %s",
			err, strings.Join(needed, ", ")), nil
	}
	return p, "systemd is not PID 1: pods run in plain cgroups" + notEnforced(p.Missing()), nil
}

// needed are the controllers without which a limit that users can ask for is
// not enforced.
var needed = []string{"cpu", "cpuset", "memory", "pids"}

func missing(controllers []string) []string {
	return slices.DeleteFunc(slices.Clone(needed), func(c string) bool {
		return slices.Contains(controllers, c)
	})
}

func notEnforced(missing []string) string {
	if len(missing) == 0 {
		return ""
	}
	return "; limits are not enforced: " + strings.Join(missing, ", ")
}

// none is a host without cgroups. Its scopes hold nothing: whoever starts
// processes must end them too.
type none struct{}

func (none) Start(_ context.Context, spec Spec) (Unit, error) {
	return Unit{Name: spec.Name, Active: true}, nil
}
func (none) Update(context.Context, string, Resources) error    { return nil }
func (none) Stop(context.Context, string) error                 { return nil }
func (none) List(context.Context) ([]Unit, error)               { return nil, nil }
func (none) Slices(context.Context, map[string]Resources) error { return nil }
func (none) Controllers() []string                              { return nil }
func (none) CgroupV1() bool                                     { return false }
func (none) Missing() []string                                  { return slices.Clone(needed) }
func (none) Close() error                                       { return nil }
