package workload

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

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
func claim[T view.Object](c Cluster, out *Outcome, owner view.Object, selector labels.Selector, candidates []T) (owned []T) {
	for _, o := range candidates {
		ref := metav1.GetControllerOf(o)
		matches := selector.Matches(labels.Set(o.GetLabels()))
		ending := o.GetDeletionTimestamp() != nil || owner.GetDeletionTimestamp() != nil
		switch {
		case ref != nil && ref.UID == owner.GetUID() && matches:
			owned = append(owned, o)
		case ref != nil && matches && c.owns(owner, ref):
			if !ending {
				o = adopt(without(o), owner)
				out.change(Update, o)
			}
			owned = append(owned, o)
		case ref != nil && c.owns(owner, ref) && !ending:
			out.change(Update, Release(o))
		case ref == nil && matches && !ending && !c.Filed(keyOf(o)):
			adopted := adopt(o, owner)
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

func adopt[T view.Object](o T, owner view.Object) T {
	o = copied(o)
	o.SetOwnerReferences(append(o.GetOwnerReferences(), *controllerRef(owner, keyOf(owner).GroupKind())))
	annotations := o.GetAnnotations()
	delete(annotations, AnnotationReleased)
	o.SetAnnotations(annotations)
	return o
}

// Release is an object without its controller.
func Release[T view.Object](o T) T {
	o = without(o)
	if _, isPod := any(o).(*v1.Pod); isPod {
		setAnnotation(o, AnnotationReleased, "true")
	}
	return o
}

// without is a copy of an object that no controller owns.
func without[T view.Object](o T) T {
	o = copied(o)
	o.SetOwnerReferences(slices.DeleteFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool {
		return r.Controller != nil && *r.Controller
	}))
	return o
}

// owns says whether a reference to an object of that kind and name is to this
// one: by its UID, or by one that it had on a host that had not heard of it from
// others yet. What was made there is of the same object.
func (c Cluster) owns(owner view.Object, ref *metav1.OwnerReference) bool {
	return ref.UID == owner.GetUID() || ref.Kind == keyOf(owner).Kind && ref.Name == owner.GetName() && slices.Contains(c.former(owner), ref.UID)
}

// former are the UIDs that an object had on such hosts. That of a Deployment's
// replica set follows from the Deployment's.
func (c Cluster) former(o view.Object) []types.UID {
	if c.Former == nil {
		return nil
	}
	key := keyOf(o)
	ref := metav1.GetControllerOf(o)
	if key.GroupKind() != KindReplicaSet || ref == nil || ref.Kind != KindDeployment.Kind {
		return c.Former(key)
	}
	above := manifests.Key{Group: KindDeployment.Group, Kind: KindDeployment.Kind, Namespace: key.Namespace, Name: ref.Name}
	former := c.Former(above)
	if len(former) == 0 {
		return nil
	}
	uids := []types.UID{view.ChildUID(key, ref.UID)}
	if d, ok := c.Objects.Get(above); ok {
		uids = append(uids, view.ChildUID(key, d.GetUID()))
	}
	for _, uid := range former {
		uids = append(uids, view.ChildUID(key, uid))
	}
	return uids
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
