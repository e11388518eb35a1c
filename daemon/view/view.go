// Package view holds what this node knows of its cluster as Kubernetes
// objects: indexed by kind, namespace and name, versioned, and watchable.
//
// A View is the fold of all nodes' records (see daemon/record) plus what only
// this node knows (its events). Whoever decides reads it; only the daemon that
// folds the records writes it. Objects in a view are shared: readers must not
// change them (DeepCopy first).
//
// Resource versions are this view's own: they grow by one with each change,
// start at the wall clock's microseconds, so that they also grow over restarts,
// and mean nothing on another node.
package view

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/shoal-project/shoal/manifests"
)

// Object is a Kubernetes object with metadata.
type Object interface {
	runtime.Object
	metav1.Object
}

// history is how many changes a watcher may lag behind before it must list
// again. A burst of 50 starting pods makes some 500 changes; each kept one holds
// an object of 5 to 20 kB.
const history = 1024

// ErrExpired says that a watch asked for changes that are no longer kept, or
// that belong to an earlier run of the daemon: list again (HTTP 410 Gone).
var ErrExpired = errors.New("too old resource version")

// Change is one object's new state; a nil Object deletes it.
type Change struct {
	Key    manifests.Key
	Object Object
}

// Event is one change as a watcher sees it. Old is the object before the
// change, nil when it was added; a selector may match one and not the other.
type Event struct {
	Type    watch.EventType // Added, Modified, Deleted
	Key     manifests.Key
	Object  Object // for Deleted: the last state, with the deletion's version
	Old     Object
	Version uint64
}

// View is safe for concurrent use. Make one with New.
type View struct {
	mu      sync.RWMutex
	first   uint64 // version before the first change of this run
	version uint64
	objects map[schema.GroupKind]map[manifests.Key]Object
	events  []Event       // the newest changes, oldest first
	changed chan struct{} // closed at each change
}

// New makes an empty view whose versions begin after now.
func New(now time.Time) *View {
	start := uint64(max(now.UnixMicro(), 1))
	return &View{
		first:   start,
		version: start,
		objects: make(map[schema.GroupKind]map[manifests.Key]Object),
		changed: make(chan struct{}),
	}
}

// Apply makes the changes one after the other, as one step for readers. The
// objects belong to the view afterwards; it sets their resourceVersion.
func (v *View) Apply(changes ...Change) {
	v.mu.Lock()
	defer v.mu.Unlock()
	before := v.version
	for _, c := range changes {
		v.apply(c)
	}
	if v.version == before {
		return
	}
	if n := len(v.events); n > history+history/4 {
		v.events = slices.Clone(v.events[n-history:])
	}
	close(v.changed)
	v.changed = make(chan struct{})
}

func (v *View) apply(c Change) {
	kind := c.Key.GroupKind()
	old, had := v.objects[kind][c.Key]
	if c.Object == nil && !had {
		return
	}
	v.version++
	e := Event{Type: watch.Modified, Key: c.Key, Object: c.Object, Old: old, Version: v.version}
	switch {
	case c.Object == nil:
		e.Type = watch.Deleted
		e.Object = old.DeepCopyObject().(Object)
		delete(v.objects[kind], c.Key)
	case !had:
		e.Type = watch.Added
		fallthrough
	default:
		if v.objects[kind] == nil {
			v.objects[kind] = make(map[manifests.Key]Object)
		}
		v.objects[kind][c.Key] = c.Object
	}
	e.Object.SetResourceVersion(strconv.FormatUint(v.version, 10))
	v.events = append(v.events, e)
}

// Get is the object of that key.
func (v *View) Get(key manifests.Key) (Object, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	o, ok := v.objects[key.GroupKind()][key]
	return o, ok
}

// List is all objects of a kind in a namespace ("" for all), sorted by
// namespace and name, and the view's version at that moment.
func (v *View) List(kind schema.GroupKind, namespace string) ([]Object, uint64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var list []Object
	for key, o := range v.objects[kind] {
		if namespace == "" || key.Namespace == namespace {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b Object) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return list, v.version
}

// Kinds is every kind of which there is an object.
func (v *View) Kinds() []schema.GroupKind {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var kinds []schema.GroupKind
	for k, objects := range v.objects {
		if len(objects) > 0 {
			kinds = append(kinds, k)
		}
	}
	slices.SortFunc(kinds, func(a, b schema.GroupKind) int { return cmp.Compare(a.String(), b.String()) })
	return kinds
}

// Version is the version of the newest change.
func (v *View) Version() uint64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.version
}

// Changed is closed at the next change after the call.
func (v *View) Changed() <-chan struct{} {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.changed
}

// Since is every change after version, and a channel that is closed at the
// next one. A version of another run, or one too far back, is ErrExpired.
func (v *View) Since(version uint64) ([]Event, <-chan struct{}, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if version < v.first || version > v.version {
		return nil, nil, ErrExpired
	}
	behind := int(v.version - version)
	if behind > len(v.events) {
		return nil, nil, ErrExpired
	}
	return slices.Clone(v.events[len(v.events)-behind:]), v.changed, nil
}

// Wait blocks until the view is newer than version and hands out what changed.
// A slow watcher costs the view nothing: it reads on from where it was.
func (v *View) Wait(ctx context.Context, version uint64) ([]Event, error) {
	for {
		events, changed, err := v.Since(version)
		if err != nil || len(events) > 0 {
			return events, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
