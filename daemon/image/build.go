package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

type blobReader = io.ReadCloser

// build is an image to be put into the store, wherever it comes from.
type build struct {
	id      string // digest of config, checked
	config  []byte
	diffIDs []v1.Hash // bottom first
	names   []string
	digests []string
	open    func(ctx context.Context, layer int) (blobReader, error) // called only for layers that are missing
	done    func(layer int)
}

// build unpacks what is missing of an image and records it. Layers are fetched and unpacked in parallel; they become
// visible bottom first, because each takes the attributes of implied directories from those below.
func (s *Store) build(ctx context.Context, b build) (Image, error) {
	chains := chainIDs(b.diffIDs)
	unpin := s.pin(chains)
	defer unpin()

	ready := make([]chan struct{}, len(chains)) // closed when the layer is in the store
	for i := range ready {
		ready[i] = make(chan struct{})
	}
	work, ctx := errgroup.WithContext(ctx)
	for i := range chains {
		work.Go(func() error {
			var below chan struct{}
			if i > 0 {
				below = ready[i-1]
			}
			if err := s.buildLayer(ctx, b, chains[:i+1], below); err != nil {
				return fmt.Errorf("layer %d of %d: %w", i+1, len(chains), err)
			}
			if b.done != nil {
				b.done(i)
			}
			close(ready[i])
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return Image{}, err
	}
	return s.record(b, chains)
}

// buildLayer makes sure that the last of chains is in the store. below is closed when the one before is.
func (s *Store) buildLayer(ctx context.Context, b build, chains []string, below chan struct{}) error {
	i := len(chains) - 1
	unlock, err := s.chains.lock(ctx, chains[i])
	if err != nil {
		return err
	}
	defer unlock()
	if s.hasLayer(chains[i]) {
		return nil
	}
	tmp, err := os.MkdirTemp(s.path("tmp"), "layer-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	out, err := s.unpackLayer(ctx, b, i, filepath.Join(tmp, "diff"))
	if err != nil {
		return err
	}
	if below != nil {
		select {
		case <-below:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := settle(filepath.Join(tmp, "diff"), out.Implied, s.diffs(chains[:i])); err != nil {
		return err
	}
	return s.publish(tmp, layer{Chain: chains[i], Diff: out.DiffID.String(), Size: out.Size})
}

func (s *Store) unpackLayer(ctx context.Context, b build, i int, diff string) (unpacked, error) {
	if err := os.Mkdir(diff, 0o755); err != nil {
		return unpacked{}, err
	}
	if err := os.Chmod(diff, 0o755); err != nil { // whatever the umask
		return unpacked{}, err
	}
	r, err := b.open(ctx, i)
	if err != nil {
		return unpacked{}, err
	}
	defer r.Close()
	release, err := acquire(ctx, s.unpacking)
	if err != nil {
		return unpacked{}, err
	}
	defer release()
	out, err := unpack(ctx, r, diff)
	if err != nil {
		return out, err
	}
	if out.DiffID != b.diffIDs[i] {
		return out, invalidf("its content has digest %s, but the image's configuration says %s", out.DiffID, b.diffIDs[i])
	}
	return out, nil
}

// publish moves a finished layer into layers/.
func (s *Store) publish(tmp string, l layer) error {
	meta, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "layer.json"), meta, 0o600); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := syncFS(tmp); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.dir = strconv.FormatUint(s.next, 36)
	s.next++
	if err := os.Rename(tmp, s.path("layers", l.dir)); err != nil {
		return err
	}
	s.layers[l.Chain] = l
	return nil
}

// record makes the image visible, its layers being there.
func (s *Store) record(b build, chains []string) (Image, error) {
	now := time.Now()
	rec := &record{ID: b.id, Chains: chains, RawConfig: b.config, Added: now, used: now}
	if err := json.Unmarshal(b.config, &rec.config); err != nil {
		return Image{}, invalidf("configuration: %w", err)
	}
	s.mu.Lock()
	if old := s.images[b.id]; old != nil {
		rec.Added = old.Added
	}
	s.mu.Unlock()
	raw, err := json.Marshal(rec)
	if err != nil {
		return Image{}, err
	}
	if err := syncDir(s.path("layers")); err != nil {
		return Image{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := writeFile(s.recordFile(b.id), raw); err != nil {
		return Image{}, err
	}
	s.images[b.id] = rec
	n := s.names.clone()
	for _, name := range b.names {
		n.Names[name] = b.id
	}
	for _, digest := range b.digests {
		n.Digests[digest] = b.id
	}
	if err := s.setNames(n); err != nil {
		return Image{}, err
	}
	return s.image(rec), nil
}

// pin keeps chains from being collected until the returned function is called.
func (s *Store) pin(chains []string) (unpin func()) {
	add := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range chains {
			if s.busy[c] += n; s.busy[c] == 0 {
				delete(s.busy, c)
			}
		}
	}
	add(1)
	return func() { add(-1) }
}

func (s *Store) hasLayer(chain string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.layers[chain]
	return ok
}

// diffs gives the directories of chains that are in the store, topmost first.
func (s *Store) diffs(chains []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var dirs []string
	for _, c := range slices.Backward(chains) {
		dirs = append(dirs, s.path("layers", s.layers[c].dir, "diff"))
	}
	return dirs
}

// chainIDs names each layer together with all below it, as image-spec's config.md defines it.
func chainIDs(diffIDs []v1.Hash) []string {
	var chains []string
	for i, d := range diffIDs {
		chain := d.String()
		if i > 0 {
			sum := sha256.Sum256([]byte(chains[i-1] + " " + chain))
			chain = "sha256:" + hex.EncodeToString(sum[:])
		}
		chains = append(chains, chain)
	}
	return chains
}
