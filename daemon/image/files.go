package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// record is images/HEX.json. It is written once.
type record struct {
	ID        string          `json:"id"`
	Chains    []string        `json:"chains"`         // chain ids (image-spec config.md), bottom first
	RawConfig json.RawMessage `json:"config"`         // as the registry gave it, except for white space
	Added     time.Time       `json:"added,omitzero"` // when it came to this host first; zero: before this was noted

	config v1.ConfigFile
	used   time.Time // the file's mtime
}

// layer is layers/N/layer.json.
type layer struct {
	Chain string `json:"chain"`
	Diff  string `json:"diff"`
	Size  int64  `json:"size"`

	dir string // N
}

// names is names.json. Both maps lead to image ids.
type names struct {
	Names   map[string]string `json:"names"`
	Digests map[string]string `json:"digests"`
}

func (n names) clone() names { return names{maps.Clone(n.Names), maps.Clone(n.Digests)} }

func (n names) keep(id func(string) bool) {
	gone := func(_, image string) bool { return !id(image) }
	maps.DeleteFunc(n.Names, gone)
	maps.DeleteFunc(n.Digests, gone)
}

func (n names) drop(full string) {
	delete(n.Names, full)
	delete(n.Digests, full)
}

func (n names) of(id string) []string        { return keysOf(n.Names, id) }
func (n names) digestsOf(id string) []string { return keysOf(n.Digests, id) }

func keysOf(m map[string]string, value string) []string {
	var keys []string
	for k, v := range m {
		if v == value {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func (s *Store) recordFile(id string) string {
	return s.path("images", strings.TrimPrefix(id, "sha256:")+".json")
}

// setNames makes n the names, on disk first. The caller holds mu.
func (s *Store) setNames(n names) error {
	b, err := json.MarshalIndent(n, "", " ")
	if err != nil {
		return err
	}
	if err := writeFile(s.path("names.json"), b); err != nil {
		return err
	}
	s.names = n
	select {
	case s.changes <- struct{}{}:
	default:
	}
	return nil
}

func readNames(file string) (names, error) {
	n := names{Names: map[string]string{}, Digests: map[string]string{}}
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return n, err
	}
	if err := json.Unmarshal(b, &n); err != nil {
		return n, fmt.Errorf("%s: %w", file, err)
	}
	return n, nil
}

func readImages(dir string) (map[string]*record, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	images := map[string]*record{}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		rec := &record{used: info.ModTime()}
		if err := readJSON(file, rec); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(rec.RawConfig, &rec.config); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		images[rec.ID] = rec
	}
	return images, nil
}

// readLayers also gives the first number that is free above all used ones.
func readLayers(dir string) (map[string]layer, uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0, err
	}
	layers, next := map[string]layer{}, uint64(0)
	for _, e := range entries {
		n, err := strconv.ParseUint(e.Name(), 36, 64)
		if err != nil {
			continue // not ours
		}
		next = max(next, n+1)
		l := layer{dir: e.Name()}
		if err := readJSON(filepath.Join(dir, e.Name(), "layer.json"), &l); err != nil {
			return nil, 0, err
		}
		layers[l.Chain] = l
	}
	return layers, next, nil
}

func readJSON(file string, into any) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// writeFile replaces a file as a whole: after a power cut there is the old content or the new.
func writeFile(file string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(bytes.TrimSpace(b))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncFS flushes the file system that dir is on. A layer has thousands of files; one call for all of them costs less
// than an fsync each.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}
