package pod

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// resizeConditions say how far an edit of resources has come (KEP-1287): it
// waits for something, or is being put in force.
func (d *decider) resizeConditions() []v1.PodCondition {
	var list []v1.PodCondition
	if d.pod.DeletionTimestamp != nil || over(d.pod.Status.Phase) {
		return nil
	}
	if r := d.seen.Resize; r != nil {
		list = append(list, v1.PodCondition{
			Type: v1.PodResizePending, Status: v1.ConditionTrue, Reason: r.Reason, Message: r.Message,
		})
	}
	under, failure := false, d.seen.Sandbox.ResizeFailure
	for _, containers := range [][]v1.Container{d.pod.Spec.InitContainers, d.pod.Spec.Containers} {
		for i := range containers {
			seen := d.seen.Containers[containers[i].Name]
			if a := seen.Current; a == nil || a.State == Exited || equality.Semantic.DeepEqual(a.Resources, containers[i].Resources) {
				continue
			}
			under = true
			if seen.ResizeFailure != nil {
				failure = seen.ResizeFailure
			}
		}
	}
	if !under {
		return list
	}
	c := v1.PodCondition{Type: v1.PodResizeInProgress, Status: v1.ConditionTrue}
	if failure != nil {
		c.Reason, c.Message = v1.PodReasonError, failure.Message
	}
	return append(list, c)
}
