package workload

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/shoal-project/shoal/daemon/view"
)

// Annotations of upstream's deployment controller (pkg/controller/deployment/util).
const (
	// AnnotationRevision is which of a deployment's templates, counted from 1, a
	// replica set has; on a deployment, which it has itself.
	AnnotationRevision = "deployment.kubernetes.io/revision"
	annotationHistory  = "deployment.kubernetes.io/revision-history" // earlier revisions of a replica set that came back
	annotationDesired  = "deployment.kubernetes.io/desired-replicas" // the deployment's size when the replica set got its own
	annotationMax      = "deployment.kubernetes.io/max-replicas"     // that and the surge
)

// uncopied are the annotations of a deployment that its replica sets don't get.
var uncopied = []string{
	v1.LastAppliedConfigAnnotation, AnnotationRevision, annotationHistory, annotationDesired, annotationMax, apps.DeprecatedRollbackTo,
}

// maxHistory is how long the list of earlier revisions may get, in bytes.
const maxHistory = 2000

func setAnnotation(o view.Object, name, value string) {
	annotations := maps.Clone(o.GetAnnotations())
	if annotations == nil {
		annotations = make(map[string]string)
	}
	annotations[name] = value
	o.SetAnnotations(annotations)
}

// revision is a replica set's, 0 for none.
func revision(rs *apps.ReplicaSet) int64 {
	n, err := strconv.ParseInt(rs.Annotations[AnnotationRevision], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (r *rollout) nextRevision() int64 {
	var newest int64
	for _, rs := range r.old {
		newest = max(newest, revision(rs))
	}
	return newest + 1
}

// syncRevision brings the current replica set's annotations, and with them the
// deployment's revision, up to date.
func (r *rollout) syncRevision() {
	rs := r.current
	if rs == nil {
		return
	}
	r.annotate(rs, r.nextRevision())
	rs.Spec.MinReadySeconds = r.d.Spec.MinReadySeconds
	setAnnotation(r.d, AnnotationRevision, rs.Annotations[AnnotationRevision])
	if hasDeadline(r.d) && condition(&r.d.Status, apps.DeploymentProgressing) == nil {
		r.setCondition(apps.DeploymentProgressing, v1.ConditionTrue, "FoundNewReplicaSet", fmt.Sprintf("Found new replica set %q", rs.Name))
	}
}

// annotate gives a replica set the deployment's annotations and, unless its own
// is newer, a revision. One that had a revision before comes back from history.
func (r *rollout) annotate(rs *apps.ReplicaSet, next int64) {
	for name, value := range r.d.Annotations {
		if !slices.Contains(uncopied, name) && !strings.HasPrefix(name, "shoal.io/") {
			setAnnotation(rs, name, value)
		}
	}
	was, had := rs.Annotations[AnnotationRevision]
	if n, err := strconv.ParseInt(cmp.Or(was, "0"), 10, 64); err != nil || n >= next {
		return
	}
	setAnnotation(rs, AnnotationRevision, strconv.FormatInt(next, 10))
	if !had {
		return
	}
	var history []string
	if text := rs.Annotations[annotationHistory]; text != "" {
		history = strings.Split(text, ",")
	}
	history = append(history, was)
	for len(strings.Join(history, ",")) > maxHistory {
		history = history[1:]
	}
	setAnnotation(rs, annotationHistory, strings.Join(history, ","))
}

// ensureCurrent makes the replica set of the deployment's template, if there is
// none. Its name is the template's hash: whoever decides again decides the same.
func (r *rollout) ensureCurrent() {
	if r.current != nil {
		return
	}
	d := r.d
	hash := templateHash(&d.Spec.Template, d.Status.CollisionCount)
	template := *d.Spec.Template.DeepCopy()
	template.Labels = with(template.Labels, apps.DefaultDeploymentUniqueLabelKey, hash)
	selector := d.Spec.Selector.DeepCopy()
	selector.MatchLabels = with(selector.MatchLabels, apps.DefaultDeploymentUniqueLabelKey, hash)
	rs := &apps.ReplicaSet{
		TypeMeta: metav1.TypeMeta{APIVersion: apps.SchemeGroupVersion.String(), Kind: KindReplicaSet.Kind},
		ObjectMeta: metav1.ObjectMeta{
			Name: d.Name[:min(len(d.Name), validation.DNS1123SubdomainMaxLength-1-len(hash))] + "-" + hash, Namespace: d.Namespace,
			OwnerReferences: []metav1.OwnerReference{*controllerRef(d, KindDeployment)}, Labels: maps.Clone(template.Labels),
			CreationTimestamp: metav1.NewTime(r.c.Now.Truncate(time.Second)), Generation: 1,
		},
		Spec: apps.ReplicaSetSpec{Replicas: new(int32), MinReadySeconds: d.Spec.MinReadySeconds, Selector: selector, Template: template},
	}
	key := keyOf(rs)
	if _, taken := r.c.Objects.Get(key); taken {
		r.collided()
		return
	}
	rs.UID = r.lostUID(rs)
	if rs.UID == "" {
		rs.UID = view.ChildUID(key, d.UID)
	}
	next := r.nextRevision()
	r.annotate(rs, next)
	r.current = rs
	r.annotateSize(rs)
	r.resize(rs, r.currentSize())
	setAnnotation(d, AnnotationRevision, strconv.FormatInt(next, 10))
	if hasDeadline(d) {
		r.setCondition(apps.DeploymentProgressing, v1.ConditionTrue, "NewReplicaSetCreated", fmt.Sprintf("Created new replica set %q", rs.Name))
	}
}

// collided tries another hash at once: the name is that of a replica set which
// is not this deployment's, or of another template with the same hash.
func (r *rollout) collided() {
	n := int32(1)
	if r.d.Status.CollisionCount != nil {
		n += *r.d.Status.CollisionCount
	}
	r.d.Status.CollisionCount = &n
	r.out.again(r.c.Now)
}

// lostUID is the UID that a replica set of this name had when its pods were
// made. A daemon that was killed before it could save the replica set finds the
// pods on the host, and they stay what they are.
func (r *rollout) lostUID(rs *apps.ReplicaSet) types.UID {
	selector := selectorOf(rs.Spec.Selector)
	for _, p := range list[*v1.Pod](r.c, KindPod, rs.Namespace) {
		ref := metav1.GetControllerOf(p)
		if ref != nil && ref.Kind == KindReplicaSet.Kind && ref.Name == rs.Name && p.DeletionTimestamp == nil && selector.Matches(labels.Set(p.Labels)) {
			return ref.UID
		}
	}
	return ""
}

// with is a set of labels and one more.
func with(set map[string]string, name, value string) map[string]string {
	set = maps.Clone(set)
	if set == nil {
		set = make(map[string]string)
	}
	set[name] = value
	return set
}
