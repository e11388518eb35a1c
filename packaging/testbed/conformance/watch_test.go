package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/packaging/testbed/agent"
	"github.com/shoal-project/shoal/packaging/testbed/bed"
)

// watch is what the host's API says of pods and events, kept up to date.
type watch struct {
	mu      sync.Mutex
	pods    map[string]*v1.Pod     // by namespace/name
	events  map[string][]*v1.Event // by namespace
	changed chan struct{}          // closed at the next change
	broken  error                  // why it last ended
}

func newWatch() *watch {
	return &watch{pods: map[string]*v1.Pod{}, events: map[string][]*v1.Event{}, changed: make(chan struct{})}
}

// run follows one resource until ctx ends. A watch that ends is begun again.
func (w *watch) run(ctx context.Context, h *bed.Host, resource string) {
	for ctx.Err() == nil {
		r, out := io.Pipe()
		go func() {
			var complaint limited
			command := agent.Command{Args: []string{"shoal", "get", "--raw", "/api/v1/" + resource + "?watch=true"}}
			exit, err := h.Stream(ctx, command, agent.IO{Stdout: out, Stderr: &complaint})
			_ = out.CloseWithError(fmt.Errorf("watch of %s ended: exit code %d, %v: %s", resource, exit, err, complaint.text))
		}()
		err := w.read(json.NewDecoder(r), resource)
		_ = r.CloseWithError(err)
		w.update(func() { w.broken = err })
	}
}

// limited keeps the beginning of what is written to it.
type limited struct{ text []byte }

func (l *limited) Write(p []byte) (int, error) {
	l.text = append(l.text, p[:min(len(p), 1000-min(1000, len(l.text)))]...)
	return len(p), nil
}

func (w *watch) read(d *json.Decoder, resource string) error {
	for {
		var change struct {
			Type   string
			Object json.RawMessage
		}
		if err := d.Decode(&change); err != nil {
			return err
		}
		var err error
		if resource == "pods" {
			err = w.pod(change.Type, change.Object)
		} else {
			err = w.event(change.Type, change.Object)
		}
		if err != nil {
			return err
		}
	}
}

func (w *watch) pod(kind string, object []byte) error {
	var p v1.Pod
	if err := json.Unmarshal(object, &p); err != nil {
		return err
	}
	w.update(func() {
		if kind == "DELETED" {
			delete(w.pods, p.Namespace+"/"+p.Name)
		} else {
			w.pods[p.Namespace+"/"+p.Name] = &p
		}
	})
	return nil
}

func (w *watch) event(kind string, object []byte) error {
	var e v1.Event
	if err := json.Unmarshal(object, &e); err != nil {
		return err
	}
	if kind != "DELETED" {
		w.update(func() { w.events[e.Namespace] = append(w.events[e.Namespace], &e) })
	}
	return nil
}

func (w *watch) update(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	close(w.changed)
	w.changed = make(chan struct{})
}

// until waits for ok, which is called with the lock held and answers "" or what is missing. That is the error when
// patience ends, or at once when it will never come.
func (w *watch) until(ctx context.Context, ok func() (missing string, never bool)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		w.mu.Lock()
		missing, never := ok()
		changed := w.changed
		w.mu.Unlock()
		switch {
		case missing == "":
			return nil
		case never:
			return errors.New(missing)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s (%w)", missing, w.why(ctx))
		}
	}
}

func (w *watch) why(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return w.broken
	}
	return ctx.Err()
}
