package workload

import (
	"errors"
	"fmt"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
)

// budget says what a PodDisruptionBudget allows now (upstream's disruption
// controller).
type budget struct {
	expected, desired, healthy int32
	err                        error
}

func (b budget) allowed() int32 {
	if b.err != nil || b.expected <= 0 {
		return 0
	}
	return max(0, b.healthy-b.desired)
}

// disruptionBudget keeps a budget's status.
func (c Cluster) disruptionBudget(pdb *policy.PodDisruptionBudget) (out Outcome) {
	b := c.budget(pdb)
	disrupted := c.disrupted(pdb, c.selected(pdb))
	for _, at := range disrupted {
		out.again(at.Add(disruptedFor))
	}
	pdb = pdb.DeepCopy()
	pdb.Status = policy.PodDisruptionBudgetStatus{
		ObservedGeneration: pdb.Generation, Conditions: pdb.Status.Conditions, DisruptedPods: disrupted,
		DisruptionsAllowed: b.allowed(), CurrentHealthy: b.healthy, DesiredHealthy: b.desired, ExpectedPods: b.expected,
	}
	cond := metav1.Condition{
		Type: policy.DisruptionAllowedCondition, Status: metav1.ConditionTrue, Reason: policy.SufficientPodsReason,
		ObservedGeneration: pdb.Generation, LastTransitionTime: metav1.NewTime(c.Now),
	}
	switch {
	case b.err != nil:
		cond.Status, cond.Reason, cond.Message = metav1.ConditionFalse, policy.SyncFailedReason, b.err.Error()
	case b.allowed() == 0:
		cond.Status, cond.Reason = metav1.ConditionFalse, policy.InsufficientPodsReason
	}
	meta.SetStatusCondition(&pdb.Status.Conditions, cond)
	out.change(Status, pdb)
	return out
}

func (c Cluster) budget(pdb *policy.PodDisruptionBudget) (b budget) {
	var pods []*v1.Pod
	selected := c.selected(pdb)
	disrupted := c.disrupted(pdb, selected)
	for _, p := range selected {
		if p.Status.Phase != v1.PodSucceeded && p.Status.Phase != v1.PodFailed {
			pods = append(pods, p)
		}
		if _, is := disrupted[p.Name]; !is && p.DeletionTimestamp == nil && podutil.IsPodReady(p) {
			b.healthy++
		}
	}
	switch least, most := pdb.Spec.MinAvailable, pdb.Spec.MaxUnavailable; {
	case most != nil:
		if b.expected, b.err = c.expected(pods); b.err == nil {
			b.desired = max(0, b.expected-scaled(most, b.expected, true))
		}
	case least != nil && least.Type == 1: // a percentage
		if b.expected, b.err = c.expected(pods); b.err == nil {
			b.desired = scaled(least, b.expected, true)
		}
	case least != nil:
		b.expected, b.desired = int32(len(pods)), least.IntVal
	}
	return b
}

// selected are the pods that a budget is about. An empty selector is all pods of
// the namespace, a missing one none (policy/v1).
func (c Cluster) selected(pdb *policy.PodDisruptionBudget) []*v1.Pod {
	selector, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
	if err != nil {
		return nil
	}
	var pods []*v1.Pod
	for _, p := range list[*v1.Pod](c, KindPod, pdb.Namespace) {
		if selector.Matches(labels.Set(p.Labels)) {
			pods = append(pods, p)
		}
	}
	return pods
}

// expected is how many pods the controllers of these pods are to have together.
func (c Cluster) expected(pods []*v1.Pod) (n int32, err error) {
	counted := make(map[string]bool)
	for _, p := range pods {
		ref := metav1.GetControllerOf(p)
		if ref == nil {
			continue
		}
		kind, _ := controllerKind(ref)
		rs, ok := c.owner(kind, p.Namespace, ref).(*apps.ReplicaSet)
		if !ok {
			return 0, fmt.Errorf("found no controllers with a scale for pod %q", p.Name)
		}
		uid, size := string(rs.UID), *rs.Spec.Replicas
		if top := metav1.GetControllerOf(rs); top != nil {
			kind, _ := controllerKind(top)
			if d, ok := c.owner(kind, p.Namespace, top).(*apps.Deployment); ok {
				uid, size = string(d.UID), *d.Spec.Replicas
			}
		}
		if !counted[uid] {
			counted[uid] = true
			n += size
		}
	}
	return n, nil
}

// BudgetOf is the budget that has to allow a pod's eviction; nil for none. (The
// apiserver's EvictionREST.)
func (c Cluster) BudgetOf(p *v1.Pod) (*policy.PodDisruptionBudget, error) {
	if p.DeletionTimestamp != nil || p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed || p.Status.Phase == v1.PodPending {
		return nil, nil
	}
	var budget *policy.PodDisruptionBudget
	for _, pdb := range list[*policy.PodDisruptionBudget](c, KindDisruptionBudget, p.Namespace) {
		selector, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
		if err != nil || !selector.Matches(labels.Set(p.Labels)) {
			continue
		}
		if budget != nil {
			return nil, ErrManyBudgets
		}
		budget = pdb
	}
	return budget, nil
}

// MayEvict says why a pod may not be evicted now. With nil it may, and counted is
// its budget with that disruption in its status, if it is one that counts: who
// evicts publishes that first. The budget's numbers are counted anew: a pod that
// was evicted a moment ago is no longer healthy.
func (c Cluster) MayEvict(p *v1.Pod) (budget, counted *policy.PodDisruptionBudget, err error) {
	pdb, err := c.BudgetOf(p)
	if pdb == nil || err != nil {
		return nil, nil, err
	}
	if _, granted := c.disrupted(pdb, c.selected(pdb))[p.Name]; granted {
		return pdb, nil, nil // who asked has not heard, or asks again
	}
	b := c.budget(pdb)
	unhealthy := !podutil.IsPodReady(p)
	always := pdb.Spec.UnhealthyPodEvictionPolicy != nil && *pdb.Spec.UnhealthyPodEvictionPolicy == policy.AlwaysAllow
	switch {
	case unhealthy && (always || b.healthy >= b.desired && b.desired > 0):
		return pdb, nil, nil
	case b.allowed() <= 0:
		return pdb, nil, fmt.Errorf("needs %d healthy pods and has %d currently", b.desired, b.healthy)
	}
	counted = pdb.DeepCopy()
	counted.Status.DisruptedPods = c.disrupted(pdb, c.selected(pdb))
	if counted.Status.DisruptedPods == nil {
		counted.Status.DisruptedPods = make(map[string]metav1.Time)
	}
	counted.Status.DisruptedPods[p.Name] = metav1.NewTime(c.Now)
	counted.Status.DisruptionsAllowed = max(0, b.allowed()-1)
	return pdb, counted, nil
}

// disruptedFor is how long a pod counts as disrupted whose eviction was granted and
// that is not being deleted (upstream's DeletionTimeout).
const disruptedFor = 2 * time.Minute

// disrupted are the pods whose eviction was granted and that are not seen to be
// deleted yet (upstream's buildDisruptedPodMap), with when that was; nil for none.
func (c Cluster) disrupted(pdb *policy.PodDisruptionBudget, pods []*v1.Pod) (are map[string]metav1.Time) {
	for _, p := range pods {
		at, is := pdb.Status.DisruptedPods[p.Name]
		if !is || p.DeletionTimestamp != nil || !c.Now.Before(at.Add(disruptedFor)) || p.CreationTimestamp.After(at.Time) {
			continue
		}
		if are == nil {
			are = make(map[string]metav1.Time)
		}
		are[p.Name] = at
	}
	return are
}

// ErrManyBudgets says that a pod is in several budgets, between which an
// eviction can't choose.
var ErrManyBudgets = errors.New("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
