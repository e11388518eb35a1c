package daemon

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/pressure"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// nodeWish is what people made of this node through the API: a decision of the
// node, in its record. The rest of its object is what the node says of itself.
type nodeWish struct {
	Labels        map[string]string `json:"labels,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
	Taints        []v1.Taint        `json:"taints,omitempty"`
	Unschedulable bool              `json:"unschedulable,omitempty"`
	// Kept is since when another host had kept this, while the node was lost.
	Kept record.Stamp `json:"kept,omitempty"`
}

func (d *Daemon) nodeWishName() record.Name {
	return record.Name{Section: record.Decisions, Key: d.nodeKey().String()}
}

// nodeWish is what the record says. Of one that can't be read (a newer
// version's) nothing counts, and the next write replaces it.
func (d *Daemon) nodeWish() (w nodeWish) {
	value := d.own(d.nodeWishName())
	if value == nil {
		return w
	}
	if err := json.Unmarshal(value, &w); err != nil {
		d.Log.Error("can't read what was set of this node through the API", "err", err)
		return nodeWish{}
	}
	return w
}

// nodeLabels are those that the node has of itself or by its configuration.
func nodeLabels(node, arch string, configured map[string]string) map[string]string {
	labels := map[string]string{v1.LabelHostname: node, v1.LabelOSStable: "linux", v1.LabelArchStable: arch}
	maps.Copy(labels, configured)
	return labels
}

// cordonTaint is what Kubernetes' node lifecycle controller puts on a node that
// is cordoned.
var cordonTaint = v1.Taint{Key: v1.TaintNodeUnschedulable, Effect: v1.TaintEffectNoSchedule}

// notReadyTaint is the same controller's, of a node that is shutting down.
var notReadyTaint = v1.Taint{Key: v1.TaintNodeNotReady, Effect: v1.TaintEffectNoSchedule}

// witnessTaint keeps pods, those of DaemonSets too, off a host that is a witness alone.
var witnessTaint = v1.Taint{Key: "shoal.io/only-witness", Effect: v1.TaintEffectNoSchedule}

// wish adds to the node's own object what people set. What the node says wins.
func (n nodeWish) wish(o *v1.Node) {
	for key, value := range n.Labels {
		if _, own := o.Labels[key]; !own {
			o.Labels[key] = value
		}
	}
	for key, value := range n.Annotations {
		if _, own := o.Annotations[key]; own {
			continue
		}
		if o.Annotations == nil {
			o.Annotations = make(map[string]string)
		}
		o.Annotations[key] = value
	}
	o.Spec.Unschedulable = n.Unschedulable
	if n.Unschedulable {
		o.Spec.Taints = append(o.Spec.Taints, cordonTaint)
	}
	o.Spec.Taints = append(o.Spec.Taints, n.Taints...)
}

// ownTaint says whether a taint follows from the node's state: no one sets or
// removes it.
func ownTaint(t v1.Taint) bool {
	own := slices.ContainsFunc(pressureConditions, func(c pressureCondition) bool { p := pressure.Taint(c.kind); return t.MatchTaint(&p) })
	return own || t.MatchTaint(&cordonTaint) || t.MatchTaint(&notReadyTaint) || t.MatchTaint(&witnessTaint)
}

// wishOf is what people want of the node when they write it as next, which was
// old; bare is the node as it is of itself.
func wishOf(next, old, bare *v1.Node, now time.Time) (n nodeWish, err error) {
	for key, value := range bare.Labels {
		if is, ok := next.Labels[key]; !ok || is != value {
			return n, fmt.Errorf("the label %s is the node's own, or of labels in shoal.toml: change it there", key)
		}
	}
	same := next.Spec.DeepCopy()
	same.Taints, same.Unschedulable = old.Spec.Taints, old.Spec.Unschedulable
	if !equality.Semantic.DeepEqual(*same, old.Spec) {
		return n, fmt.Errorf("of its spec only taints and unschedulable can be changed: the rest is the node's own to say")
	}
	n = nodeWish{Labels: maps.Clone(next.Labels), Annotations: maps.Clone(next.Annotations), Unschedulable: next.Spec.Unschedulable}
	maps.DeleteFunc(n.Labels, func(key, _ string) bool { _, own := bare.Labels[key]; return own })
	maps.DeleteFunc(n.Annotations, func(key, _ string) bool { return key == annotationCPUs || key == annotationNetwork })
	for _, t := range next.Spec.Taints {
		if ownTaint(t) {
			continue
		}
		t.TimeAdded = addedAt(t, old.Spec.Taints, now)
		n.Taints = append(n.Taints, t)
	}
	return n, nil
}

// addedAt is since when a node has a taint; from then on tolerationSeconds
// count. It is of interest for NoExecute alone.
func addedAt(t v1.Taint, old []v1.Taint, now time.Time) *metav1.Time {
	if t.Effect != v1.TaintEffectNoExecute {
		return t.TimeAdded
	}
	for _, o := range old {
		if o.MatchTaint(&t) && o.TimeAdded != nil {
			return o.TimeAdded
		}
	}
	if t.TimeAdded != nil && !t.TimeAdded.After(now) {
		return t.TimeAdded
	}
	at := metav1.NewTime(now.Truncate(time.Second))
	return &at
}

// writeNode makes of this node what a client wrote.
func (d *Daemon) writeNode(key manifests.Key, obj, old view.Object, dryRun bool) error {
	if home := d.nodeHome(key); home != key.Name && home == d.Config.Node {
		return d.keepWish(key, obj, old, dryRun)
	}
	if key != d.nodeKey() || old == nil {
		return forbidden(key, "a node makes itself known, by its name in shoal.toml")
	}
	n, err := wishOf(obj.(*v1.Node), old.(*v1.Node), d.bareNode(), d.Now())
	if err != nil {
		return forbidden(key, err.Error())
	}
	if dryRun {
		return nil
	}
	value, err := json.Marshal(n)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	d.publish(map[record.Name]json.RawMessage{d.nodeWishName(): value})
	d.publishNode()
	return nil
}
