package nodelife

import (
	"cmp"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/workload"
)

// pressure are the taints that follow from conditions which a lost node no longer
// has.
var pressure = map[string]v1.NodeConditionType{
	v1.TaintNodeMemoryPressure: v1.NodeMemoryPressure, v1.TaintNodeDiskPressure: v1.NodeDiskPressure, v1.TaintNodePIDPressure: v1.NodePIDPressure,
}

// Apply is the node that everybody sees: its own object, which stays as it is,
// with the verdict's conditions and taints. A verdict that adds nothing is the
// object itself.
func (v Verdict) Apply(own *v1.Node) *v1.Node {
	if len(v.Conditions)+len(v.Taints) == 0 {
		return own
	}
	node := own.DeepCopy()
	decided := make(map[v1.NodeConditionType]bool)
	for _, c := range v.Conditions {
		decided[c.Type] = true
		if is := condition(node, c.Type); is != nil {
			*is = c
		} else {
			node.Status.Conditions = append(node.Status.Conditions, c)
		}
	}
	node.Spec.Taints = slices.DeleteFunc(node.Spec.Taints, func(t v1.Taint) bool { return lifecycle(t) || decided[pressure[t.Key]] })
	node.Spec.Taints = append(node.Spec.Taints, v.Taints...)
	return node
}

// Eviction is a pod that taints drive out of its node, and when.
type Eviction struct {
	Pod *v1.Pod
	At  time.Time
}

// Evictions are the pods that go, the first ones first; those whose time is
// not after now are due. Nodes are as Apply makes them, by name.
func Evictions(pods []*v1.Pod, nodes map[string]*v1.Node) (list []Eviction) {
	for _, p := range pods {
		if node := nodes[p.Spec.NodeName]; node != nil && p.DeletionTimestamp == nil {
			if at, goes := workload.DrivenOutAt(p, node.Spec.Taints); goes {
				list = append(list, Eviction{p, at})
			}
		}
	}
	slices.SortFunc(list, func(a, b Eviction) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Pod.Namespace, b.Pod.Namespace), cmp.Compare(a.Pod.Name, b.Pod.Name))
	})
	return list
}

// Tolerate gives a pod that is made the default tolerations: of a node that is
// not ready or unreachable, for timeout, unless it has its own (the admission
// plugin DefaultTolerationSeconds).
func Tolerate(spec *v1.PodSpec, timeout time.Duration) {
	seconds := int64((max(timeout, 0) + time.Second - 1) / time.Second)
	own := slices.Clone(spec.Tolerations)
	for _, key := range []string{v1.TaintNodeNotReady, v1.TaintNodeUnreachable} {
		if !workload.HasToleration(own, key) {
			spec.Tolerations = append(spec.Tolerations, v1.Toleration{Key: key, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute, TolerationSeconds: &seconds})
		}
	}
}

// NotReady makes a pod of a node that is not ready count as not ready itself:
// nothing is to be sent there. It says whether that is a change. (Upstream's
// MarkPodsNotReady.)
func NotReady(status *v1.PodStatus, now time.Time) bool {
	i := slices.IndexFunc(status.Conditions, func(c v1.PodCondition) bool { return c.Type == v1.PodReady })
	if i < 0 || status.Conditions[i].Status == v1.ConditionFalse {
		return false
	}
	status.Conditions = slices.Clone(status.Conditions)
	status.Conditions[i].Status = v1.ConditionFalse
	status.Conditions[i].LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	return true
}
