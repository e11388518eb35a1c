package pod

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Ending is why the node ends a pod that could run on: it is short of something,
// or is shutting down. The pod will have failed, for that reason.
type Ending struct {
	Reason     string        `json:"reason"` // Evicted, Terminated
	Message    string        `json:"message"`
	Grace      time.Duration `json:"grace"`                // at most, from Since; the pod's own may be shorter
	Since      time.Time     `json:"since,omitzero"`       // when that was decided; zero: each container has all of Grace
	Disruption bool          `json:"disruption,omitempty"` // it has the condition DisruptionTarget
}

// endedByNode says whether the node ends the pod, which is not over yet.
func (d *decider) endedByNode() bool {
	e := d.seen.Ending
	if e == nil || over(d.pod.Status.Phase) {
		return false
	}
	d.failed = &Failure{Reason: e.Reason, Message: e.Message}
	return true
}

// grace is how long containers may take to end that are asked to now. Those
// whose turn comes late have what is left.
func (d *decider) grace() time.Duration {
	e := d.seen.Ending
	if e == nil {
		return GracePeriod(d.pod)
	}
	if d.forced() {
		return 0
	}
	// However little was meant, even none, containers are asked before they are
	// killed (the kubelet's calculateEffectiveGracePeriod).
	grace := max(min(e.Grace, GracePeriod(d.pod)), time.Second)
	if grace <= leastGrace || e.Since.IsZero() {
		return grace
	}
	return max(grace-d.now.Sub(e.Since), leastGrace)
}

// Disruption is the condition that says why a pod is ended that could run on
// (KEP-3329); nil where there is none.
func Disruption(s v1.PodStatus) *v1.PodCondition {
	i := slices.IndexFunc(s.Conditions, func(c v1.PodCondition) bool { return c.Type == v1.DisruptionTarget })
	if i < 0 {
		return nil
	}
	return s.Conditions[i].DeepCopy()
}

// disruption is the condition of a pod that the node ended, or ends, or that
// somebody else has deleted for a reason of the cluster's; nil for others.
func (d *decider) disruption() *v1.PodCondition {
	if c := Disruption(d.pod.Status); c != nil {
		return c
	}
	if c := d.seen.Disrupted; c != nil {
		return c.DeepCopy()
	}
	e := d.seen.Ending
	if e == nil || !e.Disruption || over(d.pod.Status.Phase) {
		return nil
	}
	return &v1.PodCondition{
		Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: v1.PodReasonTerminationByKubelet, Message: e.Message,
		ObservedGeneration: d.pod.Generation, LastTransitionTime: metav1.NewTime(d.now.Truncate(time.Second)),
	}
}
