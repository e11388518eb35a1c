package cure

import (
	"fmt"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// outputs are what programs write before they end.
var outputs = join([]rule{
	says(`(?:^|[\s'"])(/[^\s:'"]*)?['"]?: ?Read-only file system|Read-only file system:? ?['"]?(/[^\s'":]*)?`, func(a about, m []string) string {
		return a.readOnly(m[1] + m[2])
	}),
	says(`[bB]ind.*[pP]ermission denied|[pP]ermission denied.*bind`, func(a about, _ []string) string {
		user := a.securityField(func(sc *v1.SecurityContext) bool { return sc.RunAsUser != nil }, "runAsUser")
		if a.pod.Spec.HostNetwork {
			return at(user, "in the host's network only root binds ports below 1024: listen at a higher one, or add capability NET_BIND_SERVICE to the program's file")
		}
		return at(user, "only root binds ports below 1024: listen at a higher one, or set sysctl net.ipv4.ip_unprivileged_port_start to 0 in spec.securityContext.sysctls")
	}),
	says(`(?i)address (?:already )?in use|EADDRINUSE`, func(a about, _ []string) string {
		if a.pod.Spec.HostNetwork {
			return at("spec.hostNetwork", "a program of the host, or of another pod with hostNetwork, listens at this port: choose another one")
		}
		return "the containers of a pod share their ports: have this one listen at another port"
	}),
	says(`(?:^|[\s'"])(/[^\s:'"]*)?['"]?: ?[pP]ermission denied|[pP]ermission denied:? ?['"]?(/[^\s'":]*)?`, func(a about, m []string) string {
		return a.denied(m[1] + m[2])
	}),
	says(`No space left on device`, func(a about, _ []string) string {
		for i, v := range a.pod.Spec.Volumes {
			if v.EmptyDir != nil && v.EmptyDir.Medium == v1.StorageMediumMemory {
				return at(fmt.Sprintf("spec.volumes[%d].emptyDir.sizeLimit", i), "the volume is full: raise it, or leave out medium: Memory")
			}
		}
		return "free space on this host, below /var/lib/shoal"
	}),
	says(`(?:\r|\\r)[’'":]|option -(?:\r|\\r)|\^M`, func(a about, _ []string) string {
		return "the script's lines end as Windows' do: sed -i 's/\\r$//' it, and set eol=lf for it in .gitattributes"
	}),
	says(`(?i)(?:bad address|could not resolve host|name or service not known|temporary failure in name resolution|no such host|nodename nor servname)`, func(a about, _ []string) string {
		return "the name that the program looks up is not known here: this version runs no Services; use an address, or hostAliases"
	}),
}, commands)

// readOnly is the cure of a write to what is read-only.
func (a about) readOnly(file string) string {
	m, field := a.mount(file)
	switch {
	case m == nil:
		return at(a.field("securityContext.readOnlyRootFilesystem"), "mount an emptyDir where the program writes%s", space(file))
	case m.ReadOnly:
		return at(field+".readOnly", "leave it out if the program is to write%s", space(file))
	}
	v, where := a.volume(m.Name)
	if k := kind(v); k != "" {
		return at(where+"."+k, "files of such a volume are read-only: have the program write to an emptyDir, or copy them there in an init container")
	}
	return at(field, "the host's file system behind it is read-only")
}

// denied is the cure of a file that the container's user may not use.
func (a about) denied(file string) string {
	m, _ := a.mount(file)
	if m == nil {
		return ""
	}
	v, where := a.volume(m.Name)
	user := "the container's user"
	if a.spec.SecurityContext != nil && a.spec.SecurityContext.RunAsUser != nil {
		user = "user " + strconv.FormatInt(*a.spec.SecurityContext.RunAsUser, 10)
	}
	if v != nil && v.HostPath != nil {
		return at(where+".hostPath", "%s may not write it: chown %s on this host (fsGroup does not change a hostPath)", user, v.HostPath.Path)
	}
	return at("spec.securityContext.fsGroup", "set the group that %s is to use the volume with", user)
}

func space(file string) string {
	if file == "" {
		return ""
	}
	return " (" + strings.TrimSpace(file) + ")"
}
