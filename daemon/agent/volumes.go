package agent

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/cure"
	"github.com/shoal-project/shoal/storage/volume"
)

// volumesOperation is the name under which a refresh of the volumes is under
// way. No container is called so.
const volumesOperation = "/volumes"

// setUpVolumes makes the pod's volumes and brings them up to date. The error may
// be about volumes that are there and keep what they held.
func (j job) setUpVolumes(ctx context.Context) (map[string]volume.Mounted, error) {
	return volume.Setup(ctx, j.pod, filepath.Join(j.w.lib(), "volumes"), j.w.agent.cfg.Objects, j.volumeNode())
}

// missing says whether a volume of the pod is not there.
func missing(p *v1.Pod, mounted map[string]volume.Mounted) bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(v v1.Volume) bool {
		_, ok := mounted[v.Name]
		return !ok
	})
}

// refreshVolumes brings the volumes of a pod that runs up to date. What can't be
// keeps what it held, and is tried again.
func (j job) refreshVolumes(ctx context.Context) func() {
	mounted, err := j.setUpVolumes(ctx)
	w := j.w
	return func() {
		all := maps.Clone(w.volumes) // operations under way have the old map
		if all == nil {
			all = make(map[string]volume.Mounted)
		}
		maps.Copy(all, mounted)
		w.volumes = all
		w.seen.Volumes.Missing = missing(j.pod, all)
		w.refreshed(ctx, j.pod, err)
	}
}

// refreshed notes how bringing the volumes up to date ended.
func (w *worker) refreshed(ctx context.Context, about *v1.Pod, err error) {
	v := &w.seen.Volumes
	if err == nil {
		v.Failure = nil
		return
	}
	v.Stale = true
	if ctx.Err() == nil { // else it was called off
		v.Failure = w.failure(about, reasonFailedMount, err, v.Failure)
		w.volumesFailed(err)
	}
}

// volumesFailed says what of the volumes failed, each by itself.
func (w *worker) volumesFailed(err error) {
	ref := reference(w.pod, "")
	var errs volume.Errors
	if !errors.As(err, &errs) {
		w.agent.cfg.Events.Warning(ref, reasonFailedMount, "%v", cure.Wrap(w.pod, "", err))
	}
	for _, e := range errs {
		w.agent.cfg.Events.Warning(ref, reasonFailedMount, "%v", cure.Wrap(w.pod, "", e))
	}
}

// stale notes that what the pod's volumes are made from may have changed.
func (w *worker) stale() {
	if slices.ContainsFunc(w.pod.Spec.Volumes, volume.HasContent) {
		w.seen.Volumes.Stale = true
	}
}

// Refresh has the volumes of pods brought up to date: tokens in them are to be
// renewed.
func (a *Agent) Refresh(pods []types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, uid := range pods {
		if w := a.workers[uid]; w != nil {
			w.send(w.stale)
		}
	}
}

// changesVolumes says whether an edit may show in a volume: downwardAPI has
// labels, annotations and resources.
func changesVolumes(old, edited *v1.Pod) bool {
	return old.Generation != edited.Generation ||
		!equality.Semantic.DeepEqual(old.Labels, edited.Labels) ||
		!equality.Semantic.DeepEqual(old.Annotations, edited.Annotations)
}
