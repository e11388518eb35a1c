package image

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Touch notes that images are wanted now: those of running containers, say, which nobody asks the store for.
func (s *Store) Touch(ids map[string]bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range ids {
		if s.images[id] != nil {
			s.use(id, now)
		}
	}
}

// Collect removes an image with all its names, and the layers that no other image has, if it was not used after
// unusedSince and no container runs from it (inUse). It returns how many bytes of layers that freed; an image that is
// gone, or in use after all, frees none and is no error.
func (s *Store) Collect(id string, unusedSince time.Time, inUse func(id string) bool) (freed int64, err error) {
	// Asked before the lock is taken: whoever answers may be waiting for the store. A container that is made meanwhile
	// has used the image after unusedSince.
	if inUse(id) {
		return 0, nil
	}
	freed, doomed, err := s.forgetUnused(id, unusedSince)
	for _, dir := range doomed {
		if rerr := os.RemoveAll(dir); rerr != nil && err == nil {
			err = rerr
		}
	}
	if err != nil {
		return freed, fmt.Errorf("remove image %s: %w", id, err)
	}
	return freed, nil
}

func (s *Store) forgetUnused(id string, unusedSince time.Time) (freed int64, doomed []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.images[id]
	if rec == nil || rec.used.After(unusedSince) || s.pinned(id) {
		return 0, nil, nil
	}
	left := s.names.clone()
	left.keep(func(other string) bool { return other != id })
	if err := s.setNames(left); err != nil {
		return 0, nil, err
	}
	if err := os.Remove(s.recordFile(id)); err != nil {
		return 0, nil, err
	}
	delete(s.images, id)
	before := s.layerBytes()
	doomed, err = s.collect()
	return before - s.layerBytes(), doomed, err
}

// layerBytes is what all layers take. The caller holds mu.
func (s *Store) layerBytes() int64 {
	var n int64
	for _, l := range s.layers {
		n += l.Size
	}
	return n
}

// pinned says whether an image comes from a file in the drop-in directory: removed, it would be loaded again. The
// caller holds mu.
func (s *Store) pinned(id string) bool {
	if s.dropped == nil {
		return true // nobody knows yet
	}
	for _, d := range s.dropped {
		for _, other := range d.Images {
			if other == id {
				return true
			}
		}
	}
	return false
}

// Disk is the size of the file system that holds the images, and how much of it is free for use, in bytes.
func (s *Store) Disk() (capacity, available int64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		return 0, 0, fmt.Errorf("find the free space of %s: %w", s.dir, err)
	}
	return int64(fs.Blocks) * fs.Bsize, int64(fs.Bavail) * fs.Bsize, nil
}
