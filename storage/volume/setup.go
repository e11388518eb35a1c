package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Setup makes the pod's volumes below dir, an absolute path that only root can write, and says where each one is.
// Calling it again changes nothing but volumes of files whose content changed: those are swapped as a whole. pod must
// have Kubernetes' defaults.
//
// The error is Errors, one for each volume that is not as it should be. A volume that was ready before and cannot be
// brought up to date (its configMap is gone) is in both results and keeps its old files: so a pod may start when every
// volume is in the map, as with the kubelet.
func Setup(ctx context.Context, pod *v1.Pod, dir string, objs Objects, node NodeInfo) (map[string]Mounted, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make volumes: %w", err)
	}
	s := setup{pod: pod, dir: dir, objs: objs, node: node}
	ready := make(map[string]Mounted, len(pod.Spec.Volumes))
	var errs Errors
	for _, vol := range pod.Spec.Volumes {
		if ctx.Err() != nil {
			return ready, append(errs, &Error{Volume: vol.Name, Err: context.Cause(ctx)})
		}
		m, err := s.volume(vol)
		if err != nil {
			errs = append(errs, &Error{Volume: vol.Name, Err: err})
		}
		if m.Path != "" {
			ready[vol.Name] = m
		}
	}
	if len(errs) > 0 {
		return ready, errs
	}
	return ready, nil
}

// setup is what all volumes of one call share.
type setup struct {
	pod  *v1.Pod
	dir  string
	objs Objects
	node NodeInfo
}

// volume makes one volume. It may return both a path and an error, as Setup explains.
func (s setup) volume(vol v1.Volume) (Mounted, error) {
	path := filepath.Join(s.dir, vol.Name)
	switch {
	case vol.HostPath != nil:
		return hostPath(vol.HostPath)
	case vol.EmptyDir != nil:
		if err := s.emptyDir(vol.Name, vol.EmptyDir.Medium, vol.EmptyDir.SizeLimit); err != nil {
			return Mounted{}, err
		}
		return Mounted{Path: path}, nil
	case HasContent(vol):
		return s.files(vol, path)
	}
	return Mounted{}, unsupported(vol)
}

// emptyDir makes an empty directory on the medium, unless it is there already. What a container did to its owner and
// mode since is left alone.
func (s setup) emptyDir(name string, medium v1.StorageMedium, limit *resource.Quantity) error {
	who := ownersFor(s.pod, s.node.FirstID)
	switch medium {
	case v1.StorageMediumDefault:
		return makeDir(s.dir, name, who)
	case v1.StorageMediumMemory:
		return mountTmpfs(filepath.Join(s.dir, name), tmpfs{size: tmpfsSize(s.pod, limit, s.node), who: who})
	}
	return fmt.Errorf("storage medium %q is not supported", medium)
}

// files makes a volume of files. Secrets never reach a disk; configMaps lie on one, because the kernel charges a tmpfs
// to whoever writes it, and that is the daemon (the kubelet's reason, too).
func (s setup) files(vol v1.Volume, path string) (Mounted, error) {
	mounted := Mounted{Path: path, ReadOnly: true}
	files, err := Content(s.pod, vol, s.objs, s.node)
	if err != nil {
		if s.hasFiles(vol, path) {
			return mounted, err
		}
		return Mounted{}, err
	}
	if err := s.emptyDir(vol.Name, mediumOf(vol), nil); err != nil {
		return Mounted{}, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return Mounted{}, fmt.Errorf("open volume: %w", err)
	}
	defer root.Close()
	for i := range files {
		files[i].UID += int(s.node.FirstID)
		files[i].GID += int(s.node.FirstID)
	}
	for _, nested := range nestedMountpoints(vol.Name, s.pod) {
		if err := root.MkdirAll(nested, 0o755); err != nil {
			return Mounted{}, fmt.Errorf("unable to create nested volume mountpoints: %w", err)
		}
	}
	if err := writeFiles(root, files, ownersFor(s.pod, s.node.FirstID), time.Now()); err != nil {
		if s.hasFiles(vol, path) {
			return mounted, err
		}
		return Mounted{}, err
	}
	return mounted, nil
}

// mediumOf is where a volume of files lives.
func mediumOf(vol v1.Volume) v1.StorageMedium {
	if vol.ConfigMap != nil {
		return v1.StorageMediumDefault
	}
	return v1.StorageMediumMemory
}

// hasFiles says whether an earlier Setup finished the volume.
func (s setup) hasFiles(vol v1.Volume, path string) bool {
	if mediumOf(vol) == v1.StorageMediumMemory {
		if ok, err := isTmpfs(path); err != nil || !ok {
			return false
		}
	}
	_, err := os.Lstat(filepath.Join(path, dataLink))
	return !errors.Is(err, os.ErrNotExist)
}
