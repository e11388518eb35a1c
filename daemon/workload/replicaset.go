package workload

import (
	"slices"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
)

// burst is how many pods one call makes or deletes (upstream's burstReplicas).
const burst = 500

// replicaSet keeps as many pods as a replica set asks for.
func (c Cluster) replicaSet(rs *apps.ReplicaSet) (out Outcome) {
	var pods, ending []*v1.Pod
	var failed []time.Time // when the pods that failed were made
	claimed := slices.DeleteFunc(list[*v1.Pod](c, KindPod, rs.Namespace), func(p *v1.Pod) bool {
		ref := metav1.GetControllerOf(p)
		return !active(p) && (ref == nil || !c.owns(rs, ref)) // nobody adopts what has ended
	})
	for _, p := range claim(c, &out, rs, selectorOf(rs.Spec.Selector), claimed) {
		switch {
		case active(p):
			pods = append(pods, p)
		case terminating(p):
			ending = append(ending, p)
		case p.Status.Phase == v1.PodFailed:
			failed = append(failed, p.CreationTimestamp.Time)
		}
	}
	pods = c.withoutGivenUp(&out, rs, pods)
	var reason string
	var err error
	want := int(*rs.Spec.Replicas)
	switch wait := c.replaceAt(failed); {
	case rs.DeletionTimestamp != nil:
	case len(pods) < want && wait.After(c.Now):
		out.again(wait)
	case len(pods) < want:
		reason, err = "FailedCreate", c.createReplicas(&out, rs, min(want-len(pods), burst))
	case len(pods) > want:
		surplus := slices.Clone(pods)
		c.expendable(surplus, c.siblings(rs))
		for _, p := range surplus[:min(len(pods)-want, burst)] {
			c.deletePod(&out, p, rs)
		}
	}
	c.replicaSetStatus(&out, rs, pods, ending, reason, err)
	return out
}

// createReplicas stops at the first pod that is refused: the others are its
// likes.
func (c Cluster) createReplicas(out *Outcome, rs *apps.ReplicaSet, n int) error {
	for i := range n {
		if err := c.createPod(out, c.newPod(&rs.Spec.Template, rs, KindReplicaSet, i), rs); err != nil {
			out.again(c.Now.Add(refusedAgain))
			return err
		}
	}
	return nil
}

// siblings are the pods that the replica sets of the same owner select, and
// those of rs itself.
func (c Cluster) siblings(rs *apps.ReplicaSet) []*v1.Pod {
	var pods []*v1.Pod
	all := list[*v1.Pod](c, KindPod, rs.Namespace)
	ref := metav1.GetControllerOf(rs)
	sets := []*apps.ReplicaSet{rs}
	if ref != nil {
		for _, other := range list[*apps.ReplicaSet](c, KindReplicaSet, rs.Namespace) {
			if o := metav1.GetControllerOf(other); o != nil && o.UID == ref.UID && other.UID != rs.UID {
				sets = append(sets, other)
			}
		}
	}
	for _, p := range all {
		if slices.ContainsFunc(sets, func(s *apps.ReplicaSet) bool {
			return selectorOf(s.Spec.Selector).Matches(labels.Set(p.Labels))
		}) {
			pods = append(pods, p)
		}
	}
	return pods
}

// replicaSetStatus is upstream's calculateStatus. Counts are those from before
// what was just decided: that changes pods, and so brings the next look.
func (c Cluster) replicaSetStatus(out *Outcome, rs *apps.ReplicaSet, pods, ending []*v1.Pod, reason string, refused error) {
	rs = rs.DeepCopy()
	terminating := int32(len(ending))
	s := apps.ReplicaSetStatus{
		Replicas: int32(len(pods)), TerminatingReplicas: &terminating, ObservedGeneration: rs.Generation,
		Conditions: rs.Status.Conditions,
	}
	template := labels.Set(rs.Spec.Template.Labels).AsSelectorPreValidated()
	for _, p := range pods {
		if template.Matches(labels.Set(p.Labels)) {
			s.FullyLabeledReplicas++
		}
		if !podutil.IsPodReady(p) {
			continue
		}
		s.ReadyReplicas++
		if c.available(p, rs.Spec.MinReadySeconds) {
			s.AvailableReplicas++
		} else {
			out.again(availableAt(p, rs.Spec.MinReadySeconds))
		}
	}
	is := func(cond apps.ReplicaSetCondition) bool { return cond.Type == apps.ReplicaSetReplicaFailure }
	switch {
	case refused == nil:
		s.Conditions = slices.DeleteFunc(s.Conditions, is)
	case !slices.ContainsFunc(s.Conditions, is):
		s.Conditions = append(s.Conditions, apps.ReplicaSetCondition{
			Type: apps.ReplicaSetReplicaFailure, Status: v1.ConditionTrue, LastTransitionTime: metav1.NewTime(c.Now),
			Reason: reason, Message: refused.Error(),
		})
	}
	if len(s.Conditions) == 0 {
		s.Conditions = nil
	}
	rs.Status = s
	out.change(Status, rs)
}
