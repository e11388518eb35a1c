package workload

import (
	v1 "k8s.io/api/core/v1"

	apps "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Siblings selects the pods that are of the same Services and replica set as
// this one; nil when it has neither (the scheduler's helper.DefaultSelector).
func Siblings(objects Objects, p *v1.Pod) labels.Selector {
	all := make(labels.Set)
	services, _ := objects.List(v1.SchemeGroupVersion.WithKind("Service").GroupKind(), p.Namespace)
	for _, o := range services {
		if s, ok := o.(*v1.Service); ok && len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.Labels)) {
			all = labels.Merge(all, s.Spec.Selector)
		}
	}
	var selector labels.Selector
	if len(all) > 0 {
		selector = all.AsSelector()
	}
	ref := metav1.GetControllerOf(p)
	if ref == nil || ref.Kind != KindReplicaSet.Kind {
		return selector
	}
	rs, ok := Cluster{Objects: objects}.owner(KindReplicaSet, p.Namespace, ref).(*apps.ReplicaSet)
	if !ok {
		return selector
	}
	own, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil || selector == nil {
		return own
	}
	requirements, _ := own.Requirements()
	return selector.Add(requirements...)
}
