package daemon

import (
	"maps"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

var namespaceKind = schema.GroupKind{Kind: "Namespace"}

// builtin are the namespaces that exist whether or not something is in them.
var builtin = []string{metav1.NamespaceDefault, metav1.NamespaceSystem}

// count keeps account of how many objects are in each namespace.
func (d *Daemon) count(changes []view.Change) {
	for _, c := range changes {
		if c.Key.Namespace == "" {
			continue
		}
		old, had := d.view.Get(c.Key)
		had = had && !d.isImplied(c.Key, old)
		switch {
		case c.Object != nil && !had:
			d.used[c.Key.Namespace]++
		case c.Object == nil && had:
			if d.used[c.Key.Namespace]--; d.used[c.Key.Namespace] == 0 {
				delete(d.used, c.Key.Namespace)
			}
		}
	}
}

// namespaces are the changes of namespaces that come before those of the
// objects in them, and those that come after. A namespace exists while it is
// declared, or something is in it.
func (d *Daemon) namespaces(touched map[string]bool) (before, after []view.Change) {
	for _, name := range slices.Sorted(maps.Keys(touched)) {
		key := manifests.Key{Kind: "Namespace", Name: name}
		obj, err := d.object(key)
		if err != nil {
			d.Log.Error("can't read an object", "key", key.String(), "err", err)
			continue
		}
		if obj == nil && (d.used[name] > 0 || slices.Contains(builtin, name)) {
			obj = d.implied(name)
		}
		since, ending := d.ending[name]
		if ending && d.used[name] == 0 {
			delete(d.ending, name)
		} else if ending && obj != nil {
			terminate(obj, since)
		}
		list := d.change(nil, key, obj)
		if obj == nil {
			after = append(after, list...)
		} else {
			before = append(before, list...)
		}
	}
	return before, after
}

// implied is a namespace that nobody declares.
func (d *Daemon) implied(name string) view.Object {
	ns := &v1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}}
	ns.Name = name
	ns.UID = view.UID(manifests.Key{Kind: "Namespace", Name: name}, 0)
	ns.Labels = map[string]string{v1.LabelMetadataName: name}
	ns.CreationTimestamp = d.impliedSince()
	ns.Status.Phase = v1.NamespaceActive
	return ns
}

// impliedSince is when objects that nobody declares were made: with the cluster,
// for all its nodes have the same ones.
func (d *Daemon) impliedSince() metav1.Time {
	return metav1.NewTime(time.UnixMilli(d.clusterID().Minted).UTC().Truncate(time.Second))
}

// refoldImplied has the objects that nobody declares be those of the cluster
// that the node is in by now. They keep their UIDs.
func (d *Daemon) refoldImplied() {
	var keys []manifests.Key
	for _, name := range slices.Concat(builtin, slices.Collect(maps.Keys(d.used))) {
		keys = append(keys, manifests.Key{Kind: "Namespace", Name: name})
	}
	for _, c := range workload.SystemPriorityClasses() {
		keys = append(keys, classKey(c.Name))
	}
	d.fold(keys)
}

// terminate shows a namespace as one that is being deleted.
func terminate(obj view.Object, since time.Time) {
	at := metav1.NewTime(since.Truncate(time.Second))
	obj.SetDeletionTimestamp(&at)
	if ns, ok := obj.(*v1.Namespace); ok {
		ns.Status.Phase = v1.NamespaceTerminating
	}
}
