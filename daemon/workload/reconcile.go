package workload

import (
	"cmp"
	"slices"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// The kinds that controllers read and write.
var (
	KindPod                = schema.GroupKind{Kind: "Pod"}
	KindNode               = schema.GroupKind{Kind: "Node"}
	KindNamespace          = schema.GroupKind{Kind: "Namespace"}
	KindService            = schema.GroupKind{Kind: "Service"}
	KindDeployment         = schema.GroupKind{Group: apps.GroupName, Kind: "Deployment"}
	KindReplicaSet         = schema.GroupKind{Group: apps.GroupName, Kind: "ReplicaSet"}
	KindDaemonSet          = schema.GroupKind{Group: apps.GroupName, Kind: "DaemonSet"}
	KindControllerRevision = schema.GroupKind{Group: apps.GroupName, Kind: "ControllerRevision"}
	KindDisruptionBudget   = schema.GroupKind{Group: policy.GroupName, Kind: "PodDisruptionBudget"}
)

// Status is the verb of a change that is about an object's status, and about
// those of its annotations that its controller writes.
const Status Verb = "status"

// Objects is where controllers look objects up: the view.
type Objects interface {
	Get(manifests.Key) (view.Object, bool)
	List(kind schema.GroupKind, namespace string) ([]view.Object, uint64)
}

// Cluster is what a controller looks at, and whatever it may not make up itself.
type Cluster struct {
	Objects Objects
	Now     time.Time
	Chance  uint64                        // another one in each call: names of new pods come from it
	UID     func(manifests.Key) types.UID // mints a new object's UID
	Filed   func(manifests.Key) bool      // a file declares that object: no controller takes it over
	// Former are the UIDs that a declared object had on hosts that did not know it
	// to be older than they had seen it; nil: none has.
	Former func(manifests.Key) []types.UID
	Admit  func(*v1.Pod) error // fills in what a new pod has from other objects, or says why it may not be; nil admits all
	Gone   func(*v1.Pod) bool  // nothing of that pod is left on its host, or no host has it
	Bound  func(*v1.Pod) bool  // whoever declared that pod named its node; nil: of none
	// Back is since when the host of a node is in sight (again), whatever the
	// node's taints still say; zero: it is not. Nil: none is.
	Back func(node string) time.Time
	// Services is nil where no service gets anything.
	Services *Services
}

// Change is an object's new state. A pod that is deleted gets its
// deletionTimestamp; anything else is gone at once.
type Change struct {
	Verb   Verb
	Object view.Object
	Given  *view.ServiceStatus // of a Service, with Status: what is said of it now
}

// Event is something that a controller has to say about an object.
type Event struct {
	About           view.Object
	Type            string // v1.EventTypeNormal or v1.EventTypeWarning
	Reason, Message string
}

// Outcome is what a controller decided about one object.
type Outcome struct {
	Changes []Change
	Events  []Event
	Again   time.Time // look again then; zero: when something changes
}

func (o *Outcome) change(verb Verb, obj view.Object) {
	o.Changes = append(o.Changes, Change{Verb: verb, Object: obj})
}

func (o *Outcome) event(about view.Object, kind, reason, message string) {
	o.Events = append(o.Events, Event{about, kind, reason, message})
}

// again asks to look again at t, or earlier if that was asked for.
func (o *Outcome) again(t time.Time) {
	if o.Again.IsZero() || t.Before(o.Again) {
		o.Again = t
	}
}

// Reconciled says whether a kind has a controller or is cleaned up after its
// owner, and in which order: what is nearer to pods comes first, so that a
// controller sees what its earlier decisions came to; and nothing is cleaned up
// before those who may own it have looked.
func Reconciled(kind schema.GroupKind) (order int, is bool) {
	order = slices.Index([]schema.GroupKind{
		KindReplicaSet, KindDaemonSet, KindDeployment, KindDisruptionBudget, KindControllerRevision, KindPod, KindService,
	}, kind)
	return order, order >= 0
}

// Reconcile is what the controller of one object wants changed now. It changes
// nothing, and asked again once that is done, it wants no more.
func Reconcile(key manifests.Key, c Cluster) Outcome {
	o, ok := c.Objects.Get(key)
	if !ok {
		return Outcome{}
	}
	if out, orphan := c.collect(key, o); orphan {
		return out
	}
	switch o := o.(type) {
	case *apps.Deployment:
		return c.deployment(o)
	case *apps.ReplicaSet:
		return c.replicaSet(o)
	case *apps.DaemonSet:
		return c.daemonSet(o)
	case *policy.PodDisruptionBudget:
		return c.disruptionBudget(o)
	case *v1.Pod:
		return c.evictByTaints(o)
	case *v1.Service:
		return c.service(o)
	}
	return Outcome{}
}

// collect ends what nobody owns any more, as the garbage collector does: an
// object whose controller is gone, and a pod of which nothing is left.
func (c Cluster) collect(key manifests.Key, o view.Object) (out Outcome, done bool) {
	p, isPod := o.(*v1.Pod)
	ref := metav1.GetControllerOf(o)
	switch {
	case isPod && o.GetDeletionTimestamp() != nil:
		// A pod that a file declares is DeclaredPods' to forget.
		if ref != nil && !c.Filed(key) && c.Gone(p) {
			out.change(Forget, o)
		}
		return out, true
	case ref == nil || c.Filed(key):
		return out, false
	}
	if kind, known := controllerKind(ref); !known || c.owner(kind, o.GetNamespace(), ref) != nil {
		return out, false
	}
	if isPod {
		out.change(Delete, deleted(p, c.Now))
	} else {
		out.change(Forget, o)
	}
	return out, true
}

// controllerKind is the kind of a controller that is one of ours.
func controllerKind(ref *metav1.OwnerReference) (schema.GroupKind, bool) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	kind := schema.GroupKind{Group: gv.Group, Kind: ref.Kind}
	return kind, err == nil && slices.Contains([]schema.GroupKind{KindDeployment, KindReplicaSet, KindDaemonSet}, kind)
}

// owner is the object that a reference names; nil when it is gone, or another
// one has its name.
func (c Cluster) owner(kind schema.GroupKind, namespace string, ref *metav1.OwnerReference) view.Object {
	o, ok := c.Objects.Get(manifests.Key{Group: kind.Group, Kind: kind.Kind, Namespace: namespace, Name: ref.Name})
	if !ok || !c.owns(o, ref) {
		return nil
	}
	return o
}

// Affected are the objects whose controllers should look again after a change
// from old to now (either may be nil): the object itself, its controller, and,
// of an object that has none, those that may want to adopt it.
func Affected(objects Objects, key manifests.Key, old, now view.Object) []manifests.Key {
	var keys []manifests.Key
	if _, is := Reconciled(key.GroupKind()); is {
		keys = append(keys, key)
	}
	for _, o := range []view.Object{old, now} {
		if o == nil {
			continue
		}
		if ref := metav1.GetControllerOf(o); ref != nil {
			if kind, known := controllerKind(ref); known {
				keys = append(keys, manifests.Key{Group: kind.Group, Kind: kind.Kind, Namespace: key.Namespace, Name: ref.Name})
			}
		}
	}
	all := func(namespace string, kinds ...schema.GroupKind) {
		for _, kind := range kinds {
			list, _ := objects.List(kind, namespace)
			for _, o := range list {
				keys = append(keys, manifests.Key{Group: kind.Group, Kind: kind.Kind, Namespace: o.GetNamespace(), Name: o.GetName()})
			}
		}
	}
	alone := now != nil && metav1.GetControllerOf(now) == nil
	replaced := now == nil || old != nil && old.GetUID() != now.GetUID() // what it owned is owned no more
	switch key.GroupKind() {
	case KindPod:
		if alone {
			all(key.Namespace, KindReplicaSet, KindDaemonSet)
		}
		all(key.Namespace, KindDisruptionBudget)
	case KindReplicaSet, KindControllerRevision:
		if alone {
			all(key.Namespace, KindDeployment, KindDaemonSet)
		}
		if replaced {
			all(key.Namespace, KindPod)
		}
	case KindDeployment, KindDaemonSet:
		if replaced {
			all(key.Namespace, KindReplicaSet, KindControllerRevision, KindPod)
		}
		all(key.Namespace, KindDisruptionBudget)
	case KindNode:
		all("", KindDaemonSet)
		keys = append(keys, drivenOut(objects, old, now)...)
	case KindNamespace:
		all(key.Name, KindReplicaSet, KindDaemonSet)
	}
	return keys
}

// list is all objects of a kind in a namespace.
func list[T view.Object](c Cluster, kind schema.GroupKind, namespace string) []T {
	objects, _ := c.Objects.List(kind, namespace)
	all := make([]T, 0, len(objects))
	for _, o := range objects {
		if t, ok := o.(T); ok {
			all = append(all, t)
		}
	}
	return all
}

// byAge orders objects from old to new.
func byAge[T view.Object](a, b T) int {
	return cmp.Or(a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time), cmp.Compare(a.GetName(), b.GetName()))
}
