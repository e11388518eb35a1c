package image

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Problem is something wrong with one file of the drop-in directory. The other files still count.
type Problem struct {
	File string
	Err  error
}

// dropIn is what became of a file: of its state when it was read.
type dropIn struct {
	State  fileState `json:"state"`
	Images []string  `json:"images"` // ids
	err    error     // not kept on disk, so that a new daemon reports it again
}

// fileState changes when the file does. An archive of gigabytes is not read again to see whether it did.
type fileState struct {
	Inode uint64 `json:"inode"`
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime"` // ns
	CTime int64  `json:"ctime"` // ns
}

// LoadDropIns loads what lies in Config.DropIn: archives and OCI layouts. Files that did not change since they were
// loaded are not read, unless their images were removed meanwhile; a bad one is reported each time, but read once.
// Names that begin with a dot or end in ~ or .tmp or .part are being written or edited, and are ignored. A missing
// directory is an empty one.
func (s *Store) LoadDropIns(ctx context.Context) ([]Image, []Problem) {
	entries, err := os.ReadDir(s.dropIn)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, []Problem{{s.dropIn, err}}
	}
	known, err := s.readDropIns()
	if err != nil {
		return nil, []Problem{{s.path("dropins.json"), err}}
	}
	now := map[string]dropIn{}
	var images []Image
	var problems []Problem
	for _, e := range entries {
		file := filepath.Join(s.dropIn, e.Name())
		if unfinished(e.Name()) {
			continue
		}
		d, loaded := s.lookAt(ctx, file, known[file])
		images = append(images, loaded...)
		if d.err != nil {
			problems = append(problems, Problem{file, d.err})
		}
		now[file] = d
	}
	if err := s.keepDropIns(now); err != nil {
		problems = append(problems, Problem{s.path("dropins.json"), err})
	}
	return images, problems
}

func unfinished(name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") {
		return true
	}
	ext := filepath.Ext(name)
	return ext == ".tmp" || ext == ".part"
}

// lookAt loads a file if it is new.
func (s *Store) lookAt(ctx context.Context, file string, old dropIn) (dropIn, []Image) {
	state, err := stateOf(file)
	if err != nil {
		return dropIn{err: err}, nil
	}
	if state == old.State && (old.err != nil || s.haveAll(old.Images)) {
		return old, nil
	}
	images, err := s.Load(ctx, file, LoadOptions{})
	d := dropIn{State: state, err: err}
	if err != nil && (ctx.Err() != nil || errors.Is(err, ErrDiskFull)) {
		d.State = fileState{} // the file is not to blame: try again
	}
	for _, img := range images {
		d.Images = append(d.Images, img.ID)
	}
	return d, images
}

func (s *Store) haveAll(ids []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if s.images[id] == nil {
			return false
		}
	}
	return len(ids) > 0
}

// stateOf a layout is its index's, which names all the rest by digest.
func stateOf(file string) (fileState, error) {
	info, err := os.Stat(file)
	if err == nil && info.IsDir() {
		info, err = os.Stat(filepath.Join(file, "index.json"))
	}
	if err != nil {
		return fileState{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return fileState{Inode: st.Ino, Size: st.Size, MTime: st.Mtim.Nano(), CTime: st.Ctim.Nano()}, nil
}

func (s *Store) readDropIns() (map[string]dropIn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dropped != nil {
		return s.dropped, nil
	}
	known := map[string]dropIn{}
	err := readJSON(s.path("dropins.json"), &known)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return known, nil
}

func (s *Store) keepDropIns(now map[string]dropIn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped = now
	b, err := json.Marshal(now)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(s.path("dropins.json")); err == nil && string(old) == string(b) {
		return nil
	}
	return writeFile(s.path("dropins.json"), b)
}
