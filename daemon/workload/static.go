package workload

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/manifests"
)

// Static says whether a pod is a static one. Its node is its controller, so
// that no other takes it over, and a file declares it nevertheless.
func Static(p *v1.Pod) bool {
	ref := metav1.GetControllerOf(p)
	return p.Annotations[manifests.AnnotationConfigHash] != "" && ref != nil && ref.Kind == KindNode.Kind
}

// marks are the annotations by which Shoal and the kubelet tell where a pod
// comes from. Nobody else may set them: a pod that was exported has them too,
// and would, declared again, be taken for a static one, which is critical and
// has no controller, or for one that is to outlive its file.
var marks = []string{
	manifests.AnnotationConfigSource, manifests.AnnotationConfigHash, v1.MirrorPodAnnotationKey, AnnotationReleased,
}

// WithoutMarks is a pod as anything but a static pod's file can declare it.
func WithoutMarks(p *v1.Pod) *v1.Pod {
	if !slices.ContainsFunc(marks, func(mark string) bool { _, has := p.Annotations[mark]; return has }) {
		return p
	}
	p = p.DeepCopy()
	p.Annotations = unmarked(p.Annotations)
	return p
}

func unmarked(annotations map[string]string) map[string]string {
	annotations = maps.Clone(annotations)
	maps.DeleteFunc(annotations, func(name, _ string) bool { return slices.Contains(marks, name) })
	return annotations
}
