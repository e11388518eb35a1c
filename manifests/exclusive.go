package manifests

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// AnnotationExclusive names, on a pod or a pod template, an identity: of the
// pods in a namespace that have the same one, at most one runs in the cluster
// (docs/lease.md).
const AnnotationExclusive = "shoal.io/exclusive"

// exclusiveByName is the value that makes a pod's name its identity.
const exclusiveByName = "true"

// Identity is the pod's, "" for a pod that may run beside others like it.
func Identity(p *corev1.Pod) string {
	if id := p.Annotations[AnnotationExclusive]; id != exclusiveByName {
		return id
	}
	return p.Name
}

// exclusive says what is wrong with the identity that an object asks for.
func exclusive(obj runtime.Object) field.ErrorList {
	meta, at := podMetadata(obj)
	if meta == nil {
		return nil
	}
	_, named := obj.(*corev1.Pod)
	return identity(meta.Annotations, at, named)
}

// identity checks the annotation among others. A template's pods have names that
// nobody else will ever have, so they can't be told apart from by it.
func identity(annotations map[string]string, meta *field.Path, named bool) field.ErrorList {
	id, has := annotations[AnnotationExclusive]
	at := meta.Child("annotations").Key(AnnotationExclusive)
	switch {
	case !has:
		return nil
	case id == exclusiveByName && !named:
		return field.ErrorList{field.Invalid(at, id, "in a template this would be an identity for each pod, since each has another name: "+
			"name one that all of them share, of which one is to run (\"billing\")")}
	case id == "false":
		return field.ErrorList{field.Invalid(at, id, "leave the annotation out for pods that may run beside each other; else name an identity")}
	}
	if problems := validation.IsDNS1123Subdomain(id); len(problems) > 0 {
		return field.ErrorList{field.Invalid(at, id, "an identity is named like an object: "+strings.Join(problems, "; "))}
	}
	return nil
}

// exclusiveUpdate says that a pod can't become, or stop being, one that runs
// only once, nor another identity: its processes live where its lease is kept.
func exclusiveUpdate(obj, old runtime.Object) field.ErrorList {
	p, is := obj.(*corev1.Pod)
	before, was := old.(*corev1.Pod)
	if !is || !was || Identity(p) == Identity(before) {
		return exclusive(obj)
	}
	at := field.NewPath("metadata", "annotations").Key(AnnotationExclusive)
	return field.ErrorList{field.Invalid(at, p.Annotations[AnnotationExclusive], "can't be changed of a pod that is there: delete the pod and make it anew")}
}
