package daemon

import (
	"encoding/json"
	"slices"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
)

// Ephemeral containers are decided, not declared: they belong to the very pod
// that they were added to and end with it, as in Kubernetes, where no file and
// no template can hold them. So what declares the pod stays as it is.

// addEphemeral puts a pod's new list of ephemeral containers in force.
func (d *Daemon) addEphemeral(old *v1.Pod, list []v1.EphemeralContainer) {
	p := old.DeepCopy()
	p.Spec.EphemeralContainers = list
	p.Generation++
	values := make(map[record.Name]json.RawMessage)
	d.decided(values, workload.Decision{Verb: workload.Update, Key: podKey(p), Pod: p})
	d.publish(values)
	d.runPods()
}

// undecided is an object as a file may declare it: a pod's ephemeral containers
// come with it when somebody edits the whole.
func undecided(obj view.Object) view.Object {
	p, ok := obj.(*v1.Pod)
	if !ok || len(p.Spec.EphemeralContainers) == 0 {
		return obj
	}
	p = p.DeepCopy()
	p.Spec.EphemeralContainers = nil
	return p
}

// withFound is a decision with what the agent had got to know of it when the
// daemon was killed, nil when it has all that: the node, of which a pod never
// has another, and ephemeral containers, which are only ever added, so that the
// longer list is the newer one.
func withFound(decision json.RawMessage, found *v1.Pod) *v1.Pod {
	var p v1.Pod
	if json.Unmarshal(decision, &p) != nil {
		return nil
	}
	more := len(found.Spec.EphemeralContainers) > len(p.Spec.EphemeralContainers)
	if !more && p.Spec.NodeName == found.Spec.NodeName {
		return nil
	}
	p.Spec.NodeName = found.Spec.NodeName
	if more {
		p.Spec.EphemeralContainers = slices.Clone(found.Spec.EphemeralContainers)
	}
	return &p
}
