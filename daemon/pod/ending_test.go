package pod

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
)

func TestAnEvictedPodIsSaidToBeDisruptedOnceAndForGood(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	p := &v1.Pod{}
	p.Spec.Containers = []v1.Container{{Name: "c", Image: "i"}}
	seen := Observed{Containers: map[string]Container{}, Ending: &Ending{Reason: "Evicted", Message: "low", Disruption: true}}
	disruption := func() (found []v1.PodCondition) {
		for _, c := range p.Status.Conditions {
			if c.Type == v1.DisruptionTarget {
				found = append(found, c)
			}
		}
		return found
	}
	p.Status = Decide(p, seen, now).Status
	first := disruption()
	if len(first) != 1 || first[0].Status != v1.ConditionTrue || first[0].Reason != v1.PodReasonTerminationByKubelet || first[0].Message != "low" {
		t.Fatalf("got %+v", first)
	}
	if p.Status.Phase != v1.PodFailed || p.Status.Reason != "Evicted" || p.Status.Message != "low" {
		t.Errorf("got %s %s %q", p.Status.Phase, p.Status.Reason, p.Status.Message)
	}
	seen.Ending = nil // the host was rebooted since: only the status is left
	p.Status = Decide(p, seen, now.Add(time.Hour)).Status
	if again := disruption(); len(again) != 1 || again[0] != first[0] || p.Status.Reason != "Evicted" {
		t.Errorf("later: %+v, %s", again, p.Status.Reason)
	}
}

func TestAPodWithoutANodeHasNotBegun(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	p := &v1.Pod{}
	p.Spec.Containers = []v1.Container{{Name: "c", Image: "i"}}
	p.Status = Unscheduled(p, "0/1 nodes are available: 1 Insufficient cpu.", now)
	if s := p.Status; s.Phase != v1.PodPending || s.StartTime != nil || len(s.Conditions) != 1 || s.QOSClass != v1.PodQOSBestEffort {
		t.Fatalf("got %+v", s)
	}
	if c := p.Status.Conditions[0]; c.Type != v1.PodScheduled || c.Status != v1.ConditionFalse || c.Reason != v1.PodReasonUnschedulable {
		t.Errorf("got %+v", c)
	}
	gated := Unscheduled(p, SchedulingGated, now.Add(time.Hour)).Conditions[0]
	if gated.Reason != v1.PodReasonSchedulingGated || !gated.LastTransitionTime.Time.Equal(now) {
		t.Errorf("got %+v, want it since %s", gated, now)
	}
	if d := Decide(p, Observed{Containers: map[string]Container{}}, now); len(d.Do) == 0 || d.Status.Conditions[4].Status != v1.ConditionTrue {
		t.Errorf("with a node it does not begin: %+v", d.Status)
	}
}
