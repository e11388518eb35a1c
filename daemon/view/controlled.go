package view

import (
	"encoding/json"
	"fmt"
	"maps"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/manifests"
)

// ControllerStatus is the value of an entry in section Status that is an
// object's controller's.
type ControllerStatus struct {
	Term        uint64            `json:"term,omitempty"`        // grows with each steward that takes over, see daemon/steward
	UID         types.UID         `json:"uid"`                   // of the object that it is about
	Annotations map[string]string `json:"annotations,omitempty"` // those that the controller writes
	Status      json.RawMessage   `json:"status"`
}

// foldControlled is an object that is declared or that a controller decided on,
// and what its own controller says of it.
func foldControlled(key manifests.Key, e Entries) (Object, error) {
	o, err := decidedObject(key, e)
	if o == nil && err == nil {
		o, err = Declared(key, e.Claims)
	}
	if o == nil || err != nil {
		return nil, err
	}
	service, is := o.(*v1.Service)
	var given ServiceStatus
	status := statusOf(o)
	if is {
		service.Status = v1.ServiceStatus{}
		status = &given
	}
	if status == nil {
		return o, nil
	}
	node, err := e.teller(o.GetUID())
	if node == "" || err != nil {
		return o, err
	}
	var s ControllerStatus
	if err := json.Unmarshal(e.Status[node].Value, &s); err != nil {
		return nil, fmt.Errorf("status of %s by %s: %w", key, node, err)
	}
	if s.UID != o.GetUID() {
		return o, nil // of an earlier object of that name
	}
	if err := json.Unmarshal(s.Status, status); err != nil {
		return nil, fmt.Errorf("status of %s by %s: %w", key, node, err)
	}
	if is {
		given.Fill(service)
	}
	if len(s.Annotations) > 0 {
		annotations := maps.Clone(o.GetAnnotations())
		if annotations == nil {
			annotations = make(map[string]string)
		}
		maps.Copy(annotations, s.Annotations)
		o.SetAnnotations(annotations)
	}
	return o, nil
}

// decidedObject is the decision on a key that counts, nil when there is none, or
// when it says that there is no object.
func decidedObject(key manifests.Key, e Entries) (Object, error) {
	var o Object
	switch key.GroupKind() {
	case apps.SchemeGroupVersion.WithKind("ReplicaSet").GroupKind():
		o = &apps.ReplicaSet{}
	case apps.SchemeGroupVersion.WithKind("ControllerRevision").GroupKind():
		o = &apps.ControllerRevision{}
	default:
		return nil, nil // a newer version's
	}
	node, err := e.counts()
	if node == "" || err != nil {
		return nil, err
	}
	if err := json.Unmarshal(e.Decisions[node].Value, o); err != nil {
		return nil, fmt.Errorf("decision on %s by %s: %w", key, node, err)
	}
	if o.GetUID() == "" {
		return nil, nil
	}
	o.GetObjectKind().SetGroupVersionKind(apps.SchemeGroupVersion.WithKind(key.Kind))
	return o, nil
}

// statusOf clears the status of an object with a controller, and returns where
// it goes. What a file or a client says of it counts for nothing.
func statusOf(o Object) any {
	switch o := o.(type) {
	case *apps.Deployment:
		o.Status = apps.DeploymentStatus{}
		return &o.Status
	case *apps.ReplicaSet:
		o.Status = apps.ReplicaSetStatus{}
		return &o.Status
	case *apps.DaemonSet:
		o.Status = apps.DaemonSetStatus{}
		return &o.Status
	case *policy.PodDisruptionBudget:
		o.Status = policy.PodDisruptionBudgetStatus{}
		return &o.Status
	}
	return nil
}

// StatusValue is the entry in section Status for an object with a controller.
func StatusValue(o Object, annotations map[string]string) (json.RawMessage, error) {
	var status any
	switch o := o.(type) {
	case *apps.Deployment:
		status = o.Status
	case *apps.ReplicaSet:
		status = o.Status
	case *apps.DaemonSet:
		status = o.Status
	case *policy.PodDisruptionBudget:
		status = o.Status
	default:
		return nil, fmt.Errorf("objects like %T have no controller", o)
	}
	raw, err := json.Marshal(status)
	if err != nil {
		return nil, err
	}
	return json.Marshal(ControllerStatus{UID: o.GetUID(), Annotations: annotations, Status: raw})
}
