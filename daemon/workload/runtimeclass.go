package workload

import (
	"errors"
	"fmt"
	"maps"

	v1 "k8s.io/api/core/v1"
	node "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// KindRuntimeClass is that of runtime classes.
var KindRuntimeClass = schema.GroupKind{Group: node.GroupName, Kind: "RuntimeClass"}

// ApplyRuntimeClass completes a new pod with what its RuntimeClass adds:
// overhead, node selector, tolerations. class is nil where there is none of the
// name that the pod has. The error says why the pod is refused, and leaves it as
// it was. A second call changes nothing.
//
// Source: the apiserver's admission plugin RuntimeClass
// (plugin/pkg/admission/runtimeclass).
func ApplyRuntimeClass(pod *v1.Pod, class *node.RuntimeClass) error {
	spec := &pod.Spec
	if spec.RuntimeClassName == nil {
		class = nil
	} else if class == nil {
		return fmt.Errorf("pod rejected: RuntimeClass %q not found", *spec.RuntimeClassName)
	}
	var overhead v1.ResourceList
	if class != nil && class.Overhead != nil {
		overhead = class.Overhead.PodFixed
	}
	switch {
	case len(spec.Overhead) == 0 || equality.Semantic.DeepEqual(overhead, spec.Overhead):
	case overhead == nil:
		return errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
	default:
		return errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
	}
	if class != nil && class.Scheduling != nil {
		if err := schedule(spec, class.Scheduling); err != nil {
			return err
		}
	}
	spec.Overhead = overhead.DeepCopy()
	return nil
}

func schedule(spec *v1.PodSpec, s *node.Scheduling) error {
	selector := maps.Clone(s.NodeSelector)
	for key, value := range spec.NodeSelector {
		if class, ok := selector[key]; ok && class != value {
			return fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, class, key, value)
		}
		if selector == nil {
			selector = make(map[string]string)
		}
		selector[key] = value
	}
	spec.NodeSelector = selector
	spec.Tolerations = mergeTolerations(spec.Tolerations, s.Tolerations)
	return nil
}

// keepRuntimeClass carries over to a new declaration what ApplyRuntimeClass
// added when the pod was made, whatever became of the class since. What a file
// no longer says of node selector and tolerations can't be told from that, and
// stays: Kubernetes lets neither be taken away from a pod.
func keepRuntimeClass(next, decided *v1.Pod) {
	is, was := next.Spec.RuntimeClassName, decided.Spec.RuntimeClassName
	if is == nil || was == nil || *is != *was {
		return
	}
	if len(next.Spec.Overhead) == 0 {
		next.Spec.Overhead = decided.Spec.Overhead.DeepCopy()
	}
	for key, value := range decided.Spec.NodeSelector {
		if _, declared := next.Spec.NodeSelector[key]; declared {
			continue
		}
		if next.Spec.NodeSelector == nil {
			next.Spec.NodeSelector = make(map[string]string)
		}
		next.Spec.NodeSelector[key] = value
	}
	next.Spec.Tolerations = mergeTolerations(next.Spec.Tolerations, decided.Spec.Tolerations)
}

// mergeTolerations is both lists without what others of them cover
// (pkg/util/tolerations, MergeTolerations).
func mergeTolerations(first, second []v1.Toleration) []v1.Toleration {
	all := append(first[:len(first):len(first)], second...)
	var merged []v1.Toleration
	for i, t := range all {
		redundant := false
		for _, kept := range merged {
			redundant = redundant || covers(kept, t)
		}
		for _, later := range all[i+1:] { // of two equal ones, the first stays
			redundant = redundant || covers(later, t) && !equality.Semantic.DeepEqual(t, later)
		}
		if !redundant {
			merged = append(merged, t)
		}
	}
	return merged
}

// covers says whether a tolerates all that b does (isSuperset, there).
func covers(a, b v1.Toleration) bool {
	if equality.Semantic.DeepEqual(a, b) {
		return true
	}
	switch {
	case a.Key != b.Key && (a.Key != "" || a.Operator != v1.TolerationOpExists),
		a.Effect != b.Effect && a.Effect != "":
		return false
	}
	if s := a.TolerationSeconds; a.Effect == v1.TaintEffectNoExecute && s != nil && (b.TolerationSeconds == nil || *b.TolerationSeconds > *s) {
		return false
	}
	switch a.Operator {
	case v1.TolerationOpEqual, "":
		return (b.Operator == v1.TolerationOpEqual || b.Operator == "") && a.Value == b.Value
	case v1.TolerationOpExists:
		return true
	}
	return false
}
