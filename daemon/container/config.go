package container

import (
	imgv1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
)

// Config is one container as it is wanted. Everything that takes the API or
// the network is resolved already; [Config.Load] adds what only the host knows.
type Config struct {
	ID        string // unique on the host, 13 to 128 letters, digits, '-' or '_' (conmon's journal driver wants more than 12)
	Pod       *v1.Pod
	Container *v1.Container
	Attempt   int          // how many containers of this name the pod had before
	Image     imgv1.Config // defaults for command, environment, user, directory and stop signal
	Rootfs    string       // the root, mounted and writable by the runtime
	Masked    []string     // paths hidden in addition to the usual ones, in privileged containers too
	Env       []string     // the container's own environment, "K=V", resolved, in order
	Mounts    []Mount      // volumes, hosts, resolv.conf, termination log
	Sandbox   Sandbox      // namespaces to join
	PIDNS     string       // a PID namespace to join instead of a new one: a target container's

	CgroupParent string                // the pod's cgroup relative to the cgroup v2 root; empty: no cgroups
	Resources    *specs.LinuxResources // limits of the container's own cgroup; ignored without CgroupParent
	OOMScoreAdj  int
	Rlimits      []specs.POSIXRlimit // empty: those of the daemon

	OCI     string // the OCI runtime, a path; empty: that of [Runtime]
	Dir     string // the bundle directory; made by Create, removed by Delete
	LogPath string // CRI log file; its directory exists

	AppArmor *v1.AppArmorProfile // as the pod names it for this container; nil: it names none

	SeccompRoot    string // directory of Localhost profiles; empty: /var/lib/kubelet/seccomp
	SeccompDefault bool   // RuntimeDefault where the pod names no profile (the kubelet's seccompDefault)

	Host Host // filled in by Load
}

// Mount is one bind mount into the container.
type Mount struct {
	Source            string // a path on the host
	Destination       string // a path in the container; relative ones start at its root
	ReadOnly          bool
	RecursiveReadOnly bool // mounts below Source too; needs ReadOnly
	Propagation       v1.MountPropagationMode
	IDMap             bool // Source has the host's IDs: a pod with a user namespace sees them as its own
}

// Host is what a specification takes from the host and the image's files.
type Host struct {
	Passwd         []byte              // the image's /etc/passwd, empty when it has none
	Group          []byte              // the image's /etc/group, empty when it has none
	SeccompProfile []byte              // the Localhost profile, where one is named
	AppArmor       bool                // the kernel enforces profiles
	Capabilities   []string            // what the daemon may give ("CAP_CHOWN"); nil: all
	Devices        []specs.LinuxDevice // the host's device nodes, for privileged containers
	Hostname       string              // for pods in the host's UTS namespace
}

// Leaf is the name of a container's cgroup below its pod's. The pod's "init"
// holds the pause process and conmon, and a container may be called that too;
// Kubernetes' names have no underscore.
func Leaf(name string) string {
	if name == "init" {
		return "init_"
	}
	return name
}
