package workload

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// AnnotationReleased marks a pod that no file declares and no controller owns:
// one that was its controller's until its labels or the controller's end set it
// free. Without the mark it would be taken for one whose file is gone.
const AnnotationReleased = "shoal.io/released"

// claim sorts out which objects of a kind are an owner's, as upstream's
// ControllerRefManager does: those that it controls and selects. One that it
// controls and does not select any more is released; one that it selects and
// that nobody controls is adopted, unless a file declares it. The objects in
// owned may be changed; they are copies where they were.
func claim[T view.Object](c Cluster, out *Outcome, owner view.Object, kind schema.GroupKind, selector labels.Selector, candidates []T) (owned []T) {
	for _, o := range candidates {
		ref := metav1.GetControllerOf(o)
		matches := selector.Matches(labels.Set(o.GetLabels()))
		ending := o.GetDeletionTimestamp() != nil || owner.GetDeletionTimestamp() != nil
		switch {
		case ref != nil && ref.UID == owner.GetUID() && matches:
			owned = append(owned, o)
		case ref != nil && ref.UID == owner.GetUID() && !ending:
			out.change(Update, Release(o))
		case ref == nil && matches && !ending && !c.Filed(keyOf(o)):
			adopted := adopt(o, owner, kind)
			out.change(Update, adopted)
			owned = append(owned, adopted)
		}
	}
	return owned
}

func keyOf(o view.Object) manifests.Key {
	key, err := manifests.KeyOf(o)
	if err != nil {
		panic(err) // the view has no objects of unknown kinds
	}
	return key
}

func copied[T view.Object](o T) T { return o.DeepCopyObject().(T) }

func adopt[T view.Object](o T, owner view.Object, kind schema.GroupKind) T {
	o = copied(o)
	o.SetOwnerReferences(append(o.GetOwnerReferences(), *controllerRef(owner, kind)))
	annotations := o.GetAnnotations()
	delete(annotations, AnnotationReleased)
	o.SetAnnotations(annotations)
	return o
}

// Release is an object without its controller.
func Release[T view.Object](o T) T {
	o = copied(o)
	o.SetOwnerReferences(slices.DeleteFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool {
		return r.Controller != nil && *r.Controller
	}))
	if _, isPod := any(o).(*v1.Pod); isPod {
		setAnnotation(o, AnnotationReleased, "true")
	}
	return o
}

func controllerRef(owner view.Object, kind schema.GroupKind) *metav1.OwnerReference {
	return metav1.NewControllerRef(owner, kind.WithVersion("v1"))
}

// selectorOf is a selector as a controller uses it: one that can't be read, or
// that is empty, selects nothing.
func selectorOf(s *metav1.LabelSelector) labels.Selector {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil || selector.Empty() {
		return labels.Nothing()
	}
	return selector
}
