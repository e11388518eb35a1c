package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/image"
	"github.com/shoal-project/shoal/daemon/scope"
	"github.com/shoal-project/shoal/daemon/stats"
	"github.com/shoal-project/shoal/manifests"
)

// serveAPI serves the node's API on its socket until ctx ends.
func (d *Daemon) serveAPI(ctx context.Context) error {
	l, err := api.Listen(d.path("run/shoal/shoal.sock"))
	if err != nil {
		return err
	}
	writes := d.newWrites()
	s := api.New(api.Config{
		Usage: usage{d}, Metrics: d.host.metrics,
		View: d.view, Writer: writes, Pods: running{d.agent}, Shoal: d, Tokens: d.tokens,
		Node: d.Config.Node, Nodes: others{d}, Version: d.Version, Now: d.Now, Log: d.Log,
	})
	d.host.requests.Store(s)
	d.host.writes.Store(writes)
	d.serveMetrics(ctx)
	go func() {
		if err := s.Serve(ctx, l); err != nil && ctx.Err() == nil {
			d.Log.Error("the API ended", "err", err)
		}
	}()
	return nil
}

// Manifests is each source file and what it contributes.
func (d *Daemon) Manifests(ctx context.Context) (list api.ManifestList, err error) {
	err = d.do(ctx, func() {
		list = d.manifestList()
		list.Sources = append(list.Sources, d.staticList()...)
	})
	return list, err
}

// manifestList shows the files, and of their objects which are in force: here,
// and over other nodes' files.
func (d *Daemon) manifestList() api.ManifestList {
	winners := make(map[manifests.Key]manifests.Position)
	for _, o := range d.inForce() {
		winners[o.Key] = o.Pos
	}
	return manifestList(d.set, winners, d.refused, d.overruled)
}

// manifestList shows the files, and of their objects which are in force;
// overruled says what of another node is in force instead, "" for nothing.
func manifestList(set manifests.Set, winners map[manifests.Key]manifests.Position, refused map[manifests.Key]string,
	overruled func(manifests.Key) string) api.ManifestList {
	list := api.ManifestList{Sources: []api.ManifestSource{}}
	for _, f := range set.Files {
		s := api.ManifestSource{Path: f.Path, State: fileState(f), Modified: f.ModTime, Reason: f.Ignored, Objects: []api.ManifestObject{}}
		for _, o := range f.Objects {
			m := manifestObject(o, winners[o.Key])
			if f.Stale && m.State != api.StateShadowed {
				m.State, m.Reason = api.StateStale, "the last good version; the file holds another now"
			}
			if why := refused[o.Key]; why != "" && m.State == api.StateActive {
				m.State, m.Reason = api.StateInvalid, why
			} else if why := overruled(o.Key); why != "" && (m.State == api.StateActive || m.State == api.StateNotImplemented) {
				m.State, m.Reason = api.StateStale, why
			}
			s.Objects = append(s.Objects, m)
		}
		for _, p := range f.Problems {
			s.Problems = append(s.Problems, api.ManifestProblem{
				Line: p.Pos.Line, Column: p.Pos.Column, Field: p.Field, Message: p.Message, Suggestion: p.Suggestion,
			})
		}
		list.Sources = append(list.Sources, s)
	}
	for _, p := range set.Problems {
		list.Sources = append(list.Sources, api.ManifestSource{
			Path: p.Pos.File, State: api.StateUnreadable, Reason: p.Message, Objects: []api.ManifestObject{},
		})
	}
	return list
}

func fileState(f manifests.File) api.ManifestState {
	switch {
	case f.Ignored != "":
		return api.StateIgnored
	case f.Stale && f.Hash == "":
		return api.StateInvalid
	case f.Stale:
		return api.StateStale
	}
	return api.StateActive
}

func manifestObject(o manifests.Object, winner manifests.Position) api.ManifestObject {
	gvk := o.Value.GetObjectKind().GroupVersionKind()
	m := api.ManifestObject{
		APIVersion: gvk.GroupVersion().String(), Kind: o.Key.Kind, Namespace: o.Key.Namespace, Name: o.Key.Name,
		Line: o.Pos.Line, State: api.StateActive,
	}
	switch {
	case winner.File == "":
		m.State, m.Reason = api.StateStale, "written over a declaration that is gone"
	case winner != o.Pos:
		m.State, m.Reason = api.StateShadowed, "declared at "+winner.String()
	case !implemented[o.Key.GroupKind()]:
		m.State, m.Reason = api.StateNotImplemented, "accepted and validated, not run yet"
	}
	return m
}

// Status is the node at a glance.
func (d *Daemon) Status(ctx context.Context) (s api.Status, err error) {
	images, err := d.host.images.List()
	if err != nil {
		return s, err
	}
	used, err := d.host.meter.NodeOver(ctx, 200*time.Millisecond)
	if err != nil {
		return s, err
	}
	unenforced, _ := d.host.unenforced()
	err = d.do(ctx, func() {
		s = api.Status{
			Node: d.Config.Node, Version: d.Version, Started: d.started, Supervisor: supervisor(d.host.scopes),
			Unenforced: unenforced, Runtime: filepath.Base(d.host.runtime.OCI),
			Pods: make(map[string]int), Files: make(map[string]int), Images: len(images),
			Usage: statusUsage(used),
		}
		for _, p := range d.pods() {
			s.Pods[string(p.Status.Phase)]++
		}
		s.Cluster, s.Lease = d.statusCluster(), d.statusLease()
		for _, f := range d.set.Files {
			s.Files[string(fileState(f))]++
		}
		for _, c := range d.nodeConditions() {
			s.Conditions = append(s.Conditions, api.StatusCondition{Type: string(c.Type), OK: c.Status == v1.ConditionTrue, Message: c.Message})
		}
	})
	return s, err
}

// statusUsage is what a person wants to know of the host; /proc always tells it.
func statusUsage(n stats.Node) *api.StatusUsage {
	return &api.StatusUsage{
		MilliCPU: n.CPU.Rate.Or(0) / 1e6, CPUs: n.CPUs,
		MemoryBytes: n.Memory.WorkingSet.Or(0), MemoryCapacity: n.Capacity.Or(0),
		DiskBytes: n.Root.Used.Or(0), DiskCapacity: n.Root.Capacity.Or(0),
	}
}

// supervisor says what holds pods' processes together.
func supervisor(h scope.Host) string {
	switch {
	case scope.IsSystemd(h):
		return "systemd"
	case scope.IsNone(h):
		return "none"
	}
	return "cgroups"
}

// Images are those in this node's store.
func (d *Daemon) Images(context.Context) ([]api.Image, error) {
	images, err := d.host.images.List()
	if err != nil {
		return nil, err
	}
	used := d.agent.ImagesInUse()
	list := make([]api.Image, len(images))
	for i, img := range images {
		list[i] = apiImage(img)
		list[i].InUse = used[img.ID]
	}
	return list, nil
}

func apiImage(img image.Image) api.Image {
	return api.Image{ID: img.ID, Names: img.Names, Digests: img.Digests, Size: img.Size, Created: img.Created}
}

// PullImage pulls an image that no pod asked for.
func (d *Daemon) PullImage(ctx context.Context, ref string, progress func(api.Progress)) (api.Image, error) {
	img, err := d.host.images.Pull(ctx, ref, image.PullOptions{Progress: func(p image.Progress) {
		progress(api.Progress{Part: shortDigest(p.Layer), Phase: p.Phase.String(), Done: p.Done, Total: p.Total})
	}})
	return apiImage(img), badRequest(err)
}

// LoadImage loads an archive.
func (d *Daemon) LoadImage(ctx context.Context, archive io.Reader, _ func(api.Progress)) ([]api.Image, error) {
	images, err := d.host.images.LoadReader(ctx, archive, image.LoadOptions{})
	if err != nil {
		return nil, badRequest(err)
	}
	var list []api.Image
	for _, img := range images {
		list = append(list, apiImage(img))
	}
	return list, nil
}

// RemoveImage removes an image that no pod uses.
func (d *Daemon) RemoveImage(_ context.Context, ref string) error {
	used := d.agent.ImagesInUse()
	err := d.host.images.Remove(ref, func(id string) bool { return used[id] })
	resource := schema.GroupResource{Resource: "images"}
	switch {
	case errors.Is(err, image.ErrNotFound):
		return apierrors.NewNotFound(resource, ref)
	case errors.Is(err, image.ErrInUse):
		return apierrors.NewConflict(resource, ref, err)
	}
	return badRequest(err)
}

// badRequest passes an error's text on to the client.
func badRequest(err error) error {
	if err == nil {
		return nil
	}
	return apierrors.NewBadRequest(fmt.Sprint(err))
}

// shortDigest is as much of a digest as people compare.
func shortDigest(digest string) string {
	const prefix = len("sha256:")
	if len(digest) < prefix+12 {
		return digest
	}
	return digest[prefix : prefix+12]
}
