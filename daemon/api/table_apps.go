package api

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"
)

func init() {
	apps := func(kind string, t table) { tables[schema.GroupKind{Group: "apps", Kind: kind}] = t }
	apps("Deployment", show("Name Ready Up-to-date Available Age *Containers *Images *Selector",
		func(o *appsv1.Deployment, now time.Time) []any {
			names, refs := images(o.Spec.Template.Spec.Containers)
			return []any{o.Name, fmt.Sprintf("%d/%d", o.Status.ReadyReplicas, deref(o.Spec.Replicas)), o.Status.UpdatedReplicas,
				o.Status.AvailableReplicas, age(o, now), names, refs, metav1.FormatLabelSelector(o.Spec.Selector)}
		}))
	apps("ReplicaSet", show("Name Desired:integer Current:integer Ready:integer Age *Containers *Images *Selector",
		func(o *appsv1.ReplicaSet, now time.Time) []any {
			names, refs := images(o.Spec.Template.Spec.Containers)
			return []any{o.Name, deref(o.Spec.Replicas), o.Status.Replicas, o.Status.ReadyReplicas, age(o, now),
				names, refs, metav1.FormatLabelSelector(o.Spec.Selector)}
		}))
	apps("StatefulSet", show("Name Ready Age *Containers *Images", func(o *appsv1.StatefulSet, now time.Time) []any {
		names, refs := images(o.Spec.Template.Spec.Containers)
		return []any{o.Name, fmt.Sprintf("%d/%d", o.Status.ReadyReplicas, deref(o.Spec.Replicas)), age(o, now), names, refs}
	}))
	apps("DaemonSet", show("Name Desired:integer Current:integer Ready:integer Up-to-date:integer Available:integer Node_Selector Age *Containers *Images *Selector",
		func(o *appsv1.DaemonSet, now time.Time) []any {
			names, refs := images(o.Spec.Template.Spec.Containers)
			s := o.Status
			return []any{o.Name, s.DesiredNumberScheduled, s.CurrentNumberScheduled, s.NumberReady, s.UpdatedNumberScheduled,
				s.NumberAvailable, formatLabels(o.Spec.Template.Spec.NodeSelector), age(o, now),
				names, refs, metav1.FormatLabelSelector(o.Spec.Selector)}
		}))
	apps("ControllerRevision", show("Name Controller Revision Age", func(o *appsv1.ControllerRevision, now time.Time) []any {
		owner := "<none>"
		if c := metav1.GetControllerOf(o); c != nil {
			owner = ownerName(c)
		}
		return []any{o.Name, owner, o.Revision, age(o, now)}
	}))
	tables[schema.GroupKind{Group: "batch", Kind: "Job"}] = show(
		"Name Status Completions Duration Age *Containers *Images *Selector", jobCells)
	tables[schema.GroupKind{Group: "batch", Kind: "CronJob"}] = show(
		"Name Schedule Timezone Suspend:boolean Active:integer Last_Schedule Age *Containers *Images *Selector",
		func(o *batchv1.CronJob, now time.Time) []any {
			last := "<none>"
			if o.Status.LastScheduleTime != nil {
				last = since(*o.Status.LastScheduleTime, now)
			}
			suspend := "<unset>"
			if o.Spec.Suspend != nil {
				suspend = map[bool]string{true: "True", false: "False"}[*o.Spec.Suspend]
			}
			names, refs := images(o.Spec.JobTemplate.Spec.Template.Spec.Containers)
			return []any{o.Name, o.Spec.Schedule, or(deref(o.Spec.TimeZone), "<none>"), suspend, len(o.Status.Active), last,
				age(o, now), names, refs, metav1.FormatLabelSelector(o.Spec.JobTemplate.Spec.Selector)}
		})
}

// ownerName is an owner as kubectl names it: deployment.apps/web.
func ownerName(c *metav1.OwnerReference) string {
	gv, err := schema.ParseGroupVersion(c.APIVersion)
	if err != nil {
		return c.Kind + "/" + c.Name
	}
	return schema.GroupKind{Group: gv.Group, Kind: c.Kind}.String() + "/" + c.Name
}

func jobCells(o *batchv1.Job, now time.Time) []any {
	completions := fmt.Sprintf("%d/1", o.Status.Succeeded)
	if o.Spec.Completions != nil {
		completions = fmt.Sprintf("%d/%d", o.Status.Succeeded, *o.Spec.Completions)
	} else if n := deref(o.Spec.Parallelism); n > 1 {
		completions = fmt.Sprintf("%d/1 of %d", o.Status.Succeeded, n)
	}
	var took string
	if start := o.Status.StartTime; start != nil {
		end := now
		if o.Status.CompletionTime != nil {
			end = o.Status.CompletionTime.Time
		}
		took = duration.HumanDuration(end.Sub(start.Time))
	}
	names, refs := images(o.Spec.Template.Spec.Containers)
	return []any{o.Name, jobStatus(o), completions, took, age(o, now), names, refs, metav1.FormatLabelSelector(o.Spec.Selector)}
}

func jobStatus(o *batchv1.Job) string {
	is := func(kind batchv1.JobConditionType) bool {
		for _, c := range o.Status.Conditions {
			if c.Type == kind {
				return c.Status == v1.ConditionTrue
			}
		}
		return false
	}
	switch {
	case is(batchv1.JobComplete):
		return "Complete"
	case is(batchv1.JobFailed):
		return "Failed"
	case o.DeletionTimestamp != nil:
		return "Terminating"
	case is(batchv1.JobSuspended):
		return "Suspended"
	case is(batchv1.JobFailureTarget):
		return "FailureTarget"
	case is(batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}
