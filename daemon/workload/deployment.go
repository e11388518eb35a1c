package workload

import (
	"cmp"
	"math"
	"slices"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// rollout is one look at a deployment. Its objects are copies, which the steps
// change; publish makes changes of what they came to.
type rollout struct {
	c       Cluster
	out     *Outcome
	d       *apps.Deployment   // with the status from before, and conditions as they are set
	current *apps.ReplicaSet   // of the deployment's template; nil: there is none yet
	old     []*apps.ReplicaSet // the others, from old to new
	before  map[*apps.ReplicaSet]*apps.ReplicaSet
}

// deployment brings the replica sets of a deployment on towards its template and
// size, one step at a time, as upstream's syncDeployment does. The deprecated
// annotation that asks for a rollback is not looked at: clients roll back by
// changing the template.
func (c Cluster) deployment(d *apps.Deployment) (out Outcome) {
	r := &rollout{c: c, out: &out, d: d.DeepCopy(), before: make(map[*apps.ReplicaSet]*apps.ReplicaSet)}
	owned := claim(c, &out, d, selectorOf(d.Spec.Selector), list[*apps.ReplicaSet](c, KindReplicaSet, d.Namespace))
	slices.SortFunc(owned, byAge)
	for _, rs := range owned {
		own := rs.DeepCopy()
		r.before[own] = rs
		if r.current == nil && sameTemplate(&rs.Spec.Template, &d.Spec.Template) {
			r.current = own // of several the oldest, as upstream
		} else {
			r.old = append(r.old, own)
		}
	}
	r.pausedCondition()
	r.syncRevision()
	switch {
	case d.Spec.Paused:
		r.scale()
		r.cleanUp()
		r.setStatus(r.counted())
	case r.resized() && (d.Spec.Strategy.Type == apps.RollingUpdateDeploymentStrategyType || len(inUse(r.all())) == 1):
		r.scale()
		r.setStatus(r.counted())
	case d.Spec.Strategy.Type == apps.RecreateDeploymentStrategyType:
		r.recreate()
		r.setStatus(r.progressed())
	default:
		r.roll()
		r.setStatus(r.progressed())
	}
	r.publish()
	return out
}

// publish makes changes of what the steps did to replica sets.
func (r *rollout) publish() {
	for _, rs := range r.all() {
		before := r.before[rs]
		switch {
		case before == nil:
			r.out.change(Create, rs)
		case !equality.Semantic.DeepEqual(before, rs):
			if !equality.Semantic.DeepEqual(before.Spec, rs.Spec) {
				rs.Generation++
			}
			r.out.change(Update, rs)
		}
	}
}

// all are the deployment's replica sets, from old to new, the current one last.
func (r *rollout) all() []*apps.ReplicaSet {
	all := slices.Clone(r.old)
	if r.current != nil {
		all = append(all, r.current)
	}
	return all
}

// inUse are those of the replica sets that are to have pods.
func inUse(sets []*apps.ReplicaSet) []*apps.ReplicaSet {
	return slices.DeleteFunc(slices.Clone(sets), func(rs *apps.ReplicaSet) bool { return *rs.Spec.Replicas == 0 })
}

// wanted is how many pods replica sets are to have together.
func wanted(sets []*apps.ReplicaSet) (n int32) {
	for _, rs := range sets {
		n += *rs.Spec.Replicas
	}
	return n
}

func sum(sets []*apps.ReplicaSet, of func(apps.ReplicaSetStatus) int32) (n int32) {
	for _, rs := range sets {
		n += of(rs.Status)
	}
	return n
}

func availableReplicas(s apps.ReplicaSetStatus) int32 { return s.AvailableReplicas }
func actualReplicas(s apps.ReplicaSetStatus) int32    { return s.Replicas }

// sameTemplate compares templates but for the label that tells them apart.
func sameTemplate(a, b *v1.PodTemplateSpec) bool {
	a, b = a.DeepCopy(), b.DeepCopy()
	delete(a.Labels, apps.DefaultDeploymentUniqueLabelKey)
	delete(b.Labels, apps.DefaultDeploymentUniqueLabelKey)
	return equality.Semantic.DeepEqual(a, b)
}

// fenceposts are maxSurge and maxUnavailable in pods. Where both come to none,
// one pod may be unavailable, or nothing would ever move.
func fenceposts(d *apps.Deployment) (surge, unavailable int32) {
	if d.Spec.Strategy.Type != apps.RollingUpdateDeploymentStrategyType || d.Spec.Strategy.RollingUpdate == nil {
		return 0, 0
	}
	replicas := *d.Spec.Replicas
	rolling := d.Spec.Strategy.RollingUpdate
	surge, unavailable = scaled(rolling.MaxSurge, replicas, true), scaled(rolling.MaxUnavailable, replicas, false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, min(unavailable, replicas)
}

// scaled is a number, or a percentage of total. Validation has seen it; what it
// let pass counts as none.
func scaled(n *intstr.IntOrString, total int32, roundUp bool) int32 {
	if n == nil {
		return 0
	}
	v, err := intstr.GetScaledValueFromIntOrPercent(n, int(total), roundUp)
	if err != nil {
		return 0
	}
	return int32(v)
}

// roll is a step of a rolling update: up with the new where surge allows it,
// else down with the old where availability does.
func (r *rollout) roll() {
	r.ensureCurrent()
	if r.current == nil || r.growCurrent() || r.shrinkOld() {
		return
	}
	if complete(r.d, &r.d.Status) {
		r.cleanUp()
	}
}

// growCurrent sets the current replica set's size, and says whether it changed.
func (r *rollout) growCurrent() bool {
	replicas := *r.d.Spec.Replicas
	return r.resize(r.current, min(r.currentSize(), replicas))
}

// currentSize is how large the current replica set may be by now.
func (r *rollout) currentSize() int32 {
	replicas, size := *r.d.Spec.Replicas, *r.current.Spec.Replicas
	if r.d.Spec.Strategy.Type == apps.RecreateDeploymentStrategyType || size >= replicas {
		return replicas
	}
	surge, _ := fenceposts(r.d)
	room := replicas + surge - wanted(r.all())
	return size + max(0, min(room, replicas-size))
}

// shrinkOld takes old pods away: first such as are not available anyway, then as
// many as the available ones can spare. It says whether it did.
func (r *rollout) shrinkOld() bool {
	old := inUse(r.old)
	if len(old) == 0 {
		return false
	}
	_, unavailable := fenceposts(r.d)
	least := *r.d.Spec.Replicas - unavailable
	spare := wanted(r.all()) - least - (*r.current.Spec.Replicas - r.current.Status.AvailableReplicas)
	if spare <= 0 {
		return false
	}
	shrunk := false
	for _, rs := range old {
		sick := min(spare, *rs.Spec.Replicas-rs.Status.AvailableReplicas)
		if sick > 0 {
			shrunk = r.resize(rs, *rs.Spec.Replicas-sick) || shrunk
			spare -= sick
		}
	}
	spare = sum(r.all(), availableReplicas) - least
	for _, rs := range inUse(old) {
		if n := min(spare, *rs.Spec.Replicas); n > 0 {
			shrunk = r.resize(rs, *rs.Spec.Replicas-n) || shrunk
			spare -= n
		}
	}
	return shrunk
}

// recreate ends every old pod before the first new one begins.
func (r *rollout) recreate() {
	shrunk := false
	for _, rs := range r.old {
		shrunk = r.resize(rs, 0) || shrunk
	}
	if shrunk || r.oldPods() {
		return
	}
	r.ensureCurrent()
	if r.current == nil {
		return
	}
	r.resize(r.current, *r.d.Spec.Replicas)
	if complete(r.d, &r.d.Status) {
		r.cleanUp()
	}
}

// oldPods says whether a pod of an old replica set may still run. One that is
// being deleted may.
func (r *rollout) oldPods() bool {
	if sum(r.old, actualReplicas) > 0 {
		return true
	}
	return slices.ContainsFunc(list[*v1.Pod](r.c, KindPod, r.d.Namespace), func(p *v1.Pod) bool {
		ref := metav1.GetControllerOf(p)
		return ref != nil && p.Status.Phase != v1.PodFailed && p.Status.Phase != v1.PodSucceeded &&
			slices.ContainsFunc(r.old, func(rs *apps.ReplicaSet) bool { return r.c.owns(rs, ref) })
	})
}

// cleanUp forgets old replica sets without pods beyond the history's limit.
func (r *rollout) cleanUp() {
	limit := r.d.Spec.RevisionHistoryLimit
	if limit == nil || *limit == math.MaxInt32 {
		return
	}
	byRevision := slices.SortedStableFunc(slices.Values(r.old), func(a, b *apps.ReplicaSet) int {
		return cmp.Or(cmp.Compare(revision(a), revision(b)), byAge(a, b))
	})
	for _, rs := range byRevision[:max(0, len(byRevision)-int(*limit))] {
		if rs.Status.Replicas != 0 || *rs.Spec.Replicas != 0 || rs.Generation > rs.Status.ObservedGeneration {
			continue
		}
		r.old = slices.DeleteFunc(r.old, func(o *apps.ReplicaSet) bool { return o == rs })
		r.out.change(Forget, rs)
	}
}
