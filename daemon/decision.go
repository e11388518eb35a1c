package daemon

import (
	"encoding/json"
	"slices"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// rewriteDecision puts what a client made of a decided object into force.
func (d *Daemon) rewriteDecision(key manifests.Key, obj, old view.Object) error {
	values := make(map[record.Name]json.RawMessage)
	switch o := obj.(type) {
	case *v1.Pod:
		next, err := rewrittenPod(o, old.(*v1.Pod))
		if err != nil {
			return err
		}
		d.decided(values, workload.Decision{Verb: workload.Update, Key: key, Pod: next})
	case *apps.ReplicaSet:
		if !equality.Semantic.DeepEqual(o.Spec, old.(*apps.ReplicaSet).Spec) {
			o.Generation = old.GetGeneration() + 1
		}
		if err := d.putDecision(values, key, workload.Change{Verb: workload.Update, Object: o}); err != nil {
			return apierrors.NewInternalError(err)
		}
	default:
		if err := d.putDecision(values, key, workload.Change{Verb: workload.Update, Object: obj}); err != nil {
			return apierrors.NewInternalError(err)
		}
	}
	d.publish(values)
	d.reconcile()
	d.runPods()
	return nil
}

// rewrittenPod is a decided pod with a client's changes: those that can be made
// in place, and its owners.
func rewrittenPod(obj, old *v1.Pod) (*v1.Pod, error) {
	next, why := workload.UpdateInPlace(old, obj)
	if why != "" {
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, old.Name, field.ErrorList{field.Forbidden(field.NewPath("spec"), why)})
	}
	if next == nil {
		next = old.DeepCopy()
	}
	next.OwnerReferences = obj.OwnerReferences
	if metav1.GetControllerOf(old) != nil && metav1.GetControllerOf(next) == nil {
		return workload.Release(next), nil
	}
	if old.Annotations[workload.AnnotationReleased] != "" && metav1.GetControllerOf(next) == nil {
		return workload.Release(next), nil // or it would count as one whose file is gone
	}
	return next, nil
}

// forgetDecision ends a decided object, and in the same step begins the end of
// its pods: its controller's controller may make another of that name at once,
// and is not to take them over.
func (d *Daemon) forgetDecision(key manifests.Key, old view.Object) {
	values := make(map[record.Name]json.RawMessage)
	for _, o := range d.dependents(old.GetUID(), key.Namespace, workload.KindPod) {
		p := o.DeepCopyObject().(*v1.Pod)
		workload.MarkDeleted(p, *p.Spec.TerminationGracePeriodSeconds, d.Now())
		d.carryOut(values, workload.Change{Verb: workload.Delete, Object: p})
	}
	if err := d.putDecision(values, key, workload.Change{Verb: workload.Forget, Object: old}); err != nil {
		d.Log.Error("can't forget a decision", "key", key.String(), "err", err)
	}
	d.publish(values)
	d.reconcile()
	d.runPods()
}

// dependents are the objects of these kinds that an object controls.
func (d *Daemon) dependents(owner types.UID, namespace string, kinds ...schema.GroupKind) []view.Object {
	var owned []view.Object
	for _, kind := range kinds {
		list, _ := d.view.List(kind, namespace)
		owned = append(owned, slices.DeleteFunc(list, func(o view.Object) bool {
			ref := metav1.GetControllerOf(o)
			return ref == nil || ref.UID != owner
		})...)
	}
	return owned
}

// orphan sets free what an object controls, before the object is deleted
// (propagationPolicy Orphan). Its controller does nothing any more, or it would
// adopt them again.
func (d *Daemon) orphan(key manifests.Key, old view.Object) {
	if _, is := workload.Reconciled(key.GroupKind()); !is {
		return
	}
	d.looks.orphaned[key] = old.GetUID()
	values := make(map[record.Name]json.RawMessage)
	for _, o := range d.dependents(old.GetUID(), key.Namespace, workload.KindPod, workload.KindReplicaSet, workload.KindControllerRevision) {
		d.carryOut(values, workload.Change{Verb: workload.Update, Object: workload.Release(o)})
	}
	d.publish(values)
}
