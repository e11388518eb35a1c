package cure

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// about is the pod and the container that something was said of.
type about struct {
	pod  *v1.Pod
	spec *v1.Container // nil: the pod as a whole, or a container that it has no more
	path string        // of spec: spec.containers[0]; "" without one
}

func find(p *v1.Pod, container string) about {
	a := about{pod: p}
	for path, c := range containers(p) {
		if c.Name == container {
			a.spec, a.path = c, path
		}
	}
	return a
}

// containers are all of a pod's, by their path, in its order.
func containers(p *v1.Pod) func(yield func(string, *v1.Container) bool) {
	return func(yield func(string, *v1.Container) bool) {
		for i := range p.Spec.InitContainers {
			if !yield(fmt.Sprintf("spec.initContainers[%d]", i), &p.Spec.InitContainers[i]) {
				return
			}
		}
		for i := range p.Spec.Containers {
			if !yield(fmt.Sprintf("spec.containers[%d]", i), &p.Spec.Containers[i]) {
				return
			}
		}
		for i := range p.Spec.EphemeralContainers {
			c := v1.Container(p.Spec.EphemeralContainers[i].EphemeralContainerCommon)
			if !yield(fmt.Sprintf("spec.ephemeralContainers[%d]", i), &c) {
				return
			}
		}
	}
}

// field is a field of the container; without one, its name alone.
func (a about) field(name string) string { return strings.TrimPrefix(a.path+"."+name, ".") }

// command is the field that says what the container runs, and its program as
// far as the pod says it.
func (a about) command() (field, program string) {
	switch {
	case a.spec == nil:
		return "command", ""
	case len(a.spec.Command) > 0:
		return a.field("command[0]"), a.spec.Command[0]
	case len(a.spec.Args) > 0:
		return a.field("args[0]"), a.spec.Args[0]
	}
	return a.field("image"), ""
}

// image is the container's image, quoted for a sentence.
func (a about) image() string {
	if a.spec == nil || a.spec.Image == "" {
		return "the image"
	}
	return fmt.Sprintf("image %q", a.spec.Image)
}

// volume is the volume of a name and its path.
func (a about) volume(name string) (*v1.Volume, string) {
	for i := range a.pod.Spec.Volumes {
		if v := &a.pod.Spec.Volumes[i]; v.Name == name {
			return v, fmt.Sprintf("spec.volumes[%d]", i)
		}
	}
	return nil, "spec.volumes"
}

// mount is the container's volumeMount that a file lies in: the deepest one;
// nil when it is in the image.
func (a about) mount(file string) (*v1.VolumeMount, string) {
	if a.spec == nil {
		return nil, ""
	}
	var found *v1.VolumeMount
	field := ""
	for i := range a.spec.VolumeMounts {
		m := &a.spec.VolumeMounts[i]
		path := strings.TrimSuffix(m.MountPath, "/")
		if (file == path || strings.HasPrefix(file, path+"/")) && (found == nil || len(m.MountPath) > len(found.MountPath)) {
			found, field = m, a.field(fmt.Sprintf("volumeMounts[%d]", i))
		}
	}
	return found, field
}

// kind is the source of a volume as its field is called, for those that hold
// files of objects; "" for others.
func kind(v *v1.Volume) string {
	switch {
	case v == nil:
	case v.ConfigMap != nil:
		return "configMap"
	case v.Secret != nil:
		return "secret"
	case v.Projected != nil:
		return "projected"
	case v.DownwardAPI != nil:
		return "downwardAPI"
	}
	return ""
}
