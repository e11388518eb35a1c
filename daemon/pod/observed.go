// Package pod decides what to do next for one pod, and what its status is.
//
// It is the pure half of what the kubelet does for a pod: from the pod as it
// is wanted and what was observed of it on this host, at a time that is passed
// in, Decide says which processes to start and to end, when to look again, and
// what to tell others. daemon/agent observes and acts. Nothing here does either.
package pod

import (
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/probe"
)

// State is where a container's or a sandbox's process is.
type State string

// StartError is the reason of a container whose command could not be executed,
// with its exit code; containerd's (internal/cri/server/container_start.go).
const (
	StartError         = "StartError"
	StartErrorExitCode = 128
)

// The states of an attempt to run a container.
const (
	Created State = "created" // made, its first instruction not run
	Running State = "running"
	Exited  State = "exited"
)

// Observed is what the host shows of one pod.
type Observed struct {
	Sandbox    Sandbox
	Volumes    Volumes
	Containers map[string]Container // by name, init containers among them
	Hold       bool                 // others still run on processors that the pod is to have: nothing starts yet
	Resize     *Failure             // edited resources that can't be had: Infeasible or Deferred; the pod has the former ones
	HostIPs    []string             // the node's addresses, for status
	Ending     *Ending              // why the node ends the pod; nil: it does not
	Rejected   *Rejection           // why the node refuses it (Admit); nil: it does not, or did before
	Conditions []v1.PodCondition    // set by others than this daemon, for readiness gates
	Serves     bool                 // it is being deleted, and a service leads to it: others may not have heard yet
	Claim      *Claim               // of an exclusive pod; nil: it is none
	Disrupted  *v1.PodCondition     // why others have deleted it, if they say so: the condition DisruptionTarget
}

// Sandbox is what holds a pod's namespaces and its cgroup.
type Sandbox struct {
	Ready   bool     // its pause process lives, its scope and addresses are there
	Present bool     // something of it is there: a scope, a mount, an address
	Busy    bool     // it is being made or taken down
	IPs     []string // the pod's addresses, the primary one first
	Failure *Failure // why it could not be made

	StopFailure *Failure // why it could not be taken down

	Outgrown      bool     // its scope's limits are not those that the pod asks for
	ResizeFailure *Failure // why they could not be changed
}

// Volumes is what holds a pod's files.
type Volumes struct {
	Stale   bool     // what they should hold may have changed
	Busy    bool     // they are being brought up to date
	Missing bool     // not all are there: no container can be made
	Failure *Failure // why the newest try failed; nil after success
}

// Container is what the host shows of one container: its newest attempt and
// how the one before it ended.
type Container struct {
	Busy    bool     // an attempt is being made, or cleaned up after
	Making  bool     // an attempt is being made: image, root, process
	Image   string   // the image ID of the newest attempt
	Current *Attempt // nil: never made
	Last    *v1.ContainerStateTerminated
	Failure *Failure // why the newest try to make one failed; nil after success
	Backoff Backoff  // between the exits

	PostStarting bool // its postStart hook is being run
	PreStopping  bool // its preStop hook is being run

	StopFailure   *Failure // why it could not be sent a signal
	ResizeFailure *Failure // why new resources could not be put in force
	Unsupervised  bool     // its supervisor was killed: nobody takes its output and its exit code
	CPUs          CPUs     // where it is to run
}

// CPUs is where a container runs. The zero value is where its pod does.
type CPUs struct {
	Set string `json:"set,omitempty"` // as in cpuset.cpus
	Own bool   `json:"own,omitempty"` // it has them to itself
	// Unsure says that this was not put in force to the end, or may not have been.
	Unsure bool `json:"unsure,omitempty"`
}

// Attempt is one run of a container. Its number is the container's restartCount.
type Attempt struct {
	Number     int
	ID         string
	State      State
	Started    time.Time
	Finished   time.Time
	ExitCode   int
	OOMKilled  bool
	Reason     string // set where the exit needs another than Completed or Error
	Message    string
	Signalled  time.Time               // when TERM was sent; zero: not
	Grace      time.Duration           // between TERM and KILL, from Signalled
	Killed     bool                    // KILL was sent
	Image      string                  // spec.image it was made from
	ImageID    string                  // as the status has it
	StoreID    string                  // the image's in this host's store
	Resources  v1.ResourceRequirements // in force
	User       *v1.ContainerUser       // whom its first process ran as; nil: not known, or never made
	CPUs       CPUs                    // in force
	OldSandbox bool                    // it ran in a sandbox that is gone
	Reset      bool                    `json:",omitempty"` // with all others, for a rule that restarts all containers: what it did does not count

	Probes           Probes    `json:",omitzero"` // what they said
	PostStart        Hook      `json:",omitempty"`
	PostStartMessage string    `json:",omitempty"` // why it failed
	PreStop          Hook      `json:",omitempty"`
	Stopping         time.Time `json:",omitzero"` // when its preStop hook was begun, and with it Grace; zero: not
}

// Hook is how far a lifecycle hook is. The zero value is that of a hook that is
// not to be run (now).
type Hook string

// A hook that was under way when the daemon died is run again: hooks are
// delivered at least once.
const (
	HookPending Hook = "pending" // to be run, or being run
	HookDone    Hook = "done"
	HookFailed  Hook = "failed"
)

// Probes are the states of a run's probes.
type Probes struct {
	Startup   probe.State `json:",omitzero"`
	Liveness  probe.State `json:",omitzero"`
	Readiness probe.State `json:",omitzero"`
}

// Of is the state of the probe of a kind, to be read or set.
func (p *Probes) Of(k probe.Kind) *probe.State {
	switch k {
	case probe.Startup:
		return &p.Startup
	case probe.Liveness:
		return &p.Liveness
	}
	return &p.Readiness
}

// Failure is why something could not be made. Reason and Message are the
// kubelet's (ErrImagePull, CreateContainerConfigError, ...).
type Failure struct {
	Reason     string
	Message    string
	At         time.Time
	Tries      int   // in a row, of that generation
	Generation int64 // of the pod that it is about: an edited pod is tried at once
}

// retry is when to try again after a failure: the kubelet's back-off for
// images, containers and sandboxes alike. An image that must not be pulled may
// be loaded by somebody: looking costs little.
func (f *Failure) retry() time.Time {
	if f.Reason == ErrImageNeverPull {
		return f.At.Add(firstBackoff)
	}
	return f.At.Add(delay(f.Tries))
}

// again is when to try again to stop something: soon, always.
func (f *Failure) again() time.Time { return f.At.Add(firstBackoff) }
