package placement

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper"
)

// Rejection is why a node does not take in a pod that was placed on it, in the
// kubelet's words.
type Rejection struct{ Reason, Message string }

// Admit says why a node refuses a pod that was placed on it, by whomever, with
// others that it took in and that have not ended; nil when it does not. It is
// the kubelet's generalFilter (pkg/kubelet/lifecycle/predicate.go): the first
// reason counts. Static says that the pod is the host's own, which no taint
// keeps away.
func Admit(p *v1.Pod, on *v1.Node, others []*v1.Pod, static bool) *Rejection {
	c := New([]*v1.Node{on}, others, nil)
	n := c.nodes[0]
	asked := requests(p)
	for name := range asked.others {
		// Extended resources that the node does not know are the cluster's.
		if _, known := n.allocatable.others[name]; !known && helper.IsExtendedResourceName(name) {
			delete(asked.others, name)
		}
	}
	if short := n.shortages(&asked); len(short) > 0 {
		s := short[0]
		return &Rejection{"OutOf" + string(s.Resource), s.String()}
	}
	failed := func(predicate, why string) *Rejection {
		return &Rejection{predicate, "Predicate " + predicate + " failed: " + why}
	}
	switch match, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(on); {
	case !match || err != nil:
		return failed("NodeAffinity", nodeNotWanted)
	case p.Spec.NodeName != "" && p.Spec.NodeName != on.Name:
		return failed("NodeName", "node(s) didn't match the requested node name")
	case !n.portsFree(hostPorts(p)):
		return failed("NodePorts", portsTaken)
	case !static && !tolerated(on.Spec.Taints, p.Spec.Tolerations, func(t *v1.Taint) bool { return t.Effect == v1.TaintEffectNoExecute }):
		return failed("TaintToleration", "node(s) had taints that the pod didn't tolerate")
	}
	return nil
}

// String is the shortage as the kubelet says it; processors in thousandths.
func (s Shortage) String() string {
	return fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", s.Resource, s.Requested, s.Used, s.Capacity)
}
