package volume

import (
	v1 "k8s.io/api/core/v1"
	resourceutil "k8s.io/kubernetes/pkg/api/v1/resource"
	"k8s.io/kubernetes/pkg/fieldpath"
)

// fromPod is the files of a downwardAPI volume or source: fields of the pod itself.
func fromPod(pod *v1.Pod, items []v1.DownwardAPIVolumeFile, mode *int32, node NodeInfo) (payload, error) {
	if mode == nil {
		return nil, errNoMode
	}
	p := payload{}
	var errs aggregate
	for _, item := range items {
		text, err := podField(pod, item, node)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f := File{Data: []byte(text), Mode: perm(*mode)}
		if item.Mode != nil {
			f.Mode = perm(*item.Mode)
		}
		p.add(item.Path, f)
	}
	return p, errs.orNil()
}

// podField is what item's file says: a field of the pod, or a container's request or limit in units of the divisor,
// rounded up. An unset limit is the node's allocatable.
func podField(pod *v1.Pod, item v1.DownwardAPIVolumeFile, node NodeInfo) (string, error) {
	switch {
	case item.FieldRef != nil:
		return fieldpath.ExtractFieldPathAsString(pod, item.FieldRef.FieldPath)
	case item.ResourceFieldRef != nil:
		ref := item.ResourceFieldRef
		return resourceutil.ExtractResourceValueByContainerNameAndNodeAllocatable(ref, pod, ref.ContainerName, node.Allocatable)
	}
	return "", nil
}
