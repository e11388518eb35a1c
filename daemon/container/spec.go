package container

import (
	"path"
	"regexp"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/securitycontext"
)

var validID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{12,127}$`)

// Spec is the OCI runtime specification of one container. It looks at nothing
// but cfg; what the host adds is in cfg.Host (see [Config.Load]). Errors are
// of type [*Error].
func Spec(cfg Config) (*specs.Spec, error) {
	if !validID.MatchString(cfg.ID) {
		return nil, &Error{CreateContainerError, errInvalidID(cfg.ID)}
	}
	if u := cfg.Pod.Spec.HostUsers; u != nil && !*u && cfg.Sandbox.UserNS == "" {
		return nil, &Error{CreateContainerError, errHostUsers}
	}
	sc := securitycontext.DetermineEffectiveSecurityContext(cfg.Pod, cfg.Container)
	process, err := process(cfg, sc)
	if err != nil {
		return nil, err
	}
	list, err := mounts(cfg, sc)
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{
		Version: "1.0.2", // the newest that crun 1.8 and runc 1.1 both know
		Process: process,
		Root:    &specs.Root{Path: cfg.Rootfs, Readonly: sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem},
		Mounts:  list,
		Linux: &specs.Linux{
			Namespaces:        namespaces(cfg, sc),
			RootfsPropagation: rootPropagation(cfg.Mounts),
			MaskedPaths:       cfg.Masked,
		},
	}
	if privileged(sc) {
		spec.Linux.Devices = cfg.Host.Devices
	} else {
		spec.Linux.MaskedPaths = slices.Concat(securitycontext.ConvertToRuntimeMaskedPaths(sc.ProcMount), cfg.Masked)
		spec.Linux.ReadonlyPaths = securitycontext.ConvertToRuntimeReadonlyPaths(sc.ProcMount)
	}
	spec.Linux.UIDMappings, spec.Linux.GIDMappings = cfg.Sandbox.Users.mappings(), cfg.Sandbox.Users.mappings()
	if cfg.CgroupParent != "" {
		spec.Linux.CgroupsPath = path.Join("/", cfg.CgroupParent, Leaf(cfg.Container.Name))
		spec.Linux.Resources = resources(cfg, sc)
	}
	spec.Linux.Seccomp, err = filter(cfg, sc, spec)
	return spec, err
}

func process(cfg Config, sc *v1.SecurityContext) (*specs.Process, error) {
	args, err := Command(cfg.Container, cfg.Image)
	if err != nil {
		return nil, err
	}
	who, home, err := user(cfg, sc)
	if err != nil {
		return nil, err
	}
	if err := cfg.Sandbox.Users.holds(who); err != nil {
		return nil, err
	}
	caps, err := capabilities(cfg, sc)
	if err != nil {
		return nil, err
	}
	hostname := cfg.Sandbox.Hostname
	if hostname == "" {
		hostname = cfg.Host.Hostname
	}
	return &specs.Process{
		Terminal:        cfg.Container.TTY,
		User:            who,
		Args:            args,
		Env:             environment(hostname, home, cfg.Container.TTY, cfg.Image.Env, cfg.Env),
		Cwd:             workingDir(cfg),
		Capabilities:    caps,
		Rlimits:         cfg.Rlimits,
		NoNewPrivileges: securitycontext.AddNoNewPrivileges(sc),
		ApparmorProfile: appArmorProfile(cfg.AppArmor, privileged(sc), cfg.Host.AppArmor),
		OOMScoreAdj:     &cfg.OOMScoreAdj,
	}, nil
}

func workingDir(cfg Config) string {
	dir := cfg.Image.WorkingDir
	if cfg.Container.WorkingDir != "" {
		dir = cfg.Container.WorkingDir
	}
	return path.Join("/", dir)
}

// namespaces joins those of the sandbox. A namespace that is left out is the
// host's own, as hostNetwork, hostIPC and hostPID ask.
func namespaces(cfg Config, sc *v1.SecurityContext) []specs.LinuxNamespace {
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	join := func(kind specs.LinuxNamespaceType, path string) {
		if path != "" {
			list = append(list, specs.LinuxNamespace{Type: kind, Path: path})
		}
	}
	join(specs.UserNamespace, cfg.Sandbox.UserNS)
	join(specs.NetworkNamespace, cfg.Sandbox.NetNS)
	join(specs.UTSNamespace, cfg.Sandbox.UTSNS)
	join(specs.IPCNamespace, cfg.Sandbox.IPCNS)
	switch share := cfg.Pod.Spec.ShareProcessNamespace; {
	case cfg.Pod.Spec.HostPID:
	case share != nil && *share:
		join(specs.PIDNamespace, cfg.Sandbox.PIDNS)
	case cfg.PIDNS != "":
		join(specs.PIDNamespace, cfg.PIDNS)
	default:
		list = append(list, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	// The host's cgroup namespace is not the user namespace's to mount.
	if cfg.CgroupParent != "" && (!privileged(sc) || cfg.Sandbox.UserNS != "") {
		list = append(list, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return list
}

// resources adds the device rules: nothing but what the runtime itself allows
// everyone (null, zero, tty ...), or everything when privileged.
func resources(cfg Config, sc *v1.SecurityContext) *specs.LinuxResources {
	out := specs.LinuxResources{}
	if cfg.Resources != nil {
		out = *cfg.Resources
	}
	if filtersDevices(cfg) {
		out.Devices = append([]specs.LinuxDeviceCgroup{{Allow: privileged(sc), Access: "rwm"}}, out.Devices...)
	} else {
		out.Devices = nil
	}
	return &out
}
