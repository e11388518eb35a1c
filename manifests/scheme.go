package manifests

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"         // registers apps
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"  // registers autoscaling
	_ "k8s.io/kubernetes/pkg/apis/batch/install"        // registers batch
	_ "k8s.io/kubernetes/pkg/apis/coordination/install" // registers coordination.k8s.io
	_ "k8s.io/kubernetes/pkg/apis/core/install"         // registers the core group
	_ "k8s.io/kubernetes/pkg/apis/discovery/install"    // registers discovery.k8s.io
	_ "k8s.io/kubernetes/pkg/apis/events/install"       // registers events.k8s.io
	_ "k8s.io/kubernetes/pkg/apis/networking/install"   // registers networking.k8s.io
	_ "k8s.io/kubernetes/pkg/apis/node/install"         // registers node.k8s.io
	_ "k8s.io/kubernetes/pkg/apis/policy/install"       // registers policy
	_ "k8s.io/kubernetes/pkg/apis/rbac/install"         // registers rbac.authorization.k8s.io
	_ "k8s.io/kubernetes/pkg/apis/scheduling/install"   // registers scheduling.k8s.io
	_ "k8s.io/kubernetes/pkg/apis/storage/install"      // registers storage.k8s.io
	"k8s.io/kubernetes/pkg/capabilities"
	kjson "sigs.k8s.io/json"
)

// Scheme holds Kubernetes' types, versions, defaults and conversions. It is
// upstream's one and must not be added to after start.
var Scheme *runtime.Scheme = legacyscheme.Scheme

func init() {
	// A process-wide setting upstream; a host's own files are as trusted as root.
	capabilities.Setup(true, 0)
}

// GVKFor is the group, version and kind of an external object's Go type,
// whatever its TypeMeta says.
func GVKFor(obj runtime.Object) (schema.GroupVersionKind, error) {
	gvks, _, err := Scheme.ObjectKinds(obj)
	if err != nil {
		return schema.GroupVersionKind{}, err
	}
	for _, gvk := range gvks {
		if gvk.Version != runtime.APIVersionInternal {
			return gvk, nil
		}
	}
	return schema.GroupVersionKind{}, fmt.Errorf("%T has no version that could stand in a file", obj)
}

// KeyOf names an object. An object of a namespaced kind that gives no
// namespace is in "default", as with kubectl; a cluster-wide one is in none,
// whatever it says, as in the apiserver.
func KeyOf(obj runtime.Object) (Key, error) {
	gvk, err := GVKFor(obj)
	if err != nil {
		return Key{}, err
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return Key{}, fmt.Errorf("key of %s: %w", gvk.Kind, err)
	}
	namespaced, known := Namespaced(gvk.GroupKind())
	key := Key{Group: gvk.Group, Kind: gvk.Kind, Namespace: m.GetNamespace(), Name: m.GetName()}
	if known && !namespaced {
		key.Namespace = ""
	} else if known && key.Namespace == "" {
		key.Namespace = metav1.NamespaceDefault
	}
	return key, nil
}

// Default fills in, in place, what Kubernetes' API server would: the defaults
// of obj's own version, its namespace and its TypeMeta. Default of a defaulted
// object changes nothing.
func Default(obj runtime.Object) {
	Scheme.Default(obj)
	gvk, err := GVKFor(obj)
	if err != nil {
		return
	}
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	fill(obj)
	namespaced, known := Namespaced(gvk.GroupKind())
	m, err := meta.Accessor(obj)
	if err != nil || !known {
		return
	}
	if !namespaced {
		m.SetNamespace(metav1.NamespaceNone)
	} else if m.GetNamespace() == "" {
		m.SetNamespace(metav1.NamespaceDefault)
	}
}

// fill sets what upstream sets outside its defaulting functions but before
// validation, which counts on it.
func fill(obj runtime.Object) {
	switch o := obj.(type) {
	case *corev1.Service: // the service registry's normalizeClusterIPs
		if o.Spec.ClusterIP != "" && len(o.Spec.ClusterIPs) == 0 {
			o.Spec.ClusterIPs = []string{o.Spec.ClusterIP}
		}
	case *corev1.Pod: // the ServiceAccount admission plugin, which passes static pods over
		if _, static := o.Annotations[corev1.MirrorPodAnnotationKey]; o.Spec.ServiceAccountName == "" && !static {
			o.Spec.ServiceAccountName = "default"
		}
	}
}

// Validate says what Kubernetes' API server would refuse in a new object. obj
// is external and defaulted; it is not changed.
func Validate(obj runtime.Object) field.ErrorList {
	k, in, err := internal(obj)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	errs := append(k.rules.create(in), append(exclusive(obj), dnsSearch(obj)...)...)
	if len(errs) == 0 {
		// As rest.BeforeCreate does for every kind: some have no rule for names.
		errs = apivalidation.ValidateObjectMetaAccessor(in.(metav1.Object), k.namespaced, path.ValidatePathSegmentName, field.NewPath("metadata"))
	}
	return errs
}

// ValidateUpdate says what may not change from old to new without replacing
// the object: an empty list means that the change can be made in place. Both
// are external, defaulted and of one key; neither is changed. What the system
// sets (UID, resourceVersion, creation time, status) is taken from old. For
// pods, container resources may change as through the resize subresource.
func ValidateUpdate(new, old runtime.Object) field.ErrorList {
	k, in, err := internal(new)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	kOld, inOld, err := internal(old)
	if err != nil {
		return field.ErrorList{field.InternalError(nil, err)}
	}
	if k.id != kOld.id {
		return field.ErrorList{field.Invalid(field.NewPath("kind"), k.id.Kind, "is not the kind of the object it would update: "+kOld.id.Kind)}
	}
	m, mOld := in.(metav1.Object), inOld.(metav1.Object)
	if mOld.GetResourceVersion() == "" {
		mOld.SetResourceVersion("1")
	}
	m.SetResourceVersion(mOld.GetResourceVersion())
	m.SetUID(mOld.GetUID())
	m.SetCreationTimestamp(mOld.GetCreationTimestamp())
	m.SetDeletionTimestamp(mOld.GetDeletionTimestamp())
	m.SetDeletionGracePeriodSeconds(mOld.GetDeletionGracePeriodSeconds())
	m.SetGeneration(mOld.GetGeneration())
	m.SetManagedFields(nil)
	mOld.SetManagedFields(nil)
	errs := append(k.rules.update(in, inOld), append(exclusiveUpdate(new, old), dnsSearch(new)...)...)
	if len(errs) == 0 {
		errs = apivalidation.ValidateObjectMetaAccessorUpdate(m, mOld, field.NewPath("metadata")) // as rest.BeforeUpdate
	}
	return errs
}

type identified struct {
	kind
	id schema.GroupKind
}

// internal is a copy of an external object in upstream's internal form, the
// one that validation is written for.
func internal(obj runtime.Object) (identified, runtime.Object, error) {
	gvk, err := GVKFor(obj)
	if err != nil {
		return identified{}, nil, err
	}
	k, known := kinds[gvk.GroupKind()]
	if !known {
		return identified{}, nil, fmt.Errorf("no rules for %s", gvk.GroupKind())
	}
	in, err := Scheme.ConvertToVersion(obj.DeepCopyObject(), schema.GroupVersion{Group: gvk.Group, Version: runtime.APIVersionInternal})
	if err != nil {
		return identified{}, nil, fmt.Errorf("convert %s: %w", gvk, err)
	}
	return identified{k, gvk.GroupKind()}, in, nil
}

// canonical defaults obj and brings it to the form in which an API server
// would hand it out: the kind's own version (an autoscaler in v1 becomes v2),
// a Secret's stringData folded into its data. It may reuse obj's memory.
func canonical(obj runtime.Object) (runtime.Object, error) {
	Default(obj)
	gvk, err := GVKFor(obj)
	if err != nil {
		return nil, err
	}
	k, known := kinds[gvk.GroupKind()]
	if !known {
		return nil, fmt.Errorf("kind %s cannot be declared", gvk.GroupKind())
	}
	in, err := Scheme.ConvertToVersion(obj, schema.GroupVersion{Group: gvk.Group, Version: runtime.APIVersionInternal})
	if err != nil {
		return nil, fmt.Errorf("convert %s: %w", gvk, err)
	}
	out, err := Scheme.ConvertToVersion(in, schema.GroupVersion{Group: gvk.Group, Version: k.version})
	if err != nil {
		return nil, fmt.Errorf("convert %s to %s: %w", gvk, k.version, err)
	}
	Default(out)
	return out, nil
}

// FromDeclared gives back the object whose Declared bytes were stored or sent
// by a peer: decoded, defaulted and in the version in which objects of its kind
// are handed on, but not validated again. Fields that this version does not
// know are passed over: a newer one wrote them, and keeps them in the bytes.
func FromDeclared(data []byte) (runtime.Object, error) {
	var tm metav1.TypeMeta
	if err := json.Unmarshal(data, &tm); err != nil {
		return nil, fmt.Errorf("read declared object: %w", err)
	}
	obj, err := Scheme.New(tm.GroupVersionKind())
	if err != nil {
		return nil, fmt.Errorf("read declared object: %w", err)
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, obj); err != nil {
		return nil, fmt.Errorf("read declared %s: %w", tm.Kind, err)
	}
	return canonical(obj)
}
