package workload

import (
	"fmt"
	"math"
	"slices"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hasDeadline says whether a rollout that gets nowhere is to be reported.
func hasDeadline(d *apps.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != math.MaxInt32
}

func condition(s *apps.DeploymentStatus, kind apps.DeploymentConditionType) *apps.DeploymentCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return &s.Conditions[i]
		}
	}
	return nil
}

func dropCondition(s *apps.DeploymentStatus, kind apps.DeploymentConditionType) {
	s.Conditions = slices.DeleteFunc(slices.Clone(s.Conditions), func(c apps.DeploymentCondition) bool { return c.Type == kind })
}

// setCondition sets a condition of the status from before.
func (r *rollout) setCondition(kind apps.DeploymentConditionType, status v1.ConditionStatus, reason, message string) {
	setCondition(&r.d.Status, r.condition(kind, status, reason, message))
}

func (r *rollout) condition(kind apps.DeploymentConditionType, status v1.ConditionStatus, reason, message string) apps.DeploymentCondition {
	now := metav1.NewTime(r.c.Now.Truncate(time.Second))
	return apps.DeploymentCondition{Type: kind, Status: status, Reason: reason, Message: message, LastUpdateTime: now, LastTransitionTime: now}
}

// setCondition leaves a condition of the same status and reason as it is, and
// keeps since when the status is what it is.
func setCondition(s *apps.DeploymentStatus, c apps.DeploymentCondition) {
	old := condition(s, c.Type)
	if old != nil && old.Status == c.Status {
		if old.Reason == c.Reason {
			return
		}
		c.LastTransitionTime = old.LastTransitionTime
	}
	dropCondition(s, c.Type)
	s.Conditions = append(s.Conditions, c)
}

// pausedCondition makes a pause, and its end, visible in the condition that
// tells of progress, from where the deadline counts again. A missed deadline
// stays reported.
func (r *rollout) pausedCondition() {
	if !hasDeadline(r.d) {
		return
	}
	c := condition(&r.d.Status, apps.DeploymentProgressing)
	if c != nil && c.Reason == "ProgressDeadlineExceeded" {
		return
	}
	was := c != nil && c.Reason == "DeploymentPaused"
	switch {
	case r.d.Spec.Paused && !was:
		r.setCondition(apps.DeploymentProgressing, v1.ConditionUnknown, "DeploymentPaused", "Deployment is paused")
	case !r.d.Spec.Paused && was:
		r.setCondition(apps.DeploymentProgressing, v1.ConditionUnknown, "DeploymentResumed", "Deployment is resumed")
	}
}

// complete says whether all pods are of the current template and available, and
// no other is left.
func complete(d *apps.Deployment, s *apps.DeploymentStatus) bool {
	n := *d.Spec.Replicas
	return s.UpdatedReplicas == n && s.Replicas == n && s.AvailableReplicas == n && s.ObservedGeneration >= d.Generation
}

func (r *rollout) setStatus(s apps.DeploymentStatus) {
	d := r.d.DeepCopy()
	d.Status = s
	r.out.change(Status, d)
}

// counted is the deployment's status without an estimate of progress (upstream's
// calculateStatus).
func (r *rollout) counted() apps.DeploymentStatus {
	d, all := r.d, r.all()
	available := sum(all, availableReplicas)
	s := apps.DeploymentStatus{
		ObservedGeneration:  d.Generation,
		Replicas:            sum(all, actualReplicas),
		ReadyReplicas:       sum(all, func(s apps.ReplicaSetStatus) int32 { return s.ReadyReplicas }),
		AvailableReplicas:   available,
		UnavailableReplicas: max(0, wanted(all)-available),
		CollisionCount:      d.Status.CollisionCount,
		Conditions:          slices.Clone(d.Status.Conditions),
	}
	if r.current != nil {
		s.UpdatedReplicas = r.current.Status.Replicas
	}
	ending := sum(all, func(s apps.ReplicaSetStatus) int32 {
		if s.TerminatingReplicas == nil {
			return 0
		}
		return *s.TerminatingReplicas
	})
	s.TerminatingReplicas = &ending
	_, unavailable := fenceposts(d)
	if available >= *d.Spec.Replicas-unavailable {
		setCondition(&s, r.condition(apps.DeploymentAvailable, v1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability."))
	} else {
		setCondition(&s, r.condition(apps.DeploymentAvailable, v1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability."))
	}
	return s
}

// progressed is the deployment's status amid a rollout (upstream's
// syncRolloutStatus).
func (r *rollout) progressed() apps.DeploymentStatus {
	s := r.counted()
	was := condition(&r.d.Status, apps.DeploymentProgressing)
	done := s.Replicas == s.UpdatedReplicas && was != nil && was.Reason == "NewReplicaSetAvailable"
	switch {
	case !hasDeadline(r.d):
		dropCondition(&s, apps.DeploymentProgressing)
	case !done:
		r.estimate(&s, was)
	}
	if c := r.failure(); c != nil {
		setCondition(&s, *c)
	} else {
		dropCondition(&s, apps.DeploymentReplicaFailure)
	}
	r.deadline(&s)
	return s
}

// estimate says whether a rollout is complete, gets on, or has got nowhere for
// too long.
func (r *rollout) estimate(s *apps.DeploymentStatus, was *apps.DeploymentCondition) {
	what := fmt.Sprintf("Deployment %q", r.d.Name)
	if r.current != nil {
		what = fmt.Sprintf("ReplicaSet %q", r.current.Name)
	}
	switch {
	case complete(r.d, s):
		setCondition(s, r.condition(apps.DeploymentProgressing, v1.ConditionTrue, "NewReplicaSetAvailable", what+" has successfully progressed."))
	case progressing(&r.d.Status, s):
		c := r.condition(apps.DeploymentProgressing, v1.ConditionTrue, "ReplicaSetUpdated", what+" is progressing.")
		if was != nil && was.Status == v1.ConditionTrue {
			c.LastTransitionTime = was.LastTransitionTime
		}
		dropCondition(s, apps.DeploymentProgressing) // each bit of progress counts anew
		setCondition(s, c)
	case r.timedOut(was):
		setCondition(s, r.condition(apps.DeploymentProgressing, v1.ConditionFalse, "ProgressDeadlineExceeded", what+" has timed out progressing."))
	}
}

// progressing compares counts: more new pods, fewer old ones, more that are
// ready or available.
func progressing(was, s *apps.DeploymentStatus) bool {
	return s.UpdatedReplicas > was.UpdatedReplicas || s.Replicas-s.UpdatedReplicas < was.Replicas-was.UpdatedReplicas ||
		s.ReadyReplicas > was.ReadyReplicas || s.AvailableReplicas > was.AvailableReplicas
}

func (r *rollout) due(c *apps.DeploymentCondition) time.Time {
	return c.LastUpdateTime.Add(time.Duration(*r.d.Spec.ProgressDeadlineSeconds) * time.Second)
}

func (r *rollout) timedOut(c *apps.DeploymentCondition) bool {
	switch {
	case c == nil || c.Reason == "NewReplicaSetAvailable":
		return false
	case c.Reason == "ProgressDeadlineExceeded":
		return true
	}
	return r.due(c).Before(r.c.Now)
}

// deadline asks to look again when the time for progress is over.
func (r *rollout) deadline(s *apps.DeploymentStatus) {
	c := condition(s, apps.DeploymentProgressing)
	if c == nil || !hasDeadline(r.d) || complete(r.d, s) || c.Reason == "ProgressDeadlineExceeded" || c.Reason == "NewReplicaSetAvailable" {
		return
	}
	r.out.again(r.due(c).Add(time.Second)) // times in conditions have whole seconds
}

// failure is why a replica set could not make its pods, the current one's first.
func (r *rollout) failure() *apps.DeploymentCondition {
	all := r.all()
	slices.Reverse(all)
	for _, rs := range all {
		for _, c := range rs.Status.Conditions {
			if c.Type == apps.ReplicaSetReplicaFailure {
				return &apps.DeploymentCondition{
					Type: apps.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message,
					LastUpdateTime: c.LastTransitionTime, LastTransitionTime: c.LastTransitionTime,
				}
			}
		}
	}
	return nil
}
