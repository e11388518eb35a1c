package pressure

import (
	"cmp"
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Ended are the pods of controllers that are over and beyond how many of them
// are kept: evicted ones first, then the oldest (kube-controller-manager's
// podgc, pkg/controller/podgc/gc_controller.go: gcTerminated). Pods that have no
// controller are a file's: without them, it would run them again. A negative
// number keeps all.
func Ended(pods []*v1.Pod, keep int) []*v1.Pod {
	var over []*v1.Pod
	for _, p := range pods {
		ended := p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed
		if ended && p.DeletionTimestamp == nil && metav1.GetControllerOf(p) != nil {
			over = append(over, p)
		}
	}
	if keep < 0 || len(over) <= keep {
		return nil
	}
	evicted := func(p *v1.Pod) bool { return p.Status.Phase == v1.PodFailed && p.Status.Reason == "Evicted" }
	slices.SortFunc(over, func(a, b *v1.Pod) int {
		return cmp.Or(first(evicted(a), evicted(b)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name))
	})
	return over[:len(over)-keep]
}

// builtinPriority are the priority classes that every cluster has
// (k8s.io/kubernetes/pkg/apis/scheduling.SystemPriorityClasses).
var builtinPriority = map[string]int32{
	"system-cluster-critical": systemCritical,
	"system-node-critical":    systemCritical + 1000,
}

// Priority is a pod's priority: its own, or its class's, or that of the class
// that is the default; class looks one up by name, "" being the default.
func Priority(p *v1.Pod, class func(name string) (value int32, ok bool)) int32 {
	if p.Spec.Priority != nil {
		return *p.Spec.Priority
	}
	if value, ok := builtinPriority[p.Spec.PriorityClassName]; ok {
		return value
	}
	value, _ := class(p.Spec.PriorityClassName)
	return value
}
