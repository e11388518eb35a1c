package manifests

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Reader reads sources again and again and remembers each file's last good
// version. It is for one goroutine.
type Reader struct {
	sources []Source
	files   files
	now     func() time.Time
	entries map[string]*entry // by path
	mounts  map[string]bool   // directories that were mount points when last read
}

// entry is what a Reader knows of one file.
type entry struct {
	// The last good version; hash is "" before there was one.
	hash    string
	modTime time.Time
	objects []Object

	// What was last seen, good or not.
	seen     stamp
	seenHash string
	problems []Problem
	stale    bool
	settled  bool // an unchanged stamp means unchanged content
}

// NewReader makes a Reader of sources, which are given in any order. It reads
// nothing before Scan.
func NewReader(sources []Source) *Reader {
	return &Reader{
		sources: slices.Clone(sources),
		files:   osFiles{},
		now:     time.Now,
		entries: map[string]*entry{},
		mounts:  map[string]bool{},
	}
}

const (
	// settleTime is how old a change must be before an equal stamp proves
	// equal content: file systems count time in steps of up to two seconds.
	settleTime = 2 * time.Second

	// writeTime is how long a writer is waited for. After that the file is
	// taken as it is: something holds it open that does not write.
	writeTime = 2 * time.Second

	maxDirDepth = 32
	maxFiles    = 20_000 // of one source
)

// Scan reads what has changed and returns the whole state.
//
// A file that is gone from a directory that can be read is gone. All else that
// keeps a file from being read, and all that is wrong in it, leaves its last
// good version in force with a Problem: a directory that is missing or cannot
// be read (an unmounted disk is no deletion), a dangling link, a FIFO, a
// device, a loop of links, a file that is too large, broken or half-written.
func (r *Reader) Scan() Set {
	w := walk{r: r, found: map[string]bool{}, mounts: map[string]bool{}}
	for _, s := range r.sources {
		w.source(s)
	}
	for path := range r.entries {
		if !w.found[path] {
			delete(r.entries, path)
		}
	}
	r.mounts = w.mounts
	set := Set{Problems: w.problems, Unsettled: w.unsettled, mounts: slices.Sorted(maps.Keys(w.mounts))}
	set.Files, set.Claims = assemble(w.files)
	return set
}

// walk is one pass over the sources.
type walk struct {
	r         *Reader
	files     []File
	found     map[string]bool // paths of files that are there or are kept
	mounts    map[string]bool
	problems  []Problem
	unsettled bool

	// of the source at hand
	src   Source
	count int
	trail []fileID // directories from the source to here, to notice loops
}

func (w *walk) source(s Source) {
	w.src, w.count, w.trail = s, 0, nil
	w.dir(s.Dir)
}

// dir reads a directory. One that cannot be read keeps what was below it.
func (w *walk) dir(dir string) {
	entries, st, err := w.list(dir)
	if err != nil {
		w.keep(dir, err)
		return
	}
	if slices.Contains(w.trail, st.ID) || len(w.trail) == maxDirDepth {
		w.problem(dir, "not entered: a loop of links, or nested too deep")
		return
	}
	w.trail = append(w.trail, st.ID)
	defer func() { w.trail = w.trail[:len(w.trail)-1] }()
	chart := len(w.trail) > 1 && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == chartFile })
	for _, e := range entries {
		if !temporary(e.Name()) {
			w.entry(filepath.Join(dir, e.Name()), e, chart)
		}
	}
}

// entry takes one name of a directory; chart says that the directory is a Helm
// chart.
func (w *walk) entry(path string, e fs.DirEntry, chart bool) {
	isDir, link := e.IsDir(), e.Type()&fs.ModeSymlink != 0
	if link {
		st, err := w.r.files.Stat(path)
		if err != nil && (!isManifest(path) || w.r.knowsBelow(path)) {
			w.keep(path, err) // a link to a directory that cannot be reached
			return
		}
		isDir = err == nil && st.Mode.IsDir()
	}
	switch {
	case chart && !isDir:
		w.ignore(path, "part of a Helm chart: put the output of helm template here")
	case chart:
	case isDir:
		w.dir(path)
	case ignored(e.Name()) != "":
		w.ignore(path, ignored(e.Name()))
	default:
		w.file(path, link)
	}
}

// knowsBelow says whether files below a directory were read before.
func (r *Reader) knowsBelow(dir string) bool {
	for path := range r.entries {
		if strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return false
}

// list reads a directory's entries, but not those of a mount point from which
// the disk has gone: it is empty and on the same device as its parent, which
// it was not before.
func (w *walk) list(dir string) ([]fs.DirEntry, stamp, error) {
	st, err := w.r.files.Stat(dir)
	if err != nil {
		return nil, st, err
	}
	entries, err := w.r.files.ReadDir(dir)
	if err != nil {
		return nil, st, err
	}
	if parent, err := w.r.files.Stat(filepath.Dir(dir)); err == nil && parent.ID.Dev != st.ID.Dev {
		w.mounts[dir] = true
	} else if w.r.mounts[dir] && len(entries) == 0 {
		w.mounts[dir] = true
		return nil, st, errors.New("it was a mount point and is empty now: its disk seems to be unmounted")
	}
	return entries, st, nil
}

// keep leaves in force what was known of path and below it. A source that is
// not there and never held anything is nothing to speak of.
func (w *walk) keep(path string, err error) {
	kept := 0
	for _, known := range slices.Sorted(maps.Keys(w.r.entries)) {
		if known != path && !strings.HasPrefix(known, path+"/") {
			continue
		}
		e := w.r.entries[known]
		e.refuse(known, err)
		w.add(known, e)
		kept += len(e.objects)
	}
	for dir := range w.r.mounts {
		if dir == path || strings.HasPrefix(dir, path+"/") {
			w.mounts[dir] = true
		}
	}
	if kept == 0 && path == w.src.Dir && errors.Is(err, fs.ErrNotExist) {
		return
	}
	message := "cannot be read: " + reason(err)
	if kept > 0 {
		message += fmt.Sprintf("; the %d objects that its files declared stay in force", kept)
	}
	w.problem(path, message)
}

func (w *walk) problem(path, message string) {
	w.problems = append(w.problems, Problem{Pos: Position{File: path}, Message: message})
}

func (w *walk) ignore(path, why string) {
	w.files = append(w.files, File{Path: path, Source: w.src, Ignored: why})
}

// file brings a file's entry up to date.
func (w *walk) file(path string, link bool) {
	if w.count++; w.count > maxFiles {
		if w.count == maxFiles+1 {
			w.problem(w.src.Dir, fmt.Sprintf("holds more than %d files; from %s on none is read", maxFiles, path))
		}
		if e := w.r.entries[path]; e != nil {
			w.add(path, e)
		}
		return
	}
	st, err := w.r.files.Stat(path)
	if errors.Is(err, fs.ErrNotExist) && !link {
		w.unsettled = true // removed since the directory was read
		return
	}
	e := w.r.entries[path]
	if e == nil {
		e = &entry{}
		w.r.entries[path] = e
	}
	defer func() { w.add(path, e) }()
	if err == nil && e.settled && st == e.seen {
		return
	}
	c, err := w.r.files.Read(path)
	if err != nil {
		e.refuse(path, err)
		return
	}
	now := w.r.now()
	if c.Busy && now.Sub(c.Stamp.ModTime).Abs() < writeTime {
		w.unsettled = true
		e.settled = false
		return
	}
	e.seen, e.settled = c.Stamp, now.Sub(c.Stamp.ChangedAt) > settleTime
	sum := sha256.Sum256(c.Data)
	hash := hex.EncodeToString(sum[:])
	if hash == e.seenHash {
		return
	}
	objects, problems := decodeFile(path, c.Data, w.src.Written)
	e.seenHash, e.problems, e.stale = hash, problems, len(problems) > 0
	if !e.stale {
		e.hash, e.modTime, e.objects = hash, c.Stamp.ModTime, objects
	}
}

// refuse keeps the last good version because the file cannot be read.
func (e *entry) refuse(path string, err error) {
	e.seenHash, e.settled, e.stale = "", false, true
	e.problems = []Problem{{Pos: Position{File: path}, Message: "cannot be read: " + reason(err)}}
}

func (w *walk) add(path string, e *entry) {
	w.found[path] = true
	w.files = append(w.files, File{
		Path: path, Source: w.src, Hash: e.hash, ModTime: e.modTime,
		Objects: e.objects, Problems: e.problems, Stale: e.stale,
	})
}

// reason is an error without the path, which stands before it anyway.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
