package plan

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// objects are the objects of one kind, by namespace and name, and by key. They
// are asked for far more often than they change.
type objects struct {
	sorted []view.Object // never changed: each change makes another
	byKey  map[manifests.Key]view.Object
}

func newObjects(kind schema.GroupKind, list []view.Object) *objects {
	o := &objects{slices.Clone(list), make(map[manifests.Key]view.Object, len(list))}
	slices.SortFunc(o.sorted, func(a, b view.Object) int { return compare(a, b.GetNamespace(), b.GetName()) })
	for _, one := range list {
		o.byKey[manifests.Key{Group: kind.Group, Kind: kind.Kind, Namespace: one.GetNamespace(), Name: one.GetName()}] = one
	}
	return o
}

func compare(o view.Object, namespace, name string) int {
	return cmp.Or(cmp.Compare(o.GetNamespace(), namespace), cmp.Compare(o.GetName(), name))
}

// set makes an object what it is from now on; nil: it is no more.
func (o *objects) set(key manifests.Key, now view.Object) {
	at, is := slices.BinarySearchFunc(o.sorted, key, func(one view.Object, key manifests.Key) int { return compare(one, key.Namespace, key.Name) })
	next := slices.Clone(o.sorted)
	switch {
	case now == nil && is:
		next = slices.Delete(next, at, at+1)
	case is:
		next[at] = now
	case now != nil:
		next = slices.Insert(next, at, now)
	}
	o.sorted = next
	if now == nil {
		delete(o.byKey, key)
	} else {
		o.byKey[key] = now
	}
}

// in are those of a namespace, "" for all. The list is not to be changed.
func (o *objects) in(namespace string) []view.Object {
	if o == nil || namespace == "" {
		return o.all()
	}
	from, _ := slices.BinarySearchFunc(o.sorted, namespace, func(one view.Object, namespace string) int { return compare(one, namespace, "") })
	rest := o.sorted[from:]
	to := slices.IndexFunc(rest, func(one view.Object) bool { return one.GetNamespace() != namespace })
	if to < 0 {
		to = len(rest)
	}
	return slices.Clip(rest[:to])
}

func (o *objects) all() []view.Object {
	if o == nil {
		return nil
	}
	return slices.Clip(o.sorted)
}
