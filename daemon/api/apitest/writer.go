// Package apitest holds fakes of what package api needs, with behaviour: a
// Writer that keeps objects in a view, Pods whose containers are this host's
// processes, images in a map.
package apitest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// Writer writes straight to a view. Pods run at once on Node; a pod's deletion
// goes on until Finish.
type Writer struct {
	View *view.View
	Node string
	Now  func() time.Time
	// Declared objects are in files: changing one warns, deleting is refused.
	Declared map[manifests.Key]string
	Warn     []string // of each deletion

	mu  sync.Mutex
	uid int
}

// Apply implements api.Writer.
func (w *Writer) Apply(_ context.Context, o view.Object, opts api.WriteOptions) (view.Object, []string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key, err := manifests.KeyOf(o)
	if err != nil {
		return nil, nil, err
	}
	old, exists := w.View.Get(key)
	switch {
	case exists && opts.Create:
		return nil, nil, apierrors.NewAlreadyExists(resourceOf(key), key.Name)
	case !exists && !opts.Create:
		return nil, nil, apierrors.NewNotFound(resourceOf(key), key.Name)
	case exists && o.GetResourceVersion() != "" && o.GetResourceVersion() != old.GetResourceVersion():
		return nil, nil, apierrors.NewConflict(resourceOf(key), key.Name, fmt.Errorf("the object has been modified"))
	}
	if !exists {
		w.uid++
		o.SetUID(types.UID("00000000-0000-4000-8000-" + fmt.Sprintf("%012d", w.uid)))
		o.SetCreationTimestamp(metav1.NewTime(w.Now()))
		w.start(o)
	}
	var warnings []string
	if file, ok := w.Declared[key]; ok {
		warnings = append(warnings, "declared by "+file+" on this host: this change wins until that file is edited")
	}
	if opts.DryRun {
		if o.GetResourceVersion() == "" {
			o.SetResourceVersion(strconv.FormatUint(w.View.Version(), 10))
		}
		return o, warnings, nil
	}
	w.View.Apply(view.Change{Key: key, Object: o})
	return o, warnings, nil
}

// ApplyStatus implements api.Writer.
func (w *Writer) ApplyStatus(_ context.Context, p *v1.Pod, opts api.WriteOptions) (view.Object, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	key, err := manifests.KeyOf(p)
	if err != nil {
		return nil, err
	}
	old, exists := w.View.Get(key)
	if !exists || old.GetResourceVersion() != p.ResourceVersion {
		return nil, apierrors.NewConflict(resourceOf(key), key.Name, fmt.Errorf("the object has been modified"))
	}
	if !opts.DryRun {
		w.View.Apply(view.Change{Key: key, Object: p})
	}
	return p, nil
}

// start gives a new object the status that a node would.
func (w *Writer) start(o view.Object) {
	switch o := o.(type) {
	case *v1.Namespace:
		o.Status.Phase = v1.NamespaceActive
	case *v1.Pod:
		o.Spec.NodeName = w.Node
		now := metav1.NewTime(w.Now())
		o.Status = v1.PodStatus{
			Phase: v1.PodRunning, StartTime: &now, PodIP: "10.1.0.7", PodIPs: []v1.PodIP{{IP: "10.1.0.7"}},
			Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue, LastTransitionTime: now}},
		}
		for _, c := range o.Spec.Containers {
			o.Status.ContainerStatuses = append(o.Status.ContainerStatuses, v1.ContainerStatus{
				Name: c.Name, Image: c.Image, Ready: true, ContainerID: "crun://" + c.Name + "-0",
				State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: now}},
			})
		}
	}
}

// Delete implements api.Writer.
func (w *Writer) Delete(_ context.Context, key manifests.Key, opts api.DeleteOptions) (view.Object, []string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o, ok := w.View.Get(key)
	if !ok {
		return nil, nil, apierrors.NewNotFound(resourceOf(key), key.Name)
	}
	if file, ok := w.Declared[key]; ok {
		return nil, nil, apierrors.NewForbidden(resourceOf(key), key.Name, fmt.Errorf("it is declared by %s on this host: delete it there", file))
	}
	pod, isPod := o.(*v1.Pod)
	if !isPod || opts.GraceSeconds != nil && *opts.GraceSeconds == 0 {
		if !opts.DryRun {
			w.View.Apply(view.Change{Key: key})
		}
		return o, w.Warn, nil
	}
	going := pod.DeepCopy()
	now := metav1.NewTime(w.Now())
	going.DeletionTimestamp = &now
	going.DeletionGracePeriodSeconds = pod.Spec.TerminationGracePeriodSeconds
	if !opts.DryRun {
		w.View.Apply(view.Change{Key: key, Object: going})
	}
	return going, w.Warn, nil
}

// Finish ends the deletion of every pod that is being deleted, and says how
// many these were.
func (w *Writer) Finish() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	list, _ := w.View.List(schema.GroupKind{Kind: "Pod"}, "")
	n := 0
	for _, o := range list {
		if o.GetDeletionTimestamp() != nil {
			w.View.Apply(view.Change{Key: manifests.Key{Kind: "Pod", Namespace: o.GetNamespace(), Name: o.GetName()}})
			n++
		}
	}
	return n
}

func resourceOf(k manifests.Key) schema.GroupResource {
	return schema.GroupResource{Group: k.Group, Resource: strings.ToLower(k.Kind) + "s"}
}
