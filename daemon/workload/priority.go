package workload

import (
	"cmp"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/pkg/apis/scheduling"
	builtin "k8s.io/kubernetes/pkg/apis/scheduling/v1"
)

// KindPriorityClass is the kind that names priorities.
var KindPriorityClass = schema.GroupKind{Group: schedulingv1.GroupName, Kind: "PriorityClass"}

// SystemPriorityClasses are those that are there without anybody's declaring
// them: system-cluster-critical and system-node-critical.
func SystemPriorityClasses() []*schedulingv1.PriorityClass { return builtin.SystemPriorityClasses() }

// Prioritize fills in a new pod's priority and preemptionPolicy from its class,
// as Kubernetes' admission plugin Priority does (plugin/pkg/admission/priority),
// or says why there can be no such pod. Without a class it has the priority of
// the class that is the default, of several the lowest, and else 0. The name of
// the default class is not filled in: an edit that takes a class away could not
// be told from a declaration that never had one.
func Prioritize(p *v1.Pod, classes []*schedulingv1.PriorityClass) error {
	class, err := priorityClass(p.Spec.PriorityClassName, classes)
	if err != nil {
		return err
	}
	if given := p.Spec.Priority; given != nil && *given != class.Value {
		return fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *given, class.Value)
	}
	policy := class.PreemptionPolicy
	if policy == nil {
		lower := v1.PreemptLowerPriority
		policy = &lower
	}
	if given := p.Spec.PreemptionPolicy; given != nil && *given != *policy {
		return fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *given, *policy)
	}
	value, preemption := class.Value, *policy
	p.Spec.Priority, p.Spec.PreemptionPolicy = &value, &preemption
	return nil
}

// priorityClass is the class of that name; of "" the default one.
func priorityClass(name string, classes []*schedulingv1.PriorityClass) (*schedulingv1.PriorityClass, error) {
	candidates := slices.DeleteFunc(slices.Concat(SystemPriorityClasses(), classes), func(c *schedulingv1.PriorityClass) bool {
		return name != "" && c.Name != name || name == "" && !c.GlobalDefault
	})
	if len(candidates) > 0 {
		return slices.MinFunc(candidates, func(a, b *schedulingv1.PriorityClass) int { return cmp.Compare(a.Value, b.Value) }), nil
	}
	if name == "" {
		return &schedulingv1.PriorityClass{Value: scheduling.DefaultPriorityWhenNoDefaultClassExists}, nil
	}
	return nil, fmt.Errorf("no PriorityClass with name %v was found", name)
}

// keepPriority keeps what was filled in when the pod was made: a class's value
// may have changed since, and a pod of a daemon that filled in nothing stays
// without.
func keepPriority(next, decided *v1.Pod) {
	if next.Spec.Priority == nil {
		next.Spec.Priority = decided.Spec.Priority
	}
	if next.Spec.PreemptionPolicy == nil {
		next.Spec.PreemptionPolicy = decided.Spec.PreemptionPolicy
	}
}
