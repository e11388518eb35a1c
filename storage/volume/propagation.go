package volume

import (
	"fmt"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
)

// CheckPropagation says why the host cannot propagate mounts as the container asks: Bidirectional needs a source on a
// shared mount, HostToContainer one that is shared or a slave. The kernel would accept the rest and do nothing. Call it
// with what Mounts returned, before BindSubPaths. The words are containerd's.
func CheckPropagation(mounts []Mount) error {
	var host []mount
	for _, m := range mounts {
		if m.Propagation == v1.MountPropagationNone {
			continue
		}
		if host == nil {
			var err error
			if host, err = readMounts(); err != nil {
				return fmt.Errorf("check mount propagation: %w", err)
			}
		}
		source, err := filepath.EvalSymlinks(m.Source)
		if err != nil {
			return fmt.Errorf("check mount propagation: %w", err)
		}
		if err := propagates(source, m.Propagation, host); err != nil {
			return err
		}
	}
	return nil
}

// propagates checks one path, free of links, against the host's mounts.
func propagates(path string, mode v1.MountPropagationMode, host []mount) error {
	on, ok := covering(path, host)
	if !ok {
		return fmt.Errorf("path %q is on no mount", path)
	}
	switch {
	case mode == v1.MountPropagationBidirectional && !on.shared:
		return fmt.Errorf("path %q is mounted on %q but it is not a shared mount", path, on.path)
	case mode == v1.MountPropagationHostToContainer && !on.shared && !on.slave:
		return fmt.Errorf("path %q is mounted on %q but it is not a shared or slave mount", path, on.path)
	}
	return nil
}
