package workload

import (
	"slices"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/manifests"
)

// Unreachable says whether nobody hears of a node and its pods are to go
// elsewhere: its taint says so. That a node says of itself that it is not ready,
// or that somebody taints it, is something else: what it is told, it does.
func Unreachable(node *v1.Node) bool {
	unknown := slices.ContainsFunc(node.Status.Conditions, func(c v1.NodeCondition) bool {
		return c.Type == v1.NodeReady && c.Status == v1.ConditionUnknown
	})
	return unknown && slices.ContainsFunc(node.Spec.Taints, func(t v1.Taint) bool {
		return t.Key == v1.TaintNodeUnreachable && t.Effect == v1.TaintEffectNoExecute
	})
}

// GivenUp says whether a pod's node is unreachable and has driven the pod out,
// and else when it will; zero is never, as things are.
//
// Such a pod is not deleted: nobody can tell whether it runs, and its host may
// come back with it. Until then it does not count for its controller.
// (Kubernetes marks it for deletion, so that a host that comes back ends it
// however long the one that took its place will take to start.)
func GivenUp(p *v1.Pod, node *v1.Node, now time.Time) (is bool, later time.Time) {
	if node == nil || !Unreachable(node) {
		return false, later
	}
	switch at, goes := DrivenOutAt(p, node.Spec.Taints); {
	case !goes:
		return false, later
	case at.After(now):
		return false, at
	}
	return true, later
}

// node is the node that a pod is on; nil for none.
func (c Cluster) node(p *v1.Pod) *v1.Node {
	o, ok := c.Objects.Get(manifests.Key{Kind: KindNode.Kind, Name: p.Spec.NodeName})
	if !ok || p.Spec.NodeName == "" {
		return nil
	}
	return o.(*v1.Node)
}

// backFor is how long it may take until it is taken back that a node which is in
// sight again is unreachable. What says so for longer counts: another part of
// the cluster may not see that host.
const backFor = 10 * time.Second

// spared says whether the host of an unreachable node is in sight again, since
// when, and until when that counts: it drives nobody out who was still there then.
func (c Cluster) spared(node *v1.Node) (since, until time.Time, is bool) {
	if c.Back == nil || !Unreachable(node) {
		return since, until, false
	}
	if since = c.Back(node.Name); since.IsZero() {
		return since, until, false
	}
	until = since.Add(backFor)
	return since, until, c.Now.Before(until)
}

// givenUp is GivenUp of pods whose nodes may be back.
func (c Cluster) givenUp(p *v1.Pod) (is bool, later time.Time) {
	node := c.node(p)
	if is, later = GivenUp(p, node, c.Now); !is && later.IsZero() {
		return is, later
	}
	if since, until, spared := c.spared(node); spared {
		if at, _ := DrivenOutAt(p, node.Spec.Taints); !at.Before(since) {
			return false, until
		}
	}
	return is, later
}

// replicated says whether a pod is one of a replica set's.
func replicated(p *v1.Pod) bool {
	ref := metav1.GetControllerOf(p)
	return ref != nil && ref.Kind == KindReplicaSet.Kind
}

// withoutGivenUp are a replica set's pods without those of lost nodes. One whose
// template names a node would have new ones there for ever.
func (c Cluster) withoutGivenUp(out *Outcome, rs *apps.ReplicaSet, pods []*v1.Pod) []*v1.Pod {
	if rs.Spec.Template.Spec.NodeName != "" {
		return pods
	}
	return slices.DeleteFunc(pods, func(p *v1.Pod) bool {
		is, later := c.givenUp(p)
		if !later.IsZero() {
			out.again(later)
		}
		return is
	})
}

// lostTaints are those that pods tolerate for a while unless they say otherwise.
var lostTaints = []string{v1.TaintNodeNotReady, v1.TaintNodeUnreachable}

// HasToleration says whether one of the tolerations is about a taint with that
// key that drives pods out (the admission plugin DefaultTolerationSeconds).
func HasToleration(list []v1.Toleration, key string) bool {
	return slices.ContainsFunc(list, func(t v1.Toleration) bool {
		return (t.Key == key || t.Key == "") && (t.Effect == v1.TaintEffectNoExecute || t.Effect == "")
	})
}

// keepTolerations carries over to a new declaration those that the pod was given
// when it was made.
func keepTolerations(next, decided *v1.Pod) {
	declared := next.Spec.Tolerations
	for _, t := range decided.Spec.Tolerations {
		given := slices.Contains(lostTaints, t.Key) && t.Operator == v1.TolerationOpExists && t.Effect == v1.TaintEffectNoExecute && t.TolerationSeconds != nil
		if given && !HasToleration(declared, t.Key) {
			next.Spec.Tolerations = append(slices.Clone(next.Spec.Tolerations), t)
		}
	}
}
