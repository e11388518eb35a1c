package container

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
)

// mounts lists the usual file systems of a container and its own mounts, the
// shallow ones first so that none hides another. A mount of the pod takes the
// place of a usual one at or below its path: an emptyDir at /dev/shm, say.
func mounts(cfg Config, sc *v1.SecurityContext) ([]specs.Mount, error) {
	var own []specs.Mount
	for _, m := range cfg.Mounts {
		mount, err := bind(m)
		if err != nil {
			return nil, err
		}
		if m.IDMap {
			mount.UIDMappings, mount.GIDMappings = cfg.Sandbox.Users.mappings(), cfg.Sandbox.Users.mappings()
		}
		own = append(own, mount)
	}
	all := slices.DeleteFunc(usual(cfg, sc), func(u specs.Mount) bool {
		return slices.ContainsFunc(own, func(o specs.Mount) bool { return within(u.Destination, o.Destination) })
	})
	all = append(all, own...)
	slices.SortStableFunc(all, func(a, b specs.Mount) int { return cmp.Compare(depth(a.Destination), depth(b.Destination)) })
	return all, nil
}

// usual follows containerd's internal/cri/server/container_create: /proc, /dev
// and below, /sys, and the container's cgroup when there is one.
func usual(cfg Config, sc *v1.SecurityContext) []specs.Mount {
	sys := "ro"
	if privileged(sc) {
		sys = "rw"
	}
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", sys}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	if cfg.Sandbox.Shm != "" {
		list = append(list, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: cfg.Sandbox.Shm, Options: []string{"rbind", "rprivate", "rw"}})
	}
	if cfg.CgroupParent != "" {
		list = append(list, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", sys}})
	}
	return list
}

func bind(m Mount) (specs.Mount, error) {
	options := []string{"rbind", propagation(m.Propagation)}
	switch {
	case m.ReadOnly && m.RecursiveReadOnly:
		if propagation(m.Propagation) != "rprivate" {
			return specs.Mount{}, configError("mount of %s: recursive read-only needs mount propagation None", m.Destination)
		}
		options = append(options, "rro")
	case m.RecursiveReadOnly:
		return specs.Mount{}, configError("mount of %s: recursive read-only needs read-only", m.Destination)
	case m.ReadOnly:
		options = append(options, "ro")
	default:
		options = append(options, "rw")
	}
	return specs.Mount{Destination: path.Join("/", m.Destination), Type: "bind", Source: m.Source, Options: options}, nil
}

// propagation spells a volume mount's mode for mount(8).
func propagation(mode v1.MountPropagationMode) string {
	switch mode {
	case v1.MountPropagationHostToContainer:
		return "rslave"
	case v1.MountPropagationBidirectional:
		return "rshared"
	}
	return "rprivate"
}

// rootPropagation lets the mounts in a container receive, or send, what its
// root's propagation would otherwise stop.
func rootPropagation(list []Mount) string {
	root := ""
	for _, m := range list {
		switch m.Propagation {
		case v1.MountPropagationBidirectional:
			return "rshared"
		case v1.MountPropagationHostToContainer:
			root = "rslave"
		}
	}
	return root
}

// within says that p is dir or lies below it. A mount at / can't come from a
// pod that passed validation and hides nothing here.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func depth(p string) int { return strings.Count(strings.TrimSuffix(p, "/"), "/") }
