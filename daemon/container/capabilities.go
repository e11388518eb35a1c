package container

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
)

// defaultCapabilities is what Docker, containerd and CRI-O's users expect
// (github.com/moby/moby/daemon/pkg/oci/caps, defaults.go).
var defaultCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// allCapabilities is capabilities(7) in the kernel's order: the index is the bit.
var allCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// capabilities computes the sets of a container. Inheritable and ambient stay
// empty (CVE-2022-24769), so a user other than root has none after execve.
// What the host itself lacks is left out of defaults and ALL, and is an error
// where it was asked for by name.
func capabilities(cfg Config, sc *v1.SecurityContext) (*specs.LinuxCapabilities, error) {
	host := cfg.Host.Capabilities
	if host == nil {
		host = allCapabilities
	}
	var want []string
	if privileged(sc) {
		want = host
	} else {
		base := defaultCapabilities
		if !filtersDevices(cfg) { // a node that the container makes would open any disk
			base = slices.DeleteFunc(slices.Clone(base), func(c string) bool { return c == "CAP_MKNOD" })
		}
		want = intersect(base, host)
		if sc.Capabilities != nil {
			var err error
			if want, err = change(want, sc.Capabilities, host); err != nil {
				return nil, err
			}
		}
	}
	want = slices.Clone(want)
	slices.Sort(want)
	return &specs.LinuxCapabilities{Bounding: want, Effective: want, Permitted: want}, nil
}

// filtersDevices says whether the container's cgroup can hold a device filter.
// crun raises RLIMIT_MEMLOCK to load one and gives up where it may not.
func filtersDevices(cfg Config) bool {
	caps := cfg.Host.Capabilities
	return cfg.CgroupParent != "" && (caps == nil || slices.Contains(caps, "CAP_SYS_RESOURCE") && slices.Contains(caps, "CAP_SYS_ADMIN"))
}

// change applies add and drop as containerd does: ALL first, then names, so
// that dropping ALL and adding one leaves that one, and a drop beats an add.
func change(base []string, c *v1.Capabilities, host []string) ([]string, error) {
	add, addAll, err := names(c.Add)
	if err != nil {
		return nil, err
	}
	drop, dropAll, err := names(c.Drop)
	if err != nil {
		return nil, err
	}
	want := base
	if addAll {
		want = host
	}
	if dropAll {
		want = nil
	}
	for _, name := range add {
		if !slices.Contains(host, name) {
			return nil, configError("capability %s is not available on this host", name)
		}
	}
	want = slices.Concat(want, add)
	want = slices.DeleteFunc(want, func(name string) bool { return slices.Contains(drop, name) })
	slices.Sort(want)
	return slices.Compact(want), nil
}

// names spells capabilities as the kernel does; the second value says that
// ALL was among them.
func names(list []v1.Capability) ([]string, bool, error) {
	var out []string
	all := false
	for _, c := range list {
		name := strings.ToUpper(string(c))
		if name == "ALL" {
			all = true
			continue
		}
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		if !slices.Contains(allCapabilities, name) {
			return nil, false, configError("unknown capability %q", string(c))
		}
		out = append(out, name)
	}
	return out, all, nil
}

func intersect(want, have []string) []string {
	var out []string
	for _, c := range want {
		if slices.Contains(have, c) {
			out = append(out, c)
		}
	}
	return out
}

func privileged(sc *v1.SecurityContext) bool { return sc.Privileged != nil && *sc.Privileged }
