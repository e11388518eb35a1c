package api

import (
	"net/url"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// selector says whether an object is asked for.
type selector func(view.Object) bool

func selectorOf(r *resource, q url.Values) (selector, error) {
	byLabel, err := labels.Parse(q.Get("labelSelector"))
	if err != nil {
		return nil, apierrors.NewBadRequest("unable to parse labelSelector: " + err.Error())
	}
	byField, err := fields.ParseSelector(q.Get("fieldSelector"))
	if err != nil {
		return nil, apierrors.NewBadRequest("unable to parse fieldSelector: " + err.Error())
	}
	// Upstream's own table of what may be selected by, kind by kind.
	byField, err = byField.Transform(func(field, value string) (string, string, error) {
		return manifests.Scheme.ConvertFieldLabel(r.gvk(), field, value)
	})
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return func(o view.Object) bool {
		return byLabel.Matches(labels.Set(o.GetLabels())) && (byField.Empty() || byField.Matches(fieldsOf(o)))
	}, nil
}

// fieldsOf is what can be selected by, as each kind's ToSelectableFields in
// k8s.io/kubernetes/pkg/registry has it.
func fieldsOf(o view.Object) fields.Set {
	set := fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}
	switch o := o.(type) {
	case *v1.Pod:
		podFields(set, o)
	case *v1.Event:
		eventFields(set, o)
	case *v1.Secret:
		set["type"] = string(o.Type)
	case *v1.Namespace:
		set["name"], set["status.phase"] = o.Name, string(o.Status.Phase)
	case *v1.Node:
		set["spec.unschedulable"] = strconv.FormatBool(o.Spec.Unschedulable)
	case *v1.PersistentVolume:
		set["name"] = o.Name
	case *v1.PersistentVolumeClaim:
		set["name"] = o.Name
	case *v1.Service:
		set["spec.clusterIP"], set["spec.type"] = o.Spec.ClusterIP, string(o.Spec.Type)
	case *v1.ReplicationController:
		set["status.replicas"] = strconv.Itoa(int(o.Status.Replicas))
	case *appsv1.ReplicaSet:
		set["status.replicas"] = strconv.Itoa(int(o.Status.Replicas))
	case *batchv1.Job:
		set["status.successful"] = strconv.Itoa(int(o.Status.Succeeded))
	}
	return set
}

func podFields(set fields.Set, p *v1.Pod) {
	set["spec.nodeName"] = p.Spec.NodeName
	set["spec.restartPolicy"] = string(p.Spec.RestartPolicy)
	set["spec.schedulerName"] = p.Spec.SchedulerName
	set["spec.serviceAccountName"] = p.Spec.ServiceAccountName
	set["spec.hostNetwork"] = strconv.FormatBool(p.Spec.HostNetwork)
	set["status.phase"] = string(p.Status.Phase)
	set["status.podIP"] = p.Status.PodIP
	if p.Status.PodIP == "" && len(p.Status.PodIPs) > 0 {
		set["status.podIP"] = p.Status.PodIPs[0].IP
	}
	set["status.nominatedNodeName"] = p.Status.NominatedNodeName
}

func eventFields(set fields.Set, e *v1.Event) {
	set["involvedObject.kind"] = e.InvolvedObject.Kind
	set["involvedObject.namespace"] = e.InvolvedObject.Namespace
	set["involvedObject.name"] = e.InvolvedObject.Name
	set["involvedObject.uid"] = string(e.InvolvedObject.UID)
	set["involvedObject.apiVersion"] = e.InvolvedObject.APIVersion
	set["involvedObject.resourceVersion"] = e.InvolvedObject.ResourceVersion
	set["involvedObject.fieldPath"] = e.InvolvedObject.FieldPath
	set["reason"] = e.Reason
	set["reportingComponent"] = e.ReportingController
	set["source"] = e.Source.Component
	if e.Source.Component == "" {
		set["source"] = e.ReportingController
	}
	set["type"] = e.Type
}
