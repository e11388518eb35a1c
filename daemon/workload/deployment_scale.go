package workload

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
)

// resized says whether the deployment's size changed since its replica sets got
// theirs, which is not part of a rollout (upstream's isScalingEvent).
func (r *rollout) resized() bool {
	return slices.ContainsFunc(inUse(r.all()), func(rs *apps.ReplicaSet) bool {
		desired, ok := count(rs, annotationDesired)
		return ok && desired != *r.d.Spec.Replicas
	})
}

// scale gives a new size to the one replica set there is; amid a rollout it
// shares the difference out in proportion, so that a bad new template does not
// get more than its part.
func (r *rollout) scale() {
	replicas := *r.d.Spec.Replicas
	if rs, only := r.onlyInUse(); only {
		if rs != nil {
			r.resize(rs, replicas)
			r.annotateSize(rs)
		}
		return
	}
	if r.saturated() {
		for _, rs := range inUse(r.old) {
			r.resize(rs, 0)
		}
		return
	}
	if r.d.Spec.Strategy.Type == apps.RollingUpdateDeploymentStrategyType {
		r.scaleInProportion()
	}
}

// onlyInUse is the only replica set that is to have pods, or, when none is, the
// newest; only is false when several are.
func (r *rollout) onlyInUse() (rs *apps.ReplicaSet, only bool) {
	used := inUse(r.all())
	switch {
	case len(used) > 1:
		return nil, false
	case len(used) == 1:
		return used[0], true
	case r.current != nil:
		return r.current, true
	case len(r.old) > 0:
		return r.old[len(r.old)-1], true
	}
	return nil, true
}

// saturated says whether the current replica set has all the deployment's pods,
// and all are available.
func (r *rollout) saturated() bool {
	rs, replicas := r.current, *r.d.Spec.Replicas
	if rs == nil {
		return false
	}
	desired, ok := count(rs, annotationDesired)
	return ok && desired == replicas && *rs.Spec.Replicas == replicas && rs.Status.AvailableReplicas == replicas
}

func (r *rollout) scaleInProportion() {
	surge, _ := fenceposts(r.d)
	sets := inUse(r.all())
	var allowed int32
	if *r.d.Spec.Replicas > 0 {
		allowed = *r.d.Spec.Replicas + surge
	}
	add := allowed - wanted(sets)
	slices.SortFunc(sets, func(a, b *apps.ReplicaSet) int {
		// The larger first; of equals the newer grows first, and the older shrinks.
		age := byAge(a, b)
		if add > 0 {
			age = -age
		}
		return cmp.Or(-cmp.Compare(*a.Spec.Replicas, *b.Spec.Replicas), age)
	})
	var added int32
	sizes := make([]int32, len(sets))
	for i, rs := range sets {
		n := r.share(rs, add, added)
		sizes[i], added = *rs.Spec.Replicas+n, added+n
	}
	for i, rs := range sets {
		if i == 0 {
			sizes[i] = max(0, sizes[i]+add-added) // what rounding left over
		}
		r.resize(rs, sizes[i])
		r.annotateSize(rs)
	}
}

// share is how many of the pods that are to be added (or, negative, removed) are
// a replica set's (upstream's GetReplicaSetProportion).
func (r *rollout) share(rs *apps.ReplicaSet, add, added int32) int32 {
	if add == added {
		return 0
	}
	part := r.fraction(rs)
	if add > 0 {
		return min(part, add-added)
	}
	return max(part, add-added)
}

// fraction is by how much a replica set would change to be the same part of the
// deployment as before.
func (r *rollout) fraction(rs *apps.ReplicaSet) int32 {
	replicas, size := *r.d.Spec.Replicas, *rs.Spec.Replicas
	if replicas == 0 {
		return -size
	}
	surge, _ := fenceposts(r.d)
	was, ok := count(rs, annotationMax)
	if !ok || was == 0 {
		if was = r.d.Status.Replicas; was == 0 {
			return 0
		}
	}
	return int32(math.Round(float64(size)*float64(replicas+surge)/float64(was))) - size
}

// resize gives a replica set a size, and says whether it had another.
func (r *rollout) resize(rs *apps.ReplicaSet, size int32) bool {
	was := *rs.Spec.Replicas
	if was == size {
		return false
	}
	rs.Spec.Replicas = &size
	r.annotateSize(rs)
	direction := "up"
	if size < was {
		direction = "down"
	}
	r.out.event(r.d, v1.EventTypeNormal, "ScalingReplicaSet", fmt.Sprintf("Scaled %s replica set %s from %d to %d", direction, rs.Name, was, size))
	return true
}

// annotateSize notes in a replica set what its deployment's size was when it got
// its own.
func (r *rollout) annotateSize(rs *apps.ReplicaSet) {
	surge, _ := fenceposts(r.d)
	setAnnotation(rs, annotationDesired, strconv.Itoa(int(*r.d.Spec.Replicas)))
	setAnnotation(rs, annotationMax, strconv.Itoa(int(*r.d.Spec.Replicas+surge)))
}

// count is an annotation that holds a number of pods.
func count(rs *apps.ReplicaSet, name string) (int32, bool) {
	n, err := strconv.ParseUint(rs.Annotations[name], 10, 31)
	return int32(n), err == nil
}
