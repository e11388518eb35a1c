package workload

import (
	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/manifests"
)

// isStatic says whether a pod is a static one. Its node is its controller, so
// that no other takes it over, and a file declares it nevertheless.
func isStatic(p *v1.Pod) bool { return p.Annotations[manifests.AnnotationConfigHash] != "" }
