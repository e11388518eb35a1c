package cure

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// security is what a pod asks for and may not have.
var security = []rule{
	says(`^unknown capability "([^"]+)"`, func(a about, m []string) string {
		return at(a.capability(m[1]), "write a name of capabilities(7), without CAP_, such as NET_ADMIN")
	}),
	says(`^capability (\S+) is not available on this host`, func(a about, m []string) string {
		return at(a.capability(strings.TrimPrefix(m[1], "CAP_")), "leave it out: the host itself runs without it")
	}),
	says(`container's runAsUser breaks non-root policy`, func(a about, _ []string) string {
		return at(a.securityField(func(sc *v1.SecurityContext) bool { return sc.RunAsUser != nil }, "runAsUser"), "give a number other than 0, or leave out runAsNonRoot")
	}),
	says(`image will run as root|image has non-numeric user`, func(a about, _ []string) string {
		return at(a.field("securityContext.runAsUser"), "give the number of a user other than root, take an image whose USER is such a number, or leave out runAsNonRoot")
	}),
	says(`^seccomp profile`, func(a about, _ []string) string {
		field := a.securityField(func(sc *v1.SecurityContext) bool { return sc.SeccompProfile != nil }, "seccompProfile.localhostProfile")
		return at(field, "put the profile below /var/lib/kubelet/seccomp on this host, or set type: RuntimeDefault")
	}),
	says(`AppArmor is not enabled on the host`, func(a about, _ []string) string {
		return at(a.appArmor(), "leave the profile out, or have the kernel boot with AppArmor (Debian's does, with the package apparmor)")
	}),
	says(`forbidden sysctl: "([^"]+)" not allowlisted`, func(a about, m []string) string {
		field := "spec.securityContext.sysctls"
		if !namespaced(m[1]) {
			return at(field, "leave it out: it is one setting for the whole host, made in /etc/sysctl.d")
		}
		return at(field, "leave it out, or allow it in allowed_unsafe_sysctls in [security] of shoal.toml")
	}),
	says(`not allowed with host (\S+) enabled`, func(a about, m []string) string {
		return at("spec.securityContext.sysctls", "leave it out: the pod shares the host's own, made in /etc/sysctl.d")
	}),
	says("can't set `spec.hostUsers: false`", func(a about, _ []string) string {
		return at("spec.hostUsers", "leave it out, and set runAsUser to a number other than 0")
	}),
}

// namespaced says whether pods can have a value of their own (k8s.io/
// component-helpers/node/util/sysctl).
func namespaced(name string) bool {
	for _, prefix := range []string{"net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// capability is the field that asks for one.
func (a about) capability(name string) string {
	if a.spec == nil || a.spec.SecurityContext == nil || a.spec.SecurityContext.Capabilities == nil {
		return a.field("securityContext.capabilities")
	}
	caps := a.spec.SecurityContext.Capabilities
	same := func(c v1.Capability) bool { return plainCapability(string(c)) == plainCapability(name) }
	if i := slices.IndexFunc(caps.Add, same); i >= 0 {
		return a.field(fmt.Sprintf("securityContext.capabilities.add[%d]", i))
	}
	if i := slices.IndexFunc(caps.Drop, same); i >= 0 {
		return a.field(fmt.Sprintf("securityContext.capabilities.drop[%d]", i))
	}
	return a.field("securityContext.capabilities")
}

func plainCapability(name string) string { return strings.TrimPrefix(strings.ToUpper(name), "CAP_") }

// securityField is a field of the container's security context if the container
// sets it, else of the pod's.
func (a about) securityField(sets func(*v1.SecurityContext) bool, name string) string {
	if a.spec != nil && a.spec.SecurityContext != nil && sets(a.spec.SecurityContext) {
		return a.field("securityContext." + name)
	}
	return "spec.securityContext." + name
}

// appArmor is the first field that names a profile.
func (a about) appArmor() string {
	for path, c := range containers(a.pod) {
		if c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil {
			return path + ".securityContext.appArmorProfile"
		}
	}
	if sc := a.pod.Spec.SecurityContext; sc != nil && sc.AppArmorProfile != nil {
		return "spec.securityContext.appArmorProfile"
	}
	return "metadata.annotations"
}
