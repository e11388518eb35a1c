package pod

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// own are the conditions that the node alone says (the kubelet's
// PodConditionsByKubelet and those it shares). All others are for others to set.
var own = []v1.PodConditionType{
	v1.PodScheduled, v1.PodReady, v1.PodInitialized, v1.ContainersReady, v1.PodReadyToStartContainers,
	v1.PodResizePending, v1.PodResizeInProgress, v1.AllContainersRestarting, v1.DisruptionTarget,
	Exclusive,
}

// Foreign are the conditions that others than the node have set.
func Foreign(conditions []v1.PodCondition) []v1.PodCondition {
	return slices.DeleteFunc(slices.Clone(conditions), func(c v1.PodCondition) bool { return slices.Contains(own, c.Type) })
}

// beyondContainers is the Ready condition of a pod whose containers all are: it
// waits for its readiness gates too (the kubelet's GeneratePodReadyCondition),
// and one that is being deleted is to be sent no more work, before its
// containers hear of it.
func (d *decider) beyondContainers(ready v1.PodCondition) v1.PodCondition {
	if d.pod.DeletionTimestamp != nil {
		ready.Status, ready.Reason, ready.Message = v1.ConditionFalse, reasonTerminating, "pod is being deleted"
		return ready
	}
	var unready []string
	for _, gate := range d.pod.Spec.ReadinessGates {
		i := slices.IndexFunc(d.seen.Conditions, func(c v1.PodCondition) bool { return c.Type == gate.ConditionType })
		if i < 0 {
			unready = append(unready, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		} else if s := d.seen.Conditions[i].Status; s != v1.ConditionTrue {
			unready = append(unready, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, s))
		}
	}
	if len(unready) > 0 {
		ready.Status, ready.Reason, ready.Message = v1.ConditionFalse, "ReadinessGatesNotReady", strings.Join(unready, ", ")
	}
	return ready
}

// initialized says whether the pod once was: then it stays so, also when all
// starts from the beginning.
func (d *decider) initialized() bool {
	return slices.ContainsFunc(d.pod.Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == v1.PodInitialized && c.Status == v1.ConditionTrue
	})
}

// mayRestartAll says whether a container of the pod has a rule that restarts all.
func (d *decider) mayRestartAll() bool {
	for _, list := range [][]v1.Container{d.pod.Spec.InitContainers, d.pod.Spec.Containers} {
		for _, c := range list {
			if slices.ContainsFunc(c.RestartPolicyRules, func(r v1.ContainerRestartRule) bool {
				return r.Action == v1.ContainerRestartRuleActionRestartAllContainers
			}) {
				return true
			}
		}
	}
	return false
}

// restartingCondition says whether all containers are being ended to start from
// the beginning (the kubelet's GenerateAllContainersRestartingCondition).
func (d *decider) restartingCondition(phase v1.PodPhase) v1.PodCondition {
	c := v1.PodCondition{Type: v1.AllContainersRestarting, Status: v1.ConditionFalse}
	switch {
	case phase == v1.PodSucceeded:
		c.Reason = reasonCompleted
	case phase == v1.PodFailed:
		c.Reason = "PodFailed"
	case d.restartingAll():
		c.Status, c.Reason, c.Message = v1.ConditionTrue, "RestartAllContainersStarted", "container exited with restart policy rule"
	}
	return c
}
