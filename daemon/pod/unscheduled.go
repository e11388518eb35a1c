package pod

import (
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
)

// SchedulingGated is why a pod with scheduling gates is on no node (KEP-3521),
// in the apiserver's words.
const SchedulingGated = "Scheduling is blocked due to non-empty scheduling gates"

// Unscheduled is the status of a pod that has no node yet, as the scheduler sets
// it (pkg/scheduler/schedule_one.go: handleSchedulingFailure). It has no start
// time: no host has taken it in.
func Unscheduled(p *v1.Pod, why string, now time.Time) v1.PodStatus {
	c := v1.PodCondition{
		Type: v1.PodScheduled, Status: v1.ConditionFalse, Reason: v1.PodReasonUnschedulable, Message: why,
		ObservedGeneration: p.Generation, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	}
	if why == SchedulingGated {
		c.Reason = v1.PodReasonSchedulingGated
	}
	for _, old := range p.Status.Conditions {
		if old.Type == c.Type && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	return v1.PodStatus{
		Phase: v1.PodPending, QOSClass: qos.ComputePodQOS(p), ObservedGeneration: p.Generation, Conditions: []v1.PodCondition{c},
	}
}
