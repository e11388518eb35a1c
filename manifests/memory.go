package manifests

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// memoryVersion is the format of Memory. Fields may be added without a new one.
const memoryVersion = 1

// Memory is what a daemon keeps, as JSON, between its runs, so that the last
// good version of a file stays in force although the file is broken, or its
// disk not mounted, when the daemon comes back. It holds the values of
// Secrets: keep it where only root can read it.
type Memory struct {
	Version int          `json:"version"`
	Files   []Remembered `json:"files,omitempty"`
	Mounts  []string     `json:"mounts,omitempty"` // directories that were mount points
}

// Remembered is the last good version of one file.
type Remembered struct {
	Path    string             `json:"path"`
	Hash    string             `json:"hash"`
	ModTime time.Time          `json:"modTime"`
	Objects []RememberedObject `json:"objects,omitempty"`
}

// RememberedObject is one of its objects.
type RememberedObject struct {
	Declared json.RawMessage `json:"declared"`
	Pos      Position        `json:"pos"`
	Document int             `json:"document"`
}

// Memory is what to keep of the set for the next run.
func (s Set) Memory() Memory {
	m := Memory{Version: memoryVersion, Mounts: s.mounts}
	for _, f := range s.Files {
		if f.Hash == "" {
			continue
		}
		r := Remembered{Path: f.Path, Hash: f.Hash, ModTime: f.ModTime}
		for _, o := range f.Objects {
			r.Objects = append(r.Objects, RememberedObject{Declared: o.Declared, Pos: o.Pos, Document: o.Document})
		}
		m.Files = append(m.Files, r)
	}
	return m
}

// Restore gives a new Reader the last good versions of an earlier run. It is
// called before the first Scan; whatever is there and good replaces them, and
// a file that is gone from a readable directory takes them with it. The error
// names what could not be restored; the rest is.
func (r *Reader) Restore(m Memory) error {
	if m.Version > memoryVersion {
		return fmt.Errorf("restore manifests: format %d was written by a newer version; this one knows up to %d", m.Version, memoryVersion)
	}
	var errs []error
	for _, f := range m.Files {
		e := &entry{hash: f.Hash, modTime: f.ModTime}
		for _, o := range f.Objects {
			value, err := FromDeclared(o.Declared)
			if err != nil {
				errs = append(errs, fmt.Errorf("restore %s: %w", o.Pos, err))
				continue
			}
			key, err := KeyOf(value)
			if err != nil {
				errs = append(errs, fmt.Errorf("restore %s: %w", o.Pos, err))
				continue
			}
			e.objects = append(e.objects, Object{Key: key, Value: value, Declared: o.Declared, Pos: o.Pos, Document: o.Document})
		}
		r.entries[f.Path] = e
	}
	for _, dir := range m.Mounts {
		r.mounts[dir] = true
	}
	return errors.Join(errs...)
}
