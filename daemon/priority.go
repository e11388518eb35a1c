package daemon

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

func classKey(name string) manifests.Key {
	return manifests.Key{Group: workload.KindPriorityClass.Group, Kind: workload.KindPriorityClass.Kind, Name: name}
}

// impliedClass is the priority class of a key that every cluster has, nil for
// others.
func (d *Daemon) impliedClass(key manifests.Key) view.Object {
	if key.GroupKind() != workload.KindPriorityClass {
		return nil
	}
	for _, c := range workload.SystemPriorityClasses() {
		if c.Name == key.Name {
			c.TypeMeta = metav1.TypeMeta{APIVersion: schedulingv1.SchemeGroupVersion.String(), Kind: key.Kind}
			manifests.Default(c)
			c.UID, c.CreationTimestamp, c.Generation = view.UID(key, 0), d.impliedSince(), 1
			return c
		}
	}
	return nil
}

// declaredClasses are the priority classes among what files declare.
func declaredClasses(objects []declaration) (classes []*schedulingv1.PriorityClass) {
	for _, o := range objects {
		if c, ok := o.Value.(*schedulingv1.PriorityClass); ok {
			classes = append(classes, c)
		}
	}
	return classes
}

// priorityClasses are those that there are.
func (d *Daemon) priorityClasses() (classes []*schedulingv1.PriorityClass) {
	objects, _ := d.view.List(workload.KindPriorityClass, "")
	for _, o := range objects {
		if c, ok := o.(*schedulingv1.PriorityClass); ok {
			classes = append(classes, c)
		}
	}
	return classes
}

// prioritize fills in a new pod's priority. No admission stands before static
// pods: they are critical whatever their class, and run without it.
func (d *Daemon) prioritize(p *v1.Pod) error {
	err := workload.Prioritize(p, d.priorityClasses())
	if p.Annotations[manifests.AnnotationConfigHash] != "" {
		return nil
	}
	return err
}

// wrongPriority says why a declared pod can't be made with these classes.
func (d *Daemon) wrongPriority(p *v1.Pod, classes []*schedulingv1.PriorityClass) error {
	if old, ok := d.view.Get(podKey(p)); ok && old.GetDeletionTimestamp() == nil && old.(*v1.Pod).Spec.PriorityClassName == p.Spec.PriorityClassName {
		return nil // it has what it was made with
	}
	return workload.Prioritize(p.DeepCopy(), classes)
}

// unmade are the declared pods that could not be made when they were decided
// about, for want of a priority class, say.
func (d *Daemon) unmade() (keys []manifests.Key) {
	for key := range d.declared {
		if _, made := d.view.Get(key); !made {
			keys = append(keys, key)
		}
	}
	return keys
}

// oneDefaultClass refuses a second default among the priority classes, in the
// admission plugin's words. Files may declare several: the lowest counts.
func (d *Daemon) oneDefaultClass(key manifests.Key, obj view.Object) error {
	c, ok := obj.(*schedulingv1.PriorityClass)
	if !ok || !c.GlobalDefault {
		return nil
	}
	for _, other := range d.priorityClasses() {
		if other.GlobalDefault && other.Name != c.Name {
			return forbidden(key, fmt.Sprintf("PriorityClass %v is already marked as default. Only one default can exist", other.Name))
		}
	}
	return nil
}
