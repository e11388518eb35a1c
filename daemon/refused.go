package daemon

import (
	"encoding/json"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// refusedFor is how long a pod is not placed again on a node that refused it:
// that node knew something that the view here did not, and news of it is on its
// way.
const refusedFor = 30 * time.Second

// refusals are the nodes that refused a pod, until when, by the pod's UID. A
// steward that takes over asks them once more.
type refusals map[types.UID]map[string]refusal

type refusal struct {
	until time.Time
	why   string
}

// of are the nodes that are not to be asked now, and why.
func (r refusals) of(uid types.UID, now time.Time) map[string]string {
	except := make(map[string]string)
	for node, no := range r[uid] {
		if no.until.After(now) {
			except[node] = no.why
		}
	}
	return except
}

func (r *refusals) add(uid types.UID, node string, no refusal) {
	if *r == nil {
		*r = make(refusals)
	}
	if (*r)[uid] == nil {
		(*r)[uid] = make(map[string]refusal)
	}
	(*r)[uid][node] = no
}

// tryElsewhere takes a pod back from a node that refused it, so that another is
// found for it, and says whether it did. A lone host has none; and a pod that
// can be on that node only stays there as failed, as Kubernetes has it.
func (d *Daemon) tryElsewhere(key manifests.Key, p *v1.Pod) bool {
	refused := view.PodStatus{UID: p.UID, Status: p.Status}.Refused()
	if !refused || len(d.stewards.members) < 2 || p.DeletionTimestamp != nil || p.Spec.NodeName == "" || d.isBoundToNode(key, p) {
		return false
	}
	d.refusals.add(p.UID, p.Spec.NodeName, refusal{d.Now().Add(refusedFor), "node(s) refused the pod: " + p.Status.Reason})
	values := make(map[record.Name]json.RawMessage)
	d.bind(values, p, "")
	d.publish(values)
	return true
}

// isBoundToNode says whether a pod's node was chosen by whoever declared it, or
// by its daemon set.
func (d *Daemon) isBoundToNode(key manifests.Key, p *v1.Pod) bool {
	if declared := d.declared[key]; declared != nil {
		return declared.Spec.NodeName != ""
	}
	ref := metav1.GetControllerOf(p)
	if ref == nil || ref.Kind != workload.KindReplicaSet.Kind {
		return true
	}
	o, ok := d.view.Get(manifests.Key{Group: workload.KindReplicaSet.Group, Kind: ref.Kind, Namespace: p.Namespace, Name: ref.Name})
	rs, is := o.(*apps.ReplicaSet)
	return !ok || !is || rs.Spec.Template.Spec.NodeName != ""
}
