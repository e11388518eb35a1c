package daemon

import (
	"context"
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/view"
)

// ApplyStatus takes the conditions that are not the node's own from a pod's
// status, for good: they are kept in its record with the rest.
func (w writer) ApplyStatus(ctx context.Context, p *v1.Pod, o api.WriteOptions) (result view.Object, err error) {
	select {
	case w.d.writes <- struct{}{}: // no other writer reads what this one is about to replace
		defer func() { <-w.d.writes }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	key := podKey(p)
	check := func() {
		old, exists := w.d.view.Get(key)
		switch {
		case !exists || old.GetUID() != p.UID:
			err = apierrors.NewNotFound(resourceOf(key), key.Name)
		case old.GetResourceVersion() != p.ResourceVersion:
			err = apierrors.NewConflict(resourceOf(key), key.Name,
				errors.New("the object has been modified; please apply your changes to the latest version and try again"))
		default:
			err = checkConditions(p, old.(*v1.Pod))
		}
	}
	if e := w.d.do(ctx, check); e != nil || err != nil {
		return nil, errors.Join(e, err)
	}
	if o.DryRun {
		return p, nil
	}
	if err := w.d.agent.SetConditions(ctx, p, pod.Foreign(p.Status.Conditions)); err != nil {
		return nil, apierrors.NewConflict(resourceOf(key), key.Name, err)
	}
	err = w.d.do(ctx, func() { result, _ = w.d.view.Get(key) })
	if err == nil && result == nil {
		err = apierrors.NewNotFound(resourceOf(key), key.Name)
	}
	return result, err
}

// checkConditions refuses conditions that are none, and changes of those that
// are the node's own.
func checkConditions(p, old *v1.Pod) error {
	at := field.NewPath("status", "conditions")
	var errs field.ErrorList
	seen := make(map[v1.PodConditionType]bool)
	for i, c := range p.Status.Conditions {
		for _, m := range validation.IsQualifiedName(string(c.Type)) {
			errs = append(errs, field.Invalid(at.Index(i).Child("type"), c.Type, m))
		}
		if seen[c.Type] {
			errs = append(errs, field.Duplicate(at.Index(i).Child("type"), c.Type))
		}
		seen[c.Type] = true
		switch c.Status {
		case v1.ConditionTrue, v1.ConditionFalse, v1.ConditionUnknown:
		default:
			errs = append(errs, field.NotSupported(at.Index(i).Child("status"), c.Status,
				[]v1.ConditionStatus{v1.ConditionTrue, v1.ConditionFalse, v1.ConditionUnknown}))
		}
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(podKind, p.Name, errs)
	}
	for _, c := range p.Status.Conditions {
		if len(pod.Foreign([]v1.PodCondition{c})) > 0 {
			continue
		}
		for _, was := range old.Status.Conditions {
			if was.Type == c.Type && was.Status != c.Status {
				return forbidden(podKey(p), fmt.Sprintf("status.conditions: %s is written by the node that runs the pod: set a condition of another type, and name it in spec.readinessGates", c.Type))
			}
		}
	}
	return nil
}
