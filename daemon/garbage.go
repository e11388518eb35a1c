package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/credential"
	"github.com/shoal-project/shoal/daemon/image"
	"github.com/shoal-project/shoal/daemon/pressure"
)

// garbagePeriod is how often images are looked at (the kubelet's ImageGCPeriod).
const garbagePeriod = 5 * time.Minute

// collectGarbage removes what nobody needs, until ctx ends.
func (d *Daemon) collectGarbage(ctx context.Context) {
	tick := time.NewTicker(garbagePeriod)
	defer tick.Stop()
	failures := 0
	for {
		if err := d.collectImages(ctx); err == nil || ctx.Err() != nil {
			failures = 0
		} else if failures++; failures > 1 { // as the kubelet: the disk may be busy while it starts
			d.events.Warning(d.nodeReference(), "ImageGCFailed", "%v", err)
		}
		_ = d.do(ctx, d.deleteEnded) // else the daemon ends
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// deleteEnded deletes the pods of controllers that ended and are too many, of
// those that this node decides about.
func (d *Daemon) deleteEnded() {
	var pods []*v1.Pod
	list, _ := d.view.List(podKind, "")
	for _, o := range list {
		if p := o.(*v1.Pod); d.decides(podKey(p)) {
			pods = append(pods, p)
		}
	}
	for _, p := range pressure.Ended(pods, d.Config.Pods.EndedThreshold) {
		d.deletePod(p, new(int64))
	}
}

// collectImages removes unused images when their disk is full, or they are old.
func (d *Daemon) collectImages(ctx context.Context) error {
	now := d.Now()
	images, err := d.images(now)
	if err != nil {
		return err
	}
	var disk pressure.Disk
	if disk.Capacity, disk.Available, err = d.host.images.Disk(); err != nil {
		return err
	}
	if disk.Capacity == 0 {
		d.events.Warning(d.nodeReference(), "InvalidDiskCapacity", "invalid capacity 0 on image filesystem")
		return errors.New("invalid capacity 0 on image filesystem")
	}
	policy := d.imagePolicy()
	plan := pressure.Images(images, disk, policy, d.started, now)
	if _, err := d.removeImages(ctx, plan.Old, 0, now.Add(-policy.MaxAge)); err != nil {
		return err
	}
	if plan.Free <= 0 {
		return nil
	}
	freed, err := d.removeImages(ctx, plan.Candidates, plan.Free, now.Add(-policy.MinAge))
	if err == nil && freed < plan.Free && ctx.Err() == nil {
		err = fmt.Errorf("Insufficient free disk space on the node's image filesystem (%d%% of %s used). "+
			"Failed to free sufficient space by deleting unused images (freed %d bytes). "+
			"Investigate disk usage, as it could be used by active images, logs, volumes, or other data.",
			plan.Percent, pressure.Bytes(disk.Capacity), freed)
		d.events.Warning(d.nodeReference(), "FreeDiskSpaceFailed", "%v", err)
	}
	return err
}

// images are the store's, with those in use noted as used now.
func (d *Daemon) images(now time.Time) ([]pressure.Image, error) {
	used := d.agent.ImagesInUse()
	d.host.images.Touch(used, now)
	list, err := d.host.images.List()
	if err != nil {
		return nil, err
	}
	images := make([]pressure.Image, 0, len(list))
	for _, i := range list {
		images = append(images, pressure.Image{
			ID: i.ID, Size: i.Size, Added: i.Added, LastUsed: i.LastUsed, Pinned: i.Pinned, InUse: used[i.ID],
		})
	}
	return images, nil
}

func (d *Daemon) imagePolicy() pressure.ImagePolicy {
	c := d.Config.Images
	return pressure.ImagePolicy{HighPercent: c.GCHighPercent, LowPercent: c.GCLowPercent, MinAge: c.MinAge, MaxAge: c.MaxAge}
}

// removeImages removes images that were not used after unusedSince, in order,
// until enough bytes are freed; 0 is all of them. One that can't be removed does
// not keep the others.
func (d *Daemon) removeImages(ctx context.Context, ids []string, enough int64, unusedSince time.Time) (freed int64, err error) {
	var errs []error
	for _, id := range ids {
		if ctx.Err() != nil || enough > 0 && freed >= enough {
			break
		}
		n, err := d.host.images.Collect(id, unusedSince, func(id string) bool { return d.agent.ImagesInUse()[id] })
		if err != nil {
			errs = append(errs, err)
			continue
		}
		d.Log.Info("removed an unused image", "image", id, "bytes", n)
		freed += n
	}
	if len(errs) > 0 {
		return freed, fmt.Errorf("wanted to free %d bytes of images, freed %d: %w", enough, freed, errors.Join(errs...))
	}
	return freed, nil
}

// openLogins opens the node's own registry logins.
func openLogins(d *Daemon) (*credential.Source, error) {
	c := credential.Config{Files: []string{d.path("etc/shoal/config.json"), d.path("var/lib/shoal/config.json")}}
	if p := d.Config.Images.CredentialProviders; p != "" {
		c.Providers, c.BinDir = d.path(p), d.path(d.Config.Images.CredentialProviderDir)
	}
	return credential.Open(c, d.Now, d.Log)
}

func (h *host) nodeLogins(ctx context.Context, repo string) []image.Login {
	var logins []image.Login
	for _, l := range h.logins.Find(ctx, repo) {
		logins = append(logins, image.Login(l))
	}
	return logins
}
