package manifests

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podMetadata is that of a pod, or of an object's pod template, and where it
// stands; nil where there is none.
func podMetadata(obj runtime.Object) (*metav1.ObjectMeta, *field.Path) {
	at := field.NewPath("spec", "template", "metadata")
	switch o := obj.(type) {
	case *corev1.Pod:
		return &o.ObjectMeta, field.NewPath("metadata")
	case *appsv1.Deployment:
		return &o.Spec.Template.ObjectMeta, at
	case *appsv1.ReplicaSet:
		return &o.Spec.Template.ObjectMeta, at
	case *appsv1.StatefulSet:
		return &o.Spec.Template.ObjectMeta, at
	case *appsv1.DaemonSet:
		return &o.Spec.Template.ObjectMeta, at
	case *batchv1.Job:
		return &o.Spec.Template.ObjectMeta, at
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template.ObjectMeta, field.NewPath("spec", "jobTemplate", "spec", "template", "metadata")
	case *corev1.PodTemplate:
		return &o.Template.ObjectMeta, field.NewPath("template", "metadata")
	case *corev1.ReplicationController:
		if o.Spec.Template != nil {
			return &o.Spec.Template.ObjectMeta, at
		}
	}
	return nil, nil
}
