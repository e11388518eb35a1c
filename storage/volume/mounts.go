package volume

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// Mount is one volumeMount of a container.
type Mount struct {
	Volume string
	Source string // on the host
	// SubPath is the part of the volume that is meant; clean, relative, without "..". While it is set, Source is the
	// whole volume and must not be mounted: BindSubPaths makes the mount that may be.
	SubPath           string
	Destination       string // in the container, absolute
	ReadOnly          bool
	RecursiveReadOnly bool
	Propagation       v1.MountPropagationMode // never ""; None unless the container asks for another
	HostIDs           bool                    // as Mounted's
	FirstID           uint32                  // of what BindSubPaths makes in the volume, as NodeInfo's; 0 with HostIDs
}

// Mounts is what container c mounts of the pod's volumes vols, in the order of its volumeMounts, as the kubelet
// decides it (pkg/kubelet makeMounts), errors in its words. env is the container's environment, for subPathExpr.
func Mounts(c *v1.Container, vols map[string]Mounted, env map[string]string, node NodeInfo) ([]Mount, error) {
	mounts := make([]Mount, 0, len(c.VolumeMounts))
	for _, vm := range c.VolumeMounts {
		vol, ok := vols[vm.Name]
		if !ok {
			return nil, fmt.Errorf("cannot find volume %q to mount into container %q", vm.Name, c.Name)
		}
		sub, err := subPath(vm, env)
		if err != nil {
			return nil, err
		}
		propagation, err := mountPropagation(vm.MountPropagation)
		if err != nil {
			return nil, err
		}
		rro, err := recursiveReadOnly(vm, node.RecursiveReadOnly)
		if err != nil {
			return nil, fmt.Errorf("failed to resolve recursive read-only mode: %w", err)
		}
		first := node.FirstID
		if vol.HostIDs {
			first = 0
		}
		mounts = append(mounts, Mount{
			Volume:            vm.Name,
			Source:            vol.Path,
			SubPath:           sub,
			Destination:       path.Clean("/" + vm.MountPath),
			ReadOnly:          vm.ReadOnly || vol.ReadOnly,
			RecursiveReadOnly: rro,
			Propagation:       propagation,
			HostIDs:           vol.HostIDs,
			FirstID:           first,
		})
	}
	return mounts, nil
}

// subPath is vm's subPath or its subPathExpr with $(VAR) replaced, "" for the whole volume.
func subPath(vm v1.VolumeMount, env map[string]string) (string, error) {
	sub := vm.SubPath
	if vm.SubPathExpr != "" {
		missing := map[string]bool{}
		sub = expansion.Expand(vm.SubPathExpr, func(name string) string {
			if env[name] == "" {
				missing[name] = true
			}
			return env[name]
		})
		if len(missing) > 0 {
			return "", fmt.Errorf("missing value for %s", strings.Join(slices.Sorted(maps.Keys(missing)), ", "))
		}
	}
	if sub == "" {
		return "", nil
	}
	if path.IsAbs(sub) {
		return "", fmt.Errorf("error SubPath `%s` must not be an absolute path", sub)
	}
	if err := checkNoBacksteps(sub); err != nil {
		return "", fmt.Errorf("unable to provision SubPath `%s`: %w", sub, err)
	}
	if clean := path.Clean(sub); clean != "." {
		return clean, nil
	}
	return "", nil
}

func mountPropagation(mode *v1.MountPropagationMode) (v1.MountPropagationMode, error) {
	if mode == nil {
		return v1.MountPropagationNone, nil
	}
	switch *mode {
	case v1.MountPropagationNone, v1.MountPropagationHostToContainer, v1.MountPropagationBidirectional:
		return *mode, nil
	}
	return "", fmt.Errorf("invalid MountPropagation mode: %q", *mode)
}

// recursiveReadOnly follows KEP-3857 (pkg/kubelet resolveRecursiveReadOnly).
func recursiveReadOnly(vm v1.VolumeMount, supported bool) (bool, error) {
	mode := vm.RecursiveReadOnly
	if mode == nil || *mode == v1.RecursiveReadOnlyDisabled {
		return false, nil
	}
	if !vm.ReadOnly {
		return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not read-only", vm.Name)
	}
	if p := vm.MountPropagation; p != nil && *p != v1.MountPropagationNone {
		return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not compatible with propagation %q", vm.Name, *p)
	}
	switch {
	case *mode == v1.RecursiveReadOnlyIfPossible:
		return supported, nil
	case *mode != v1.RecursiveReadOnlyEnabled:
		return false, fmt.Errorf("unknown recursive read-only mode %q", *mode)
	case !supported:
		return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not supported by the runtime", vm.Name)
	}
	return true, nil
}
