package daemon

import (
	"cmp"
	"context"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/image"
)

// What a node tells of its images at most (the kubelet's nodeStatusMaxImages and
// MaxNamesPerImageInNodeStatus).
const (
	maxNodeImages = 50
	maxImageNames = 5
)

// imagesPause is the least time from one list of the node's images to the next:
// many may come at once.
const imagesPause = 5 * time.Second

// watchImages publishes the node's images when they have changed, until ctx ends.
func (d *Daemon) watchImages(ctx context.Context) {
	for {
		select {
		case <-d.host.images.Changes():
		case <-ctx.Done():
			return
		}
		if d.do(ctx, func() { d.host.told = nil; d.publishNode() }) != nil {
			return // the daemon ends
		}
		select {
		case <-time.After(imagesPause):
		case <-ctx.Done():
			return
		}
	}
}

// nodeImages are the images as the node tells of them. They are read again when
// they have changed.
func (h *host) nodeImages() []v1.ContainerImage {
	if h.told != nil {
		return h.told
	}
	list, err := h.images.List()
	if err != nil {
		h.d.Log.Error("can't list the images", "err", err)
		return nil
	}
	h.told = toldImages(list)
	return h.told
}

// toldImages are the largest images with their names, digests first (the
// kubelet's nodestatus.Images).
func toldImages(list []image.Image) []v1.ContainerImage {
	slices.SortFunc(list, func(a, b image.Image) int { return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.ID, b.ID)) })
	told := []v1.ContainerImage{}
	for _, i := range list[:min(len(list), maxNodeImages)] {
		names := slices.Concat(i.Digests, i.Names)
		told = append(told, v1.ContainerImage{Names: names[:min(len(names), maxImageNames)], SizeBytes: i.Size})
	}
	return told
}
