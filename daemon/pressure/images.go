package pressure

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Image is an image on this host as its garbage collection sees it.
type Image struct {
	ID       string
	Size     int64     // bytes, those of layers that other images share included
	Added    time.Time // to this host
	LastUsed time.Time // by a container that ran or was made
	InUse    bool      // a container runs from it, or will again
	Pinned   bool      // it lies on the host as a file and would come back
}

// ImagePolicy says when unused images go; the kubelet's imageGC* settings.
type ImagePolicy struct {
	HighPercent int           // of the disk used: at this much, images go ...
	LowPercent  int           // ... until it is this much
	MinAge      time.Duration // an image stays at least this long after it came or was used
	MaxAge      time.Duration // an image goes after it was unused this long; 0: never for that
}

// Disk is the file system that holds the images.
type Disk struct {
	Capacity, Available int64 // bytes
}

// ImagePlan is which images go.
type ImagePlan struct {
	Old        []string // unused for too long: all of them go
	Candidates []string // the longest unused first: as many go as it takes to free Free bytes
	Free       int64
	Percent    int // of the disk that is used
}

// Images plans the garbage collection of images (the kubelet's
// GarbageCollect, pkg/kubelet/images/image_gc_manager.go). Since is when the
// daemon began to note what is used: an image is not old for what happened
// before. The minimum age also counts from the last use, because a container
// that is being made is not seen as one that uses its image yet.
func Images(images []Image, disk Disk, policy ImagePolicy, since, now time.Time) ImagePlan {
	var plan ImagePlan
	for _, i := range collectable(images, policy, now) {
		if policy.MaxAge > 0 && now.Sub(since) > policy.MaxAge && now.Sub(i.LastUsed) > policy.MaxAge {
			plan.Old = append(plan.Old, i.ID)
			continue
		}
		plan.Candidates = append(plan.Candidates, i.ID)
	}
	available := min(disk.Available, disk.Capacity)
	if disk.Capacity <= 0 {
		plan.Candidates = nil
		return plan
	}
	plan.Percent = 100 - int(available*100/disk.Capacity)
	if plan.Percent < policy.HighPercent {
		plan.Candidates = nil
		return plan
	}
	plan.Free = disk.Capacity*int64(100-policy.LowPercent)/100 - available
	return plan
}

// UnusedImages are all images that may go, the longest unused first: what goes
// before any pod has to, when the disk runs short.
func UnusedImages(images []Image, policy ImagePolicy, now time.Time) []string {
	var ids []string
	for _, i := range collectable(images, policy, now) {
		ids = append(ids, i.ID)
	}
	return ids
}

func collectable(images []Image, policy ImagePolicy, now time.Time) []Image {
	var list []Image
	for _, i := range images {
		if !i.InUse && !i.Pinned && now.Sub(i.Added) >= policy.MinAge && now.Sub(i.LastUsed) >= policy.MinAge {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b Image) int {
		return cmp.Or(a.LastUsed.Compare(b.LastUsed), a.Added.Compare(b.Added), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Bytes is a size for people, as the kubelet's messages have it.
func Bytes(n int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n)/1024, 0
	for size >= 1024 && unit < len(units)-1 {
		size, unit = size/1024, unit+1
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}
