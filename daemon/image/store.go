package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// Defaults of Config.
const (
	DefaultDir    = "/var/lib/shoal/oci"
	DefaultDropIn = "/var/lib/shoal/images"
)

const (
	format = 1
	// abandonedAfter is how long bytes of a pull that nobody resumed are kept.
	abandonedAfter = 24 * time.Hour
	// parallelDownloads is for the whole host: what containerd allows per image.
	parallelDownloads = 3
)

// Config says where images live and where they come from. The zero value is a working one.
type Config struct {
	Dir        string // empty: DefaultDir
	DropIn     string // archives and layouts that people and packages put down; empty: DefaultDropIn
	Registries []Registry
}

// Registry says how to talk to one host of a registry, [[registries]] in shoal.toml.
type Registry struct {
	Host string `toml:"host"` // HOST[:PORT] as in image names, for example docker.io

	// PlainHTTP allows HTTP without TLS, passwords included. Loopback needs no leave.
	PlainHTTP bool `toml:"plain_http"`

	// CAFile holds certificates (PEM) that are trusted for this host beside the system's.
	CAFile string `toml:"ca_file"`

	// Mirrors are asked first, in order: HOST[:PORT][/PREFIX], the image's path is appended. How to talk to a mirror is
	// its own Registry entry; it gets no credentials that were meant for this host.
	Mirrors []string `toml:"mirrors"`
}

// Image is what a container needs to know of an unpacked image.
type Image struct {
	ID       string    // digest of the image's configuration, sha256:HEX; empty for a directory
	Names    []string  // full names with tags, sorted
	Digests  []string  // HOST/PATH@sha256:HEX, of manifests and indexes, sorted
	Size     int64     // bytes in files, unpacked; layers shared with other images included
	Created  time.Time // by whoever built it; may be zero
	LastUsed time.Time // the last Get, Pull, Load or Touch
	Added    time.Time // to this host, first; zero for one that an early version of the store has
	Pinned   bool      // it lies in the drop-in directory: removed, it would come back
	Config   v1.Config
	Layers   []string // directories, topmost first, ready for overlay's lowerdir=
	HostRoot bool     // rootfs:///
	Masked   []string // paths inside the root that MountRoot hides, for HostRoot only

	// Submounts are directories of the host's root that are file systems of their own (/usr, /var, ...): an overlay does
	// not see through to them, so MountRoot makes one for each. For HostRoot only.
	Submounts []string
}

// Store is the images of this host. Its methods may be called concurrently.
type Store struct {
	dir, dropIn string
	log         *slog.Logger
	remote      *remotes
	lock        *os.File

	retryDelay func(tries int) time.Duration
	stallAfter time.Duration

	changes chan struct{} // holds one

	downloading chan struct{} // a slot for each download
	unpacking   chan struct{}
	blobs       keyLocks // by digest: one download of a blob at a time
	chains      keyLocks // by chain id: one unpacking of a layer at a time

	mu      sync.Mutex // all below, and the files they mirror
	images  map[string]*record
	names   names
	layers  map[string]layer  // by chain id
	next    uint64            // the next free number in layers/
	busy    map[string]int    // chains that a pull counts on: not to be collected
	dropped map[string]dropIn // nil: not read yet
}

// Open opens the store, and makes it if there is none. It removes what an interrupted run left half done. Errors:
// ErrNewerFormat, ErrLocked.
func Open(cfg Config, log *slog.Logger) (*Store, error) {
	dir := cmp.Or(cfg.Dir, DefaultDir)
	remote, err := newRemotes(cfg.Registries)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("open image store: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		dir: dir, dropIn: cmp.Or(cfg.DropIn, DefaultDropIn), log: log, remote: remote, lock: lock,
		changes:     make(chan struct{}, 1),
		downloading: make(chan struct{}, parallelDownloads),
		unpacking:   make(chan struct{}, runtime.GOMAXPROCS(0)),
		busy:        map[string]int{}, retryDelay: retryDelay, stallAfter: stallAfter,
	}
	if err := s.load(time.Now()); err != nil {
		lock.Close()
		return nil, fmt.Errorf("open image store %s: %w", dir, err)
	}
	return s, nil
}

// Changes gets a value when images have come or gone, or have other names, since
// the last one was taken from it. It is for one reader.
func (s *Store) Changes() <-chan struct{} { return s.changes }

// Close lets another process open the store.
func (s *Store) Close() error { return s.lock.Close() }

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
	}
	return f, nil
}

// load reads the store from disk and sweeps it.
func (s *Store) load(now time.Time) error {
	if err := checkFormat(s.dir); err != nil {
		return err
	}
	if err := os.RemoveAll(s.path("tmp")); err != nil {
		return err
	}
	for _, sub := range []string{"images", "layers", "downloads", "tmp"} {
		if err := os.MkdirAll(s.path(sub), 0o700); err != nil {
			return err
		}
	}
	var err error
	if s.layers, s.next, err = readLayers(s.path("layers")); err != nil {
		return err
	}
	if s.images, err = readImages(s.path("images")); err != nil {
		return err
	}
	if s.names, err = readNames(s.path("names.json")); err != nil {
		return err
	}
	s.dropIncomplete()
	return s.sweepDownloads(now)
}

func checkFormat(dir string) error {
	file := filepath.Join(dir, "version")
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return writeFile(file, fmt.Appendln(nil, format))
	}
	if err != nil {
		return err
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(b)))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", file, err)
	case v > format:
		return fmt.Errorf("%w: %s says %d, this shoald knows up to %d; install the newer shoald again", ErrNewerFormat, file, v, format)
	}
	return nil
}

// dropIncomplete forgets images whose layers are gone, which happens only if somebody deleted them by hand, and names
// of images that are gone, which happens when a removal was interrupted.
func (s *Store) dropIncomplete() {
	for id, rec := range s.images {
		for _, chain := range rec.Chains {
			if _, ok := s.layers[chain]; !ok {
				s.log.Warn("image lost a layer", "image", id, "layer", chain)
				delete(s.images, id)
				os.Remove(s.recordFile(id))
				break
			}
		}
	}
	s.names.keep(func(id string) bool { return s.images[id] != nil })
}

// sweepDownloads removes what nobody came back for, so that pulls that never end do not fill the disk.
func (s *Store) sweepDownloads(now time.Time) error {
	files, err := os.ReadDir(s.path("downloads"))
	if err != nil {
		return err
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil || now.Sub(info.ModTime()) < abandonedAfter {
			continue
		}
		if err := os.Remove(s.path("downloads", f.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// Get finds an image that is on this host: by name, digest, id, or a directory by rootfs://. Errors: ErrNotFound,
// ErrInvalidName.
func (s *Store) Get(ref string) (Image, error) {
	if IsRootfs(ref) {
		return openRootfs(ref)
	}
	full, err := Normalize(ref)
	if err != nil {
		return Image{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.find(full)
	if !ok {
		return Image{}, notFound(full)
	}
	return s.use(id, time.Now()), nil
}

func notFound(ref string) error {
	err := fmt.Errorf("%s: %w (pull it, or load it with shoal image load)", ref, ErrNotFound)
	return &failure{ErrNotFound, err.Error(), err}
}

// find gives the id of a normalized reference. The caller holds mu.
func (s *Store) find(full string) (string, bool) {
	if isID(full) {
		return full, s.images[full] != nil
	}
	if id, ok := s.names.Names[full]; ok {
		return id, true
	}
	id, ok := s.names.Digests[full]
	return id, ok
}

// use notes that an image is wanted now. The caller holds mu.
func (s *Store) use(id string, now time.Time) Image {
	rec := s.images[id]
	rec.used = now
	if err := os.Chtimes(s.recordFile(id), now, now); err != nil {
		s.log.Warn("note use of image", "image", id, "err", err)
	}
	return s.image(rec)
}

// image is the caller's form of a record. The caller holds mu.
func (s *Store) image(rec *record) Image {
	img := Image{
		ID: rec.ID, Names: s.names.of(rec.ID), Digests: s.names.digestsOf(rec.ID),
		Created: rec.config.Created.Time, LastUsed: rec.used, Added: rec.Added, Pinned: s.pinned(rec.ID), Config: *rec.config.Config.DeepCopy(),
	}
	for _, chain := range slices.Backward(rec.Chains) {
		l := s.layers[chain]
		img.Size += l.Size
		img.Layers = append(img.Layers, s.path("layers", l.dir, "diff"))
	}
	return img
}

// List gives every image, sorted by id. What uses disk beside them (interrupted downloads) is not listed.
func (s *Store) List() ([]Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Image
	for _, id := range slices.Sorted(maps.Keys(s.images)) {
		all = append(all, s.image(s.images[id]))
	}
	return all, nil
}

// Remove takes one name from an image, and the image with it when that was the last; given an id, or a digest with no
// other name left, it removes the image with all its names. Layers that no other image uses go too. inUse says whether a
// container runs from the image; such an image keeps its last name, and the error is ErrInUse. Errors: ErrNotFound,
// ErrInvalidName.
func (s *Store) Remove(ref string, inUse func(id string) bool) error {
	full, err := Normalize(ref)
	if err != nil {
		return err
	}
	doomed, err := s.forget(full, inUse)
	if err != nil {
		return err
	}
	for _, dir := range doomed {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove image %s: %w", full, err)
		}
	}
	return nil
}

// forget is Remove up to the slow part: it returns directories to delete.
func (s *Store) forget(full string, inUse func(string) bool) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.find(full)
	if !ok {
		return nil, notFound(full)
	}
	left := s.names.clone()
	if isID(full) {
		left.keep(func(other string) bool { return other != id })
	} else {
		left.drop(full)
	}
	last := len(left.of(id)) == 0
	if last && inUse != nil && inUse(id) {
		err := fmt.Errorf("%s: %w by a container", full, ErrInUse)
		return nil, &failure{ErrInUse, err.Error(), err}
	}
	if !last {
		return nil, s.setNames(left)
	}
	left.keep(func(other string) bool { return other != id })
	if err := s.setNames(left); err != nil {
		return nil, err
	}
	if err := os.Remove(s.recordFile(id)); err != nil {
		return nil, err
	}
	delete(s.images, id)
	return s.collect()
}

// collect takes the layers that nobody needs out of sight. The caller holds mu, and deletes what it returns.
func (s *Store) collect() ([]string, error) {
	needed := map[string]bool{}
	for _, rec := range s.images {
		for _, chain := range rec.Chains {
			needed[chain] = true
		}
	}
	var doomed []string
	for chain, l := range s.layers {
		if needed[chain] || s.busy[chain] > 0 {
			continue
		}
		trash, err := os.MkdirTemp(s.path("tmp"), "gone-")
		if err != nil {
			return doomed, err
		}
		doomed = append(doomed, trash)
		if err := os.Rename(s.path("layers", l.dir), filepath.Join(trash, l.dir)); err != nil {
			return doomed, err
		}
		delete(s.layers, chain)
	}
	return doomed, nil
}

// acquire takes a slot of a semaphore.
func acquire(ctx context.Context, slots chan struct{}) (release func(), err error) {
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// keyLocks are mutexes by name that a context can give up waiting for. The zero value is ready.
type keyLocks struct {
	mu   sync.Mutex
	held map[string]*keyLock
}

type keyLock struct {
	slot chan struct{}
	refs int
}

func (k *keyLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	if k.held == nil {
		k.held = map[string]*keyLock{}
	}
	l := k.held[key]
	if l == nil {
		l = &keyLock{slot: make(chan struct{}, 1)}
		k.held[key] = l
	}
	l.refs++
	k.mu.Unlock()

	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.refs--; l.refs == 0 {
			delete(k.held, key)
		}
	}
	release, err := acquire(ctx, l.slot)
	if err != nil {
		leave()
		return nil, err
	}
	return func() { release(); leave() }, nil
}
