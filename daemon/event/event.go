// Package event keeps what happened on this node as Kubernetes events.
//
// Events stay on the node where they happened: they are not part of its record.
// They live for an hour (the apiserver's --event-ttl default) in the view, and
// for as long as it keeps them in the journal. Recorder.Keep makes those of the
// view outlive the daemon.
package event

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// ttl is how long an event is kept after it was last seen.
const ttl = time.Hour

// most is how many events are kept; beyond it the oldest go first.
const most = 4096

// messageLimit is the apiserver's limit on an event's message, in bytes.
const messageLimit = 1024

// Recorder turns what happens into events. The same thing happening again to
// the same object counts up instead of adding an event.
type Recorder struct {
	view *view.View
	node string
	now  func() time.Time
	log  *slog.Logger

	mu     sync.Mutex
	events map[manifests.Key]*v1.Event
	counts map[Kind]uint64
	dirty  map[manifests.Key]bool // not yet written; nil: nothing is written
	woken  chan struct{}          // holds one: something is dirty
}

// Kind is what events are counted by.
type Kind struct{ Type, Reason string }

// NewRecorder makes a recorder for what happens on node.
func NewRecorder(v *view.View, node string, now func() time.Time, log *slog.Logger) *Recorder {
	return &Recorder{view: v, node: node, now: now, log: log, events: make(map[manifests.Key]*v1.Event), counts: make(map[Kind]uint64)}
}

// Normal records something that went as it should. The reason is one
// CamelCase word (docs/events.md lists them).
func (r *Recorder) Normal(about v1.ObjectReference, reason, format string, args ...any) {
	r.record(about, v1.EventTypeNormal, reason, fmt.Sprintf(format, args...))
}

// Warning records something that somebody should look at.
func (r *Recorder) Warning(about v1.ObjectReference, reason, format string, args ...any) {
	r.record(about, v1.EventTypeWarning, reason, fmt.Sprintf(format, args...))
}

func (r *Recorder) record(about v1.ObjectReference, kind, reason, message string) {
	if len(message) > messageLimit {
		message = strings.ToValidUTF8(message[:messageLimit-3], "") + "..."
	}
	level := slog.LevelInfo
	if kind == v1.EventTypeWarning {
		level = slog.LevelWarn
	}
	r.log.Log(context.Background(), level, message, "reason", reason, "kind", about.Kind, "namespace", about.Namespace, "name", about.Name)

	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[Kind{kind, reason}]++
	now := metav1.NewTime(r.now())
	key := r.key(about, kind, reason, message)
	e := &v1.Event{
		TypeMeta:       metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		InvolvedObject: about, Type: kind, Reason: reason, Message: message,
		Source:              v1.EventSource{Component: "shoald", Host: r.node},
		ReportingController: "shoald", ReportingInstance: r.node,
		FirstTimestamp: now,
	}
	e.Namespace, e.Name = key.Namespace, key.Name
	e.CreationTimestamp = now
	if old, ok := r.events[key]; ok {
		e = old.DeepCopy()
	}
	e.Count++
	e.LastTimestamp = now
	r.events[key] = e
	r.touch(key)
	changes := []view.Change{{Key: key, Object: e}}
	if len(r.events) > most {
		changes = append(changes, r.drop(r.oldest()))
	}
	r.view.Apply(changes...)
}

// touch has an event written soon, if events are kept at all.
func (r *Recorder) touch(key manifests.Key) {
	if r.dirty == nil {
		return
	}
	r.dirty[key] = true
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// Counts is how often each kind of event happened since the recorder was made.
func (r *Recorder) Counts() map[Kind]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}

// key names an event after what it says, so that its repetition finds it, and
// after its node: others may say the same of the same object.
func (r *Recorder) key(about v1.ObjectReference, kind, reason, message string) manifests.Key {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%s/%s/%s/%s/%s/%s", r.node, about.Kind, about.Name, about.UID, about.FieldPath, kind, reason, message))
	ns := about.Namespace
	if ns == "" {
		ns = metav1.NamespaceDefault
	}
	return manifests.Key{Kind: "Event", Namespace: ns, Name: about.Name + "." + hex.EncodeToString(sum[:8])}
}

func (r *Recorder) oldest() manifests.Key {
	var key manifests.Key
	var at time.Time
	for k, e := range r.events {
		if at.IsZero() || e.LastTimestamp.Time.Before(at) {
			key, at = k, e.LastTimestamp.Time
		}
	}
	return key
}

func (r *Recorder) drop(key manifests.Key) view.Change {
	delete(r.events, key)
	return view.Change{Key: key}
}

// Expire drops what is older than an hour. Call it now and then.
func (r *Recorder) Expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	var changes []view.Change
	for key, e := range r.events {
		if r.now().Sub(e.LastTimestamp.Time) > ttl {
			changes = append(changes, r.drop(key))
		}
	}
	r.view.Apply(changes...)
}
