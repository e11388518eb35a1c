package event

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

const (
	// batch is how long events are gathered before they are written: what a
	// kill -9 may lose.
	batch = time.Second
	// syncEvery is how long what was written may wait for the disk: what a power
	// cut may lose. An idle node writes and syncs nothing.
	syncEvery = 20 * time.Second
	// mostBytes bounds what is kept over a restart; the newest stay.
	mostBytes = 4 << 20
	// slack is how much of the file may be of no use any more, beyond as much
	// again as is.
	slack = 256 << 10
)

// logVersion is the format of the file: a line of logHeader, then one event a
// line. A later line about an event replaces an earlier one.
const logVersion = 1

type logHeader struct {
	Version int `json:"version"`
}

// errNewer is a file that a newer shoald wrote. It is left alone.
var errNewer = errors.New("written by a newer version of shoald")

// Keep reads the events of the last hour back from file, so that they count on,
// and returns what writes them there from now on, until ctx ends; wait for it.
// An error means that events are kept in memory only. Call it before anything
// is recorded.
func (r *Recorder) Keep(file string) (run func(ctx context.Context), err error) {
	events, err := readLog(file)
	if err != nil {
		return nil, err
	}
	r.restore(events)
	r.mu.Lock()
	r.dirty, r.woken = make(map[manifests.Key]bool), make(chan struct{}, 1)
	r.mu.Unlock()
	l := &logFile{path: file}
	if err := l.rewrite(r.newest()); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return func(ctx context.Context) { r.write(ctx, l) }, nil
}

// restore takes over what an earlier daemon recorded.
func (r *Recorder) restore(events []*v1.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var changes []view.Change
	for _, e := range events {
		if r.now().Sub(e.LastTimestamp.Time) > ttl {
			continue
		}
		key := manifests.Key{Kind: "Event", Namespace: e.Namespace, Name: e.Name}
		r.events[key] = e
		changes = append(changes, view.Change{Key: key, Object: e})
	}
	for len(r.events) > most {
		changes = append(changes, r.drop(r.oldest()))
	}
	r.view.Apply(changes...)
}

// write writes what is recorded, in batches.
func (r *Recorder) write(ctx context.Context, l *logFile) {
	var flush, sync <-chan time.Time
	report := func(err error) {
		if err != nil {
			r.log.Warn("can't write events: a restart of shoald would lose some", "err", err)
		}
	}
	for {
		select {
		case <-r.woken:
			if flush == nil {
				flush = time.After(batch)
			}
			continue
		case <-flush:
			flush = nil
			report(r.flush(l))
			if sync == nil {
				sync = time.After(syncEvery)
			}
		case <-sync:
			sync = nil
			if l.file != nil {
				report(l.file.Sync())
			}
		case <-ctx.Done():
			report(errors.Join(r.flush(l), l.close()))
			return
		}
	}
}

// flush appends what changed since the last time, or writes all anew where most
// of the file is of no use any more.
func (r *Recorder) flush(l *logFile) error {
	r.mu.Lock()
	var changed []*v1.Event
	for key := range r.dirty {
		if e := r.events[key]; e != nil {
			changed = append(changed, e) // never changed in place
		}
	}
	clear(r.dirty)
	r.mu.Unlock()
	if l.file == nil || l.size > 2*l.useful+slack {
		return l.rewrite(r.newest())
	}
	return l.append(changed)
}

// newest are all events, those last seen first.
func (r *Recorder) newest() []*v1.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*v1.Event
	for _, e := range r.events {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *v1.Event) int { return b.LastTimestamp.Compare(a.LastTimestamp.Time) })
	return all
}

// logFile is the file. Its zero value with a path is one that must be written
// anew.
type logFile struct {
	path         string
	file         *os.File
	size, useful int64 // bytes; useful is what the last rewrite wrote
}

func (l *logFile) append(events []*v1.Event) error {
	text, err := lines(events)
	if err != nil {
		return err
	}
	n, err := l.file.Write(text)
	l.size += int64(n)
	if err != nil { // perhaps half a line: the next batch writes all anew
		return errors.Join(err, l.close())
	}
	return nil
}

// rewrite makes the file hold these events alone, as many as it may.
func (l *logFile) rewrite(events []*v1.Event) error {
	head, err := json.Marshal(logHeader{logVersion})
	if err != nil {
		return err
	}
	text := append(head, '\n')
	for i := range events {
		line, err := lines(events[i : i+1])
		if err != nil {
			return err
		}
		if len(text)+len(line) > mostBytes {
			break
		}
		text = append(text, line...)
	}
	if err := l.close(); err != nil {
		return err
	}
	next := filepath.Join(filepath.Dir(l.path), "."+filepath.Base(l.path)+".new")
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(text); err == nil {
		if err = f.Sync(); err == nil {
			err = os.Rename(next, l.path)
		}
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(next))
	}
	l.file, l.size, l.useful = f, int64(len(text)), int64(len(text))
	return nil
}

func (l *logFile) close() error {
	if l.file == nil {
		return nil
	}
	err := errors.Join(l.file.Sync(), l.file.Close())
	l.file = nil
	return err
}

func lines(events []*v1.Event) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, e := range events {
		if err := enc.Encode(e); err != nil {
			return nil, fmt.Errorf("write an event: %w", err)
		}
	}
	return b.Bytes(), nil
}

// readLog reads the events back, each in its last version. A line that is no
// event, as the last one may be after a power cut, is passed over.
func readLog(file string) ([]*v1.Event, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text := bufio.NewScanner(f)
	text.Buffer(nil, 64<<10)
	var head logHeader
	if text.Scan() && json.Unmarshal(text.Bytes(), &head) == nil && head.Version > logVersion {
		return nil, fmt.Errorf("%s: %w (format %d; this one knows %d)", file, errNewer, head.Version, logVersion)
	}
	last := make(map[string]*v1.Event)
	for text.Scan() {
		var e v1.Event
		if json.Unmarshal(text.Bytes(), &e) != nil || e.Name == "" || e.Namespace == "" {
			continue
		}
		e.ResourceVersion = ""
		last[e.Namespace+"/"+e.Name] = &e
	}
	if err := text.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
		return nil, err
	}
	events := make([]*v1.Event, 0, len(last))
	for _, e := range last {
		events = append(events, e)
	}
	return events, nil
}
