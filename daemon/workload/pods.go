// Package workload decides which pods exist. Its controllers are pure
// functions: from what is declared and what was decided before to what is
// decided now.
package workload

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	node "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"

	"github.com/shoal-project/shoal/manifests"
)

// Verb is what a decision does to a pod.
type Verb string

// The verbs.
const (
	Create Verb = "create"
	Update Verb = "update" // in place: metadata, image, resources
	Delete Verb = "delete" // begins: the pod gets its deletionTimestamp
	Forget Verb = "forget" // ends: nothing of the pod is left
)

// Decision is one pod's new state.
type Decision struct {
	Verb Verb
	Key  manifests.Key
	Pod  *v1.Pod // metadata and spec; nil for Forget
	Why  string  // for Delete: what could not be changed in place, "" when it is no longer declared
}

// Input is what DeclaredPods looks at.
type Input struct {
	Declared map[manifests.Key]*v1.Pod // by files, defaulted
	Decided  map[manifests.Key]*v1.Pod // with their status
	Gone     map[types.UID]bool        // nothing of these is left on their host
	Now      time.Time
	UID      func(manifests.Key) types.UID // mints a new pod's UID

	// Account is the service account of that namespace and name, nil if there is
	// none; as a whole nil: there are no accounts, and no pod gets a token.
	Account func(namespace, name string) *v1.ServiceAccount

	// RuntimeClass is the one of that name, nil if there is none; as a whole nil:
	// there are none.
	RuntimeClass func(name string) *node.RuntimeClass

	// Again says that a pod that is over is to be made anew, and why; nil: none is.
	Again func(*v1.Pod) (why string)

	// Complete fills in what a new pod has from other objects, or says why it may
	// not be: it is not made then. nil: nothing is filled in.
	Complete func(*v1.Pod) error
}

// DeclaredPods decides about pods that files declare as such: one that is
// declared runs; an edit is applied in place where Kubernetes allows it, else
// the pod is replaced, after its full grace, by one with a new UID; one that is
// no longer declared is deleted.
func DeclaredPods(in Input) []Decision {
	var decisions []Decision
	for key, declared := range in.Declared {
		decided, ok := in.Decided[key]
		switch {
		case !ok:
			if p := create(declared, in, key); in.Complete == nil || in.Complete(p) == nil {
				decisions = append(decisions, Decision{Verb: Create, Key: key, Pod: p})
			}
		case decided.DeletionTimestamp != nil:
			if in.Gone[decided.UID] {
				decisions = append(decisions, Decision{Verb: Forget, Key: key})
			}
		default:
			updated, why := UpdateInPlace(decided, declared)
			if why == "" && in.Again != nil {
				why = in.Again(decided)
			}
			if why != "" {
				decisions = append(decisions, Decision{Delete, key, deleted(decided, in.Now), why})
			} else if updated != nil {
				decisions = append(decisions, Decision{Verb: Update, Key: key, Pod: updated})
			}
		}
	}
	for key, decided := range in.Decided {
		released := decided.Annotations[AnnotationReleased] != "" && decided.DeletionTimestamp == nil
		if _, ok := in.Declared[key]; ok || released || metav1.GetControllerOf(decided) != nil && !Static(decided) {
			continue
		}
		switch {
		case decided.DeletionTimestamp == nil:
			decisions = append(decisions, Decision{Verb: Delete, Key: key, Pod: deleted(decided, in.Now)})
		case in.Gone[decided.UID]:
			decisions = append(decisions, Decision{Verb: Forget, Key: key})
		}
	}
	slices.SortFunc(decisions, func(a, b Decision) int { return cmp.Compare(a.Key.String(), b.Key.String()) })
	return decisions
}

// create is the first decision about a declared pod. Owners and finalizers that
// an exported object brought along have no meaning here: the file owns the pod.
func create(declared *v1.Pod, in Input, key manifests.Key) *v1.Pod {
	pod := declared.DeepCopy()
	pod.UID = in.UID(key)
	pod.Finalizers = nil
	if !Static(pod) {
		pod.OwnerReferences = nil
	}
	pod.CreationTimestamp = metav1.NewTime(in.Now.Truncate(time.Second))
	pod.Generation = 1
	if in.Account != nil {
		MountToken(pod, in.Account(pod.Namespace, pod.Spec.ServiceAccountName))
	}
	if name := pod.Spec.RuntimeClassName; name != nil && in.RuntimeClass != nil {
		// An error refuses the pod before it comes here. Where the class has gone
		// since, the pod waits for it on its node.
		_ = ApplyRuntimeClass(pod, in.RuntimeClass(*name))
	}
	pod.Status = v1.PodStatus{Phase: v1.PodPending, QOSClass: qos.ComputePodQOS(pod)}
	return pod
}

func deleted(pod *v1.Pod, now time.Time) *v1.Pod {
	pod = pod.DeepCopy()
	grace := int64(v1.DefaultTerminationGracePeriodSeconds)
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = *s
	}
	MarkDeleted(pod, grace, now)
	return pod
}

// MarkDeleted begins a pod's deletion, as the apiserver does: the timestamp
// lies grace seconds ahead. A second call can shorten the grace, not lengthen it.
func MarkDeleted(pod *v1.Pod, grace int64, now time.Time) {
	// The API's times have whole seconds: rounded down, they would cost a short
	// grace its TERM.
	if whole := now.Truncate(time.Second); grace > 0 && whole.Before(now) {
		now = whole.Add(time.Second)
	}
	at := metav1.NewTime(now.Add(time.Duration(grace) * time.Second))
	if pod.DeletionTimestamp != nil && pod.DeletionTimestamp.Before(&at) {
		return
	}
	pod.DeletionTimestamp = &at
	pod.DeletionGracePeriodSeconds = &grace
}

// UpdateInPlace is the decided pod with what the declaration changed; nil when
// nothing did. What can't be changed in place is why.
func UpdateInPlace(decided, declared *v1.Pod) (updated *v1.Pod, why string) {
	next := decided.DeepCopy()
	next.Labels, next.Annotations, next.ManagedFields = declared.Labels, declared.Annotations, declared.ManagedFields
	next.Spec = *declared.Spec.DeepCopy()
	next.Spec.NodeName = cmp.Or(declared.Spec.NodeName, decided.Spec.NodeName)
	if was, is := decided.Annotations[manifests.AnnotationConfigHash], declared.Annotations[manifests.AnnotationConfigHash]; was != is {
		return nil, "a static pod's file was edited"
	}
	if manifests.Identity(decided) != manifests.Identity(declared) {
		return nil, "metadata.annotations[" + manifests.AnnotationExclusive + "] can't be changed in place"
	}
	keepToken(next, decided)
	keepRuntimeClass(next, decided)
	keepPriority(next, decided)
	keepTolerations(next, decided)
	next.Spec.EphemeralContainers = decided.Spec.EphemeralContainers // never declared: they belong to this very pod
	sameSpec := equality.Semantic.DeepEqual(next.Spec, decided.Spec)
	if sameSpec && equality.Semantic.DeepEqual(next.Labels, decided.Labels) &&
		equality.Semantic.DeepEqual(next.Annotations, decided.Annotations) &&
		equality.Semantic.DeepEqual(next.ManagedFields, decided.ManagedFields) {
		return nil, ""
	}
	if sameSpec {
		return next, ""
	}
	if why := resizable(decided, next); why != "" {
		return nil, why
	}
	// Validation of an update knows resources only as immutable (they change
	// through a subresource): what resizable allows is taken out first.
	same := next.DeepCopy()
	setResources(same.Spec.Containers, decided.Spec.Containers)
	setResources(same.Spec.InitContainers, decided.Spec.InitContainers)
	same.Spec.Resources = decided.Spec.Resources
	if errs := manifests.ValidateUpdate(same, decided); len(errs) > 0 {
		return nil, changedField(decided.Spec, same.Spec) + " can't be changed in place"
	}
	next.Generation++
	return next, ""
}

// changedField is the path of the first field in which two specs differ.
func changedField(a, b v1.PodSpec) string {
	from, err1 := runtime.DefaultUnstructuredConverter.ToUnstructured(&a)
	to, err2 := runtime.DefaultUnstructuredConverter.ToUnstructured(&b)
	if err1 != nil || err2 != nil {
		return "spec"
	}
	return difference("spec", from, to)
}

func difference(path string, a, b any) string {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			return path
		}
		keys := slices.Sorted(maps.Keys(a))
		for key := range b {
			if _, ok := a[key]; !ok {
				keys = append(keys, key)
			}
		}
		for _, key := range keys {
			if !reflect.DeepEqual(a[key], b[key]) {
				return difference(path+"."+key, a[key], b[key])
			}
		}
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return path
		}
		for i := range a {
			if !reflect.DeepEqual(a[i], b[i]) {
				return difference(fmt.Sprintf("%s[%d]", path, i), a[i], b[i])
			}
		}
	}
	return path
}

// resizable says why resources can't be changed in place; "" when they can
// (KEP-1287: cpu and memory of containers, the QoS class stays).
func resizable(old, next *v1.Pod) string {
	if qos.ComputePodQOS(old) != qos.ComputePodQOS(next) {
		return "the QoS class changes with the resources"
	}
	if len(old.Spec.Containers) != len(next.Spec.Containers) || len(old.Spec.InitContainers) != len(next.Spec.InitContainers) {
		return "containers were added or removed"
	}
	if !equality.Semantic.DeepEqual(old.Spec.Resources, next.Spec.Resources) {
		return "spec.resources can't be changed in place"
	}
	for i := range old.Spec.Containers {
		a, b := old.Spec.Containers[i].Resources, next.Spec.Containers[i].Resources
		if !equality.Semantic.DeepEqual(others(a.Limits), others(b.Limits)) ||
			!equality.Semantic.DeepEqual(others(a.Requests), others(b.Requests)) ||
			!equality.Semantic.DeepEqual(a.Claims, b.Claims) {
			return "only cpu and memory can be changed in place"
		}
	}
	for i := range old.Spec.InitContainers {
		if !equality.Semantic.DeepEqual(old.Spec.InitContainers[i].Resources, next.Spec.InitContainers[i].Resources) {
			return "an init container's resources can't be changed in place"
		}
	}
	return ""
}

// others is a resource list without cpu and memory.
func others(list v1.ResourceList) v1.ResourceList {
	out := v1.ResourceList{}
	for name, q := range list {
		if name != v1.ResourceCPU && name != v1.ResourceMemory {
			out[name] = q
		}
	}
	return out
}

func setResources(to, from []v1.Container) {
	for i := range min(len(to), len(from)) {
		to[i].Resources = from[i].Resources
	}
}
