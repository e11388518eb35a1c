package volume

import (
	"path"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// nestedMountpoints is the directories that the volume called name needs inside it because a container mounts
// something below the place where it mounts this volume, which it cannot create in a read-only one. Only the outermost
// of nested ones: the rest lie inside the other volume (the kubelet's getNestedMountpoints).
func nestedMountpoints(name string, pod *v1.Pod) []string {
	var dirs []string
	for _, mounts := range volumeMounts(pod) {
		var all []string
		for _, vm := range mounts {
			all = append(all, path.Clean("/"+vm.MountPath))
		}
		slices.SortFunc(all, comparePaths) // an outer path comes right before those below it
		for _, vm := range mounts {
			if vm.Name == name {
				dirs = append(dirs, outermostBelow(path.Clean("/"+vm.MountPath), all)...)
			}
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// outermostBelow is those of the sorted paths that lie below base and below no other of them, relative to base.
func outermostBelow(base string, paths []string) []string {
	prefix := strings.TrimSuffix(base, "/") + "/"
	var dirs []string
	last := ""
	for _, p := range paths {
		if p == base || !strings.HasPrefix(p, prefix) || last != "" && (p == last || strings.HasPrefix(p, last+"/")) {
			continue
		}
		last = p
		dirs = append(dirs, strings.TrimPrefix(p, prefix))
	}
	return dirs
}

// volumeMounts is the mounts of each container of the pod, init and ephemeral ones too.
func volumeMounts(pod *v1.Pod) [][]v1.VolumeMount {
	var all [][]v1.VolumeMount
	for _, c := range pod.Spec.InitContainers {
		all = append(all, c.VolumeMounts)
	}
	for _, c := range pod.Spec.Containers {
		all = append(all, c.VolumeMounts)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		all = append(all, c.VolumeMounts)
	}
	return all
}
