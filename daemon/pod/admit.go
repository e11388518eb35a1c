package pod

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/util/sysctl"
)

// Reasons of pods that a node refuses; the kubelet's.
const (
	reasonSysctlForbidden = "SysctlForbidden"
	reasonAppArmor        = "AppArmor"
)

// rejectedPrefix begins status.message of a pod that was refused (the kubelet's
// rejectPod).
const rejectedPrefix = "Pod was rejected: "

// Rules is what a node lets pods do.
type Rules struct {
	// UnsafeSysctls are allowed besides the safe ones, by name or by a prefix
	// that ends in "*" (the kubelet's allowedUnsafeSysctls).
	UnsafeSysctls []string
	// AppArmor says that the kernel enforces profiles.
	AppArmor bool
}

// SafeSysctls are those that no pod can harm another or the node with, as of
// Kubernetes 1.36 (pkg/kubelet/sysctl/safe_sysctls.go). All have a namespace in
// every kernel that Shoal runs on.
var SafeSysctls = []string{
	"kernel.shm_rmid_forced",
	"net.ipv4.ip_local_port_range",
	"net.ipv4.ip_local_reserved_ports",
	"net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ping_group_range",
	"net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_rmem",
	"net.ipv4.tcp_syncookies",
	"net.ipv4.tcp_wmem",
}

// Rejection is why a node refuses a pod for good, in the kubelet's words.
type Rejection struct{ Reason, Message string }

// Admit says why a pod that has not run yet is refused; nil when it is not.
func Admit(p *v1.Pod, rules Rules) *Rejection {
	if sc := p.Spec.SecurityContext; sc != nil {
		for _, s := range sc.Sysctls {
			if why := rules.forbids(s.Name, &p.Spec); why != "" {
				return &Rejection{reasonSysctlForbidden, "forbidden sysctl: " + why}
			}
		}
	}
	if why := rules.refusesAppArmor(p); why != "" {
		return &Rejection{reasonAppArmor, "Cannot enforce AppArmor: " + why}
	}
	return nil
}

// forbids says why a sysctl may not be set; "" when it may (pkg/kubelet/sysctl,
// patternAllowlist.validateSysctl).
func (r Rules) forbids(name string, spec *v1.PodSpec) string {
	name = sysctl.NormalizeName(name)
	allowed := slices.Contains(SafeSysctls, name) || slices.ContainsFunc(r.UnsafeSysctls, func(pattern string) bool {
		prefix, isPrefix := strings.CutSuffix(sysctl.NormalizeName(pattern), "*")
		return name == prefix || isPrefix && strings.HasPrefix(name, prefix)
	})
	if !allowed {
		return fmt.Sprintf("%q not allowlisted", name)
	}
	switch ns, _, _ := sysctl.GetNamespace(name); {
	case ns == sysctl.IPCNamespace && spec.HostIPC, ns == sysctl.NetNamespace && spec.HostNetwork:
		return fmt.Sprintf("%q not allowed with host %s enabled", name, ns)
	}
	return ""
}

// refusesAppArmor says why the pod's profiles can't be enforced (pkg/security/
// apparmor, validator.Validate). A pod that names none runs everywhere.
func (r Rules) refusesAppArmor(p *v1.Pod) string {
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			profile := AppArmorProfile(p, &list[i])
			if profile == nil || profile.Type == v1.AppArmorProfileTypeUnconfined {
				continue
			}
			if !r.AppArmor {
				return "AppArmor is not enabled on the host"
			}
			if profile.Type == v1.AppArmorProfileTypeLocalhost && (profile.LocalhostProfile == nil || strings.TrimSpace(*profile.LocalhostProfile) == "") {
				return fmt.Sprintf("invalid empty AppArmor profile name: %q", profile)
			}
		}
	}
	return ""
}

// AppArmorProfile is the profile that a container asks for: its own, else that
// of the annotation from before there was a field, else its pod's; nil when
// nobody names one (pkg/security/apparmor, GetProfile).
func AppArmorProfile(p *v1.Pod, c *v1.Container) *v1.AppArmorProfile {
	if sc := c.SecurityContext; sc != nil && sc.AppArmorProfile != nil {
		return sc.AppArmorProfile
	}
	switch value := p.Annotations[v1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+c.Name]; {
	case value == v1.DeprecatedAppArmorBetaProfileRuntimeDefault:
		return &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeRuntimeDefault}
	case value == v1.DeprecatedAppArmorBetaProfileNameUnconfined:
		return &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeUnconfined}
	case strings.HasPrefix(value, v1.DeprecatedAppArmorBetaProfileNamePrefix):
		name := strings.TrimPrefix(value, v1.DeprecatedAppArmorBetaProfileNamePrefix)
		return &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeLocalhost, LocalhostProfile: &name}
	}
	if sc := p.Spec.SecurityContext; sc != nil {
		return sc.AppArmorProfile
	}
	return nil
}

// rejected says whether the pod was refused, now or before.
func (d *decider) rejected() bool {
	return d.seen.Rejected != nil || d.pod.Status.Phase == v1.PodFailed && strings.HasPrefix(d.pod.Status.Message, rejectedPrefix)
}

// rejectedStatus is the status of a pod that was refused: nothing of it ran.
func (d *decider) rejectedStatus() v1.PodStatus {
	s := *d.pod.Status.DeepCopy()
	s.ObservedGeneration = d.pod.Generation
	if r := d.seen.Rejected; r != nil {
		s.Phase, s.Reason, s.Message = v1.PodFailed, r.Reason, rejectedPrefix+r.Message
	}
	return s
}
