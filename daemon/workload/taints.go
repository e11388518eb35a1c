package workload

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// evictByTaints ends a pod that does not tolerate a NoExecute taint of its node,
// or has tolerated it for as long as it wanted to (upstream's taint eviction
// controller). A static pod is its host's own: it stays. Of a node that nobody
// hears of, no pod is ended that a replica set replaces (see GivenUp), nor one
// that is to be on that node and on no other; nor any once its host is in sight
// again. A pod of a node that is no more is
// ended (upstream's pod garbage collector).
func (c Cluster) evictByTaints(p *v1.Pod) (out Outcome) {
	if p.Spec.NodeName == "" {
		return out
	}
	node := c.node(p)
	bound := c.Bound != nil && c.Bound(p)
	if node == nil {
		if !bound && !Static(p) && c.Gone(p) {
			out.change(Delete, deleted(p, c.Now))
		}
		return out
	}
	if Unreachable(node) && (bound || replicated(p)) {
		return out
	}
	if _, until, spared := c.spared(node); spared {
		out.again(until)
		return out
	}
	at, goes := DrivenOutAt(p, node.Spec.Taints)
	switch {
	case !goes:
	case at.After(c.Now):
		out.again(at)
	default:
		out.event(p, v1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod "+p.Namespace+"/"+p.Name)
		out.change(Delete, Displaced(p, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint", c.Now))
	}
	return out
}

// DrivenOutAt is when taints of its node drive a pod out, if they do, and it has
// not ended and is no static pod: at once where one is
// not tolerated, else when the first toleration with tolerationSeconds has run
// out. These count from when the taint was added, or the pod placed, if that
// was later. (Upstream counts from when its controller noticed, and begins
// anew when that is restarted.)
func DrivenOutAt(p *v1.Pod, taints []v1.Taint) (at time.Time, goes bool) {
	if p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed || Static(p) {
		return at, false
	}
	for i := range taints {
		t := &taints[i]
		if t.Effect != v1.TaintEffectNoExecute {
			continue
		}
		since := placedAt(p)
		if t.TimeAdded != nil && t.TimeAdded.After(since) {
			since = t.TimeAdded.Time
		}
		by := slices.IndexFunc(p.Spec.Tolerations, func(o v1.Toleration) bool { return o.ToleratesTaint(klog.Logger{}, t, false) })
		switch {
		case by < 0:
		case p.Spec.Tolerations[by].TolerationSeconds == nil:
			continue
		default:
			since = since.Add(time.Duration(max(*p.Spec.Tolerations[by].TolerationSeconds, 0)) * time.Second)
		}
		if !goes || since.Before(at) {
			at, goes = since, true
		}
	}
	return at, goes
}

// placedAt is when a pod got its node, as far as it says so.
func placedAt(p *v1.Pod) time.Time {
	if _, c := podutil.GetPodCondition(&p.Status, v1.PodScheduled); c != nil && c.Status == v1.ConditionTrue {
		return c.LastTransitionTime.Time
	}
	return p.CreationTimestamp.Time
}

// drivenOut are the pods for which it matters how a node's NoExecute taints have
// changed: those on the node; and their replica sets, which see to pods of lost
// nodes.
func drivenOut(objects Objects, old, now view.Object) (keys []manifests.Key) {
	var name string
	taints := func(o view.Object) []v1.Taint {
		node, ok := o.(*v1.Node)
		if !ok {
			return nil
		}
		name = node.Name
		return slices.DeleteFunc(slices.Clone(node.Spec.Taints), func(t v1.Taint) bool { return t.Effect != v1.TaintEffectNoExecute })
	}
	same := func(a, b v1.Taint) bool {
		return a.MatchTaint(&b) && a.Value == b.Value && a.TimeAdded.Equal(b.TimeAdded)
	}
	if slices.EqualFunc(taints(old), taints(now), same) {
		return nil
	}
	pods, _ := objects.List(KindPod, metav1.NamespaceAll)
	for _, o := range pods {
		if p, ok := o.(*v1.Pod); ok && p.Spec.NodeName == name {
			keys = append(keys, manifests.Key{Kind: KindPod.Kind, Namespace: p.Namespace, Name: p.Name})
			if replicated(p) {
				keys = append(keys, manifests.Key{Group: KindReplicaSet.Group, Kind: KindReplicaSet.Kind, Namespace: p.Namespace, Name: metav1.GetControllerOf(p).Name})
			}
		}
	}
	return keys
}
