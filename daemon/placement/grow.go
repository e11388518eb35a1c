package placement

import (
	v1 "k8s.io/api/core/v1"
)

// Grow says why a node has too little left for a running pod that is to have
// other resources, with what others were given, in the kubelet's words; "" when
// it has enough. It is about processors and memory, which can be edited.
func Grow(p *v1.Pod, on *v1.Node, others []*v1.Pod) string {
	n := New([]*v1.Node{on}, others, nil).nodes[0]
	asked := requests(p)
	for _, s := range n.shortages(&asked) {
		if s.Resource == v1.ResourceCPU || s.Resource == v1.ResourceMemory {
			return s.String()
		}
	}
	return ""
}
