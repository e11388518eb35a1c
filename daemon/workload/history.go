package workload

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/shoal-project/shoal/daemon/view"
)

// templatePatch is the strategic merge patch that brings an object back to this
// template; `rollout undo` sends it (upstream's getPatch).
func templatePatch(template *v1.PodTemplateSpec) ([]byte, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(template)
	if err != nil {
		return nil, err
	}
	fields["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": fields}})
}

// history finds the revision of the daemon set's template, or makes it, and
// returns the older ones. Pods are up to date by its hash.
func (f *fleet) history() (old []*apps.ControllerRevision) {
	ds := f.ds
	patch, err := templatePatch(&ds.Spec.Template)
	if err != nil {
		panic(err) // the template came from JSON
	}
	var current []*apps.ControllerRevision
	next := int64(1)
	for _, r := range claim(f.c, f.out, ds, selectorOf(ds.Spec.Selector), list[*apps.ControllerRevision](f.c, KindControllerRevision, ds.Namespace)) {
		if bytes.Equal(r.Data.Raw, patch) {
			current = append(current, r)
			continue
		}
		old, next = append(old, r), max(next, r.Revision+1)
	}
	if len(current) == 0 {
		f.snapshot(patch, next)
		return old
	}
	r := slices.MaxFunc(current, func(a, b *apps.ControllerRevision) int { return cmp.Compare(a.Revision, b.Revision) })
	f.hash = r.Labels[apps.DefaultDaemonSetUniqueLabelKey]
	if r.Revision < next {
		r = r.DeepCopy()
		r.Revision = next
		f.out.change(Update, r)
	}
	return old
}

// snapshot makes the revision of the present template.
func (f *fleet) snapshot(patch []byte, number int64) {
	ds := f.ds
	hash := templateHash(&ds.Spec.Template, ds.Status.CollisionCount)
	r := &apps.ControllerRevision{
		TypeMeta: metav1.TypeMeta{APIVersion: apps.SchemeGroupVersion.String(), Kind: KindControllerRevision.Kind},
		ObjectMeta: metav1.ObjectMeta{
			Name: ds.Name + "-" + hash, Namespace: ds.Namespace,
			Labels:      with(ds.Spec.Template.Labels, apps.DefaultDaemonSetUniqueLabelKey, hash),
			Annotations: maps.Clone(ds.Annotations), OwnerReferences: []metav1.OwnerReference{*controllerRef(ds, KindDaemonSet)},
			CreationTimestamp: metav1.NewTime(f.c.Now.Truncate(time.Second)),
		},
		Data: runtime.RawExtension{Raw: patch}, Revision: number,
	}
	key := keyOf(r)
	if _, taken := f.c.Objects.Get(key); taken {
		n := int32(1)
		if ds.Status.CollisionCount != nil {
			n += *ds.Status.CollisionCount
		}
		ds.Status.CollisionCount = &n
		f.out.again(f.c.Now)
		return
	}
	r.UID = view.ChildUID(key, ds.UID)
	f.hash = hash
	f.out.change(Create, r)
}

// cleanHistory forgets the oldest revisions beyond the limit that no pod has.
func (f *fleet) cleanHistory(old []*apps.ControllerRevision, pods []*v1.Pod) {
	if f.ds.Spec.RevisionHistoryLimit == nil {
		return
	}
	surplus := len(old) - int(*f.ds.Spec.RevisionHistoryLimit)
	slices.SortFunc(old, func(a, b *apps.ControllerRevision) int { return cmp.Compare(a.Revision, b.Revision) })
	for _, r := range old {
		hash := r.Labels[apps.DefaultDaemonSetUniqueLabelKey]
		live := slices.ContainsFunc(pods, func(p *v1.Pod) bool { return p.Labels[apps.DefaultDaemonSetUniqueLabelKey] == hash })
		if surplus > 0 && !live {
			surplus--
			f.out.change(Forget, r)
		}
	}
}
