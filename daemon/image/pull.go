package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// PullOptions are what differs from pull to pull. The zero value pulls anonymously for this host's platform.
type PullOptions struct {
	Credentials *Credentials
	Platform    v1.Platform    // zero: HostPlatform
	Progress    func(Progress) // called one at a time, and often: it should return quickly
}

// Phase is what happens to a layer.
type Phase int

const (
	Downloading Phase = iota
	Unpacking
	Present // it was there already, or is there now
)

func (p Phase) String() string { return [...]string{"downloading", "unpacking", "present"}[p] }

// Progress is news of one layer.
type Progress struct {
	Ref         string // normalized
	Layer       string // digest
	Phase       Phase
	Done, Total int64 // compressed bytes
}

// Pull brings an image from its registry (or a mirror of it) to this host and returns it. It always asks the registry,
// even if a tag is known here: whether to pull is the caller's decision (imagePullPolicy). Only layers that are missing
// are downloaded, several at once; a pull that was interrupted, in this process or an earlier one, continues where it
// was. For rootfs:// it is Get.
//
// Errors: all of the package's but ErrInUse; those of several mirrors are joined, the registry's own last.
func (s *Store) Pull(ctx context.Context, ref string, opt PullOptions) (Image, error) {
	if IsRootfs(ref) {
		return openRootfs(ref)
	}
	named, err := parseName(ref)
	if err != nil {
		return Image{}, err
	}
	p := &pull{store: s, named: named, opt: opt}
	if p.opt.Platform.OS == "" {
		p.opt.Platform = HostPlatform()
	}
	img, err := p.run(ctx)
	if err != nil {
		return Image{}, fmt.Errorf("pull %s: %w", named, orDiskFull(err))
	}
	s.log.Info("pulled image", "image", named.String(), "id", img.ID, "bytes", img.Size)
	return img, nil
}

type pull struct {
	store *Store
	named reference.Named
	opt   PullOptions

	reporting sync.Mutex
}

// resolved is an image as its registry describes it.
type resolved struct {
	from     *client
	manifest *v1.Manifest
	digests  []v1.Hash // of the index, if any, and the manifest
}

func (p *pull) run(ctx context.Context) (Image, error) {
	endpoints, err := p.store.remote.endpoints(p.named)
	if err != nil {
		return Image{}, err
	}
	var failed []error
	for i, e := range endpoints {
		img, err := p.from(ctx, e, endpoints[i+1:])
		if err == nil {
			return img, nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrDiskFull) {
			return Image{}, err
		}
		failed = append(failed, err)
		if i+1 < len(endpoints) {
			p.store.log.Warn("mirror failed", "image", p.named.String(), "mirror", e.host(), "err", err)
		}
	}
	if len(failed) == 1 {
		return Image{}, failed[0]
	}
	return Image{}, lastDecides(failed)
}

// lastDecides joins errors; the kind is the last one's, whose registry the image's name says.
func lastDecides(failed []error) error {
	last := failed[len(failed)-1]
	text := last.Error()
	for _, err := range failed[:len(failed)-1] {
		text += "; mirror: " + err.Error()
	}
	return &failure{last, text, last}
}

// from pulls from e. Blobs that e turns out to lack may come from others, since a digest vouches for them.
func (p *pull) from(ctx context.Context, e endpoint, others []endpoint) (Image, error) {
	var failed error
	for _, who := range p.opt.Credentials.attempts(e.lookup) {
		c, err := e.login(ctx, who)
		if err == nil {
			var r resolved
			if r, err = p.resolve(ctx, c); err == nil {
				return p.fetch(ctx, r, others)
			}
		}
		failed = err
		if !errors.Is(err, ErrUnauthorized) {
			break
		}
	}
	return Image{}, failed
}

// resolve follows a tag or digest through indexes to the manifest for the platform.
func (p *pull) resolve(ctx context.Context, c *client) (resolved, error) {
	what := ""
	switch n := p.named.(type) {
	case reference.Digested:
		what = n.Digest().String()
	case reference.Tagged:
		what = n.Tag()
	}
	r := resolved{from: c}
	for range maxIndexes {
		raw, digest, mediaType, err := c.manifest(ctx, what)
		if err != nil {
			return r, err
		}
		r.digests = append(r.digests, digest)
		if !isIndex(mediaType, raw) {
			r.manifest, err = parseManifest(raw)
			return r, err
		}
		chosen, err := choose(raw, p.opt.Platform)
		if err != nil {
			return r, err
		}
		what = chosen.Digest.String()
	}
	return r, invalidf("more than %d indexes inside each other", maxIndexes)
}

func (p *pull) fetch(ctx context.Context, r resolved, others []endpoint) (Image, error) {
	raw, cfg, err := p.config(ctx, r)
	if err != nil {
		return Image{}, err
	}
	b := build{id: r.manifest.Config.Digest.String(), config: raw, diffIDs: cfg.RootFS.DiffIDs}
	if tagged, ok := p.named.(reference.Tagged); ok {
		b.names = []string{p.named.Name() + ":" + tagged.Tag()}
	}
	for _, d := range r.digests {
		b.digests = append(b.digests, p.named.Name()+"@"+d.String())
	}
	sources := p.sources(r.from, others)
	b.open = func(ctx context.Context, i int) (blobReader, error) {
		d := r.manifest.Layers[i]
		if err := p.store.roomFor(d.Size); err != nil {
			return nil, err
		}
		f, err := p.store.download(ctx, sources(ctx), d, func(done int64) { p.report(d, Downloading, done) })
		if err != nil {
			return nil, err
		}
		return &countingFile{File: f, progress: func(done int64) { p.report(d, Unpacking, done) }}, nil
	}
	b.done = func(i int) { p.report(r.manifest.Layers[i], Present, r.manifest.Layers[i].Size) }
	img, err := p.store.build(ctx, b)
	if err == nil {
		for _, d := range r.manifest.Layers {
			os.Remove(p.store.downloadFile(d.Digest)) // unpacked; if it is missing, all the better
		}
	}
	return img, err
}

// config gets the image's configuration.
func (p *pull) config(ctx context.Context, r resolved) ([]byte, *v1.ConfigFile, error) {
	d := r.manifest.Config
	raw, err := r.from.smallBlob(ctx, d, d.Size)
	if err != nil {
		return nil, nil, err
	}
	cfg, err := parseConfig(raw, len(r.manifest.Layers), p.opt.Platform)
	return raw, cfg, err
}

// sources gives the registries to ask for blobs, logging in to the spare ones only when asked the first time.
func (p *pull) sources(first *client, others []endpoint) func(context.Context) []*client {
	var once sync.Once
	list := []*client{first}
	return func(ctx context.Context) []*client {
		if len(others) == 0 {
			return list
		}
		once.Do(func() {
			for _, e := range others {
				for _, who := range p.opt.Credentials.attempts(e.lookup) {
					if c, err := e.login(ctx, who); err == nil {
						list = append(list, c)
						break
					}
				}
			}
		})
		return slices.Clone(list)
	}
}

func (p *pull) report(d v1.Descriptor, phase Phase, done int64) {
	if p.opt.Progress == nil {
		return
	}
	p.reporting.Lock()
	defer p.reporting.Unlock()
	p.opt.Progress(Progress{Ref: p.named.String(), Layer: d.Digest.String(), Phase: phase, Done: done, Total: d.Size})
}

// countingFile reports how much of it was read.
type countingFile struct {
	*os.File
	done     int64
	progress func(int64)
}

func (c *countingFile) Read(b []byte) (int, error) {
	n, err := c.File.Read(b)
	c.done += int64(n)
	c.progress(c.done)
	return n, err
}
