package agent

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"
)

// identity is whom a container's first process runs as, for its status
// (KEP-3619): also what groups the image's own files gave it.
func identity(spec *specs.Spec) *v1.ContainerUser {
	u := spec.Process.User
	linux := &v1.LinuxContainerUser{UID: int64(u.UID), GID: int64(u.GID)}
	for _, gid := range u.AdditionalGids {
		linux.SupplementalGroups = append(linux.SupplementalGroups, int64(gid))
	}
	return &v1.ContainerUser{Linux: linux}
}
