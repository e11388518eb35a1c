package workload

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Disrupted is a pod that is being deleted, with the condition that says for
// which reason of the cluster's (KEP-3329, DisruptionTarget). It is part of the
// decision, so that everybody sees it before the pod ends.
func Disrupted(p *v1.Pod, reason, message string, now time.Time) *v1.Pod {
	p = p.DeepCopy()
	p.Status.Conditions = slices.DeleteFunc(p.Status.Conditions, func(c v1.PodCondition) bool { return c.Type == v1.DisruptionTarget })
	p.Status.Conditions = append(p.Status.Conditions, v1.PodCondition{
		Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: reason, Message: message,
		ObservedGeneration: p.Generation, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	})
	return p
}

// Displaced is a pod that is deleted now, with its own grace, for a reason of
// the cluster's.
func Displaced(p *v1.Pod, reason, message string, now time.Time) *v1.Pod {
	return Disrupted(deleted(p, now), reason, message, now)
}
