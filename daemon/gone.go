package daemon

import (
	"encoding/json"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// quarantine is how long a node that a pod names must be unknown before nothing
// of the pod is said to be left, where there are others who may know it
// (upstream's pod garbage collector's).
const quarantine = 40 * time.Second

// isGone says whether nothing of a pod is left on its host: it has none yet, or
// that one says so, or there is no such node.
func (d *Daemon) isGone(p *v1.Pod) bool {
	switch p.Spec.NodeName {
	case "":
		return true
	case d.Config.Node:
		return d.gone[p.UID]
	}
	said, ok := d.said(record.Name{Section: record.Status, Key: podKey(p).String()})[p.Spec.NodeName]
	var s view.PodStatus
	if ok && json.Unmarshal(said.Value, &s) == nil && s.UID == p.UID && s.Gone {
		return true
	}
	if _, lost := lostSince(d.seenNode(p.Spec.NodeName)); lost && isForced(p) {
		return true // a person says so; its host ends it when it is back
	}
	if d.knowsNode(p.Spec.NodeName) {
		delete(d.strangers, p.Spec.NodeName)
		return false
	}
	if d.alone() {
		return true
	}
	since, known := d.strangers[p.Spec.NodeName]
	if !known {
		if d.strangers == nil {
			d.strangers = make(map[string]time.Time)
		}
		since = d.Now()
		d.strangers[p.Spec.NodeName] = since
	}
	if d.Now().Sub(since) >= quarantine {
		return true
	}
	d.looks.later[podKey(p)] = since.Add(quarantine)
	return false
}

// isForced says whether a pod was deleted without grace (`kubectl delete --force`).
func isForced(p *v1.Pod) bool {
	return p.DeletionTimestamp != nil && p.DeletionGracePeriodSeconds != nil && *p.DeletionGracePeriodSeconds == 0
}

// knowsNode says whether there is a node of that name.
func (d *Daemon) knowsNode(name string) bool {
	_, known := d.view.Get(manifests.Key{Kind: workload.KindNode.Kind, Name: name})
	return known || name == d.Config.Node
}

// sayGone tells a pod's steward, where that is another node, that nothing of it
// is left here.
func (d *Daemon) sayGone(key manifests.Key, uid types.UID, status v1.PodStatus) {
	if !d.decides(key) {
		d.sayStatus(key, view.PodStatus{UID: uid, Status: status, Gone: true})
	}
}

// leftBehind notes that nothing of a pod is left here. One that was waited for,
// or that comes back, begins anew.
func (d *Daemon) leftBehind(uid types.UID) {
	waited := d.leftovers.has(uid)
	d.leftovers.gone(uid)
	d.rooms.leave(uid)
	d.tokens.forget(uid)
	if waited {
		d.runPods()
	}
}

// tidyStatus takes out of this node's record what it said of a pod that is no
// longer its own to say anything of.
func (d *Daemon) tidyStatus(key manifests.Key, p *v1.Pod) {
	node := p.Spec.NodeName
	if node == d.Config.Node || node == "" && d.decides(key) {
		return
	}
	name := record.Name{Section: record.Status, Key: key.String()}
	if d.own(name) != nil {
		d.publish(map[record.Name]json.RawMessage{name: nil})
	}
}
