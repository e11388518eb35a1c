package api

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// Each node keeps its own events. While somebody here reads events, this node
// follows those of all others and keeps them in a view besides its own: so a
// list, the watch after it and their resource versions fit each other, as they
// do for all other kinds. The versions of such a view are its own; whoever
// comes back after it ended is told that they have expired, and lists again.

var eventKind = schema.GroupKind{Kind: "Event"}

const (
	// gatherTime is how long a list waits for nodes that were not heard yet.
	gatherTime = time.Second
	// gatherIdle is how long events are followed after the last reader left: one
	// who lists comes back to watch.
	gatherIdle = 5 * time.Minute
	// mostGathered is how many events of other nodes are kept, shared by these;
	// beyond it a node's oldest go.
	mostGathered = 10_000
	// leastGathered is how many of each node are kept in any case.
	leastGathered = 100
	// mostEventLine bounds a line of another node's watch, in bytes. A message
	// has 1 kB at most.
	mostEventLine = 64 << 10
	// gatherRetry is how long a node that does not answer is left alone.
	gatherRetry = 2 * time.Second
)

// gatherer has a gathering while there are readers.
type gatherer struct {
	mu      sync.Mutex
	now     *gathering
	readers int
	idle    *time.Timer // ends now; nil while there are readers
}

// gathering is the events of all nodes.
type gathering struct {
	s      *Server
	ctx    context.Context
	cancel context.CancelFunc
	view   *view.View

	mu      sync.Mutex
	sources map[string]*source // by node
}

// source is one other node's events.
type source struct {
	node    string
	changed chan struct{} // closed when one of these does
	heard   bool          // all that it has is in the view
	fails   bool          // it did not answer when it was asked last

	keys map[manifests.Key]metav1.Time // when each last happened; follow's own
}

// events is the view in which a request finds events, and which nodes' are
// missing in it. Call release when the request is done.
func (s *Server) events(ctx context.Context) (v *view.View, missing []string, release func()) {
	if callingNode(ctx) != "" || s.Nodes == nil {
		return s.View, nil, func() {}
	}
	others := s.Nodes.Others()
	g := s.gather.join(s, len(others) > 0)
	if g == nil {
		return s.View, nil, func() {}
	}
	return g.view, s.withLost(g.await(ctx, others), others), s.gather.leave
}

// viewOf is the view in which a request finds a kind.
func (s *Server) viewOf(ctx context.Context, t target) (v *view.View, missing []string, release func()) {
	if t.groupKind() == eventKind {
		return s.events(ctx)
	}
	return s.View, nil, func() {}
}

// join is a gathering for one more reader: the one that goes on or, if one is to
// begin, a new one; else nil.
func (g *gatherer) join(s *Server, begin bool) *gathering {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.now == nil && !begin {
		return nil
	}
	g.readers++
	if g.idle != nil {
		g.idle.Stop()
		g.idle = nil
	}
	if g.now == nil {
		g.now = newGathering(s)
	}
	return g.now
}

func (g *gatherer) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.readers--; g.readers > 0 {
		return
	}
	g.idle = time.AfterFunc(gatherIdle, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.readers == 0 {
			g.end()
		}
	})
}

// close ends what goes on, whoever reads.
func (g *gatherer) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.end()
}

func (g *gatherer) end() {
	if g.now != nil {
		g.now.cancel()
		g.now = nil
	}
}

func newGathering(s *Server) *gathering {
	g := &gathering{s: s, view: view.New(s.Now()), sources: make(map[string]*source)}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	version := g.own()
	go g.followOwn(version)
	go g.followOthers()
	return g
}

// followOthers begins with nodes that join while somebody watches.
func (g *gathering) followOthers() {
	tick := time.NewTicker(gatherRetry)
	defer tick.Stop()
	for {
		for _, node := range g.s.Nodes.Others() {
			g.source(node)
		}
		select {
		case <-tick.C:
		case <-g.ctx.Done():
			return
		}
	}
}

// own takes this node's events over, and says up to which version of its view.
func (g *gathering) own() uint64 {
	list, version := g.s.View.List(eventKind, "")
	for _, o := range list {
		g.view.Apply(change(o))
	}
	return version
}

// change puts an event of another view, which stays as it is, into this one.
func change(o view.Object) view.Change {
	e := *o.(*v1.Event)
	return view.Change{Key: manifests.Key{Kind: eventKind.Kind, Namespace: e.Namespace, Name: e.Name}, Object: &e}
}

// followOwn keeps up with this node's events.
func (g *gathering) followOwn(version uint64) {
	for {
		events, err := g.s.View.Wait(g.ctx, version)
		switch {
		case g.ctx.Err() != nil:
			return
		case errors.Is(err, view.ErrExpired):
			version = g.own() // what was deleted meanwhile stays until this gathering ends
			continue
		}
		for _, e := range events {
			version = e.Version
			switch {
			case e.Key.GroupKind() != eventKind:
			case e.Type == watch.Deleted:
				g.view.Apply(view.Change{Key: e.Key})
			default:
				g.view.Apply(change(e.Object))
			}
		}
	}
}

// await waits a moment until all of these nodes were heard, and returns those
// that were not.
func (g *gathering) await(ctx context.Context, nodes []string) (missing []string) {
	ctx, cancel := context.WithTimeout(ctx, gatherTime)
	defer cancel()
	for _, node := range nodes {
		g.source(node)
	}
	for _, node := range nodes {
		if !g.heard(ctx, g.source(node)) {
			missing = append(missing, node)
		}
	}
	slices.Sort(missing)
	return missing
}

// source is a node's, which is followed from now on.
func (g *gathering) source(node string) *source {
	g.mu.Lock()
	defer g.mu.Unlock()
	src := g.sources[node]
	if src == nil {
		src = &source{node: node, changed: make(chan struct{}), keys: make(map[manifests.Key]metav1.Time)}
		g.sources[node] = src
		go g.follow(src)
	}
	return src
}

// heard waits until a node has told all that it has. It is false at once for
// one that did not answer the last time.
func (g *gathering) heard(ctx context.Context, src *source) bool {
	for {
		g.mu.Lock()
		heard, fails, changed := src.heard, src.fails, src.changed
		g.mu.Unlock()
		if heard || fails {
			return heard
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

func (g *gathering) set(src *source, heard, fails bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	src.heard, src.fails = heard, fails
	close(src.changed)
	src.changed = make(chan struct{})
}

// follow keeps up with another node's events. Those of one that is gone stay:
// they may say why.
func (g *gathering) follow(src *source) {
	for g.ctx.Err() == nil {
		err := g.watch(src)
		if g.ctx.Err() != nil {
			return
		}
		if !errors.Is(err, errEnded) {
			g.s.Log.Debug("can't follow the events of a node", "node", src.node, "err", err)
			g.set(src, false, true)
		}
		select {
		case <-time.After(gatherRetry):
		case <-g.ctx.Done():
		}
	}
}

// errEnded says that a watch came to its end: it is begun anew.
var errEnded = errors.New("the watch ended")

func (g *gathering) watch(src *source) error {
	seen := make(map[manifests.Key]bool)
	const query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
	return g.s.ask(g.ctx, src.node, "/api/v1/events", query, func(body io.Reader) error {
		lines := bufio.NewScanner(body)
		lines.Buffer(make([]byte, 0, 4<<10), mostEventLine)
		for lines.Scan() {
			replayed, err := g.line(src, seen, lines.Bytes())
			if err != nil {
				return err
			}
			if replayed {
				seen = nil
			}
		}
		return cmp.Or(lines.Err(), errEnded)
	})
}

// line takes one line of a watch. Seen gathers what was there when it began,
// until that is replayed.
func (g *gathering) line(src *source, seen map[manifests.Key]bool, line []byte) (replayed bool, err error) {
	var in struct {
		Type   watch.EventType `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return false, fmt.Errorf("node %s: watch of events: %w", src.node, err)
	}
	if in.Type == watch.Error {
		return false, fmt.Errorf("node %s: watch of events: %s", src.node, bytes.TrimSpace(in.Object))
	}
	e := &v1.Event{}
	if err := json.Unmarshal(in.Object, e); err != nil {
		return false, fmt.Errorf("node %s: watch of events: %w", src.node, err)
	}
	key := manifests.Key{Kind: eventKind.Kind, Namespace: e.Namespace, Name: e.Name}
	switch in.Type {
	case watch.Bookmark:
		if replayed = seen != nil && e.Annotations[metav1.InitialEventsAnnotationKey] == "true"; replayed {
			g.replayed(src, seen)
		}
	case watch.Deleted:
		g.drop(src, key)
	case watch.Added, watch.Modified:
		if seen != nil {
			seen[key] = true
		}
		g.put(src, key, e)
	}
	return replayed, nil
}

// replayed ends what a node had when a watch broke, and has no more.
func (g *gathering) replayed(src *source, seen map[manifests.Key]bool) {
	for key := range src.keys {
		if !seen[key] {
			g.drop(src, key)
		}
	}
	g.set(src, true, false)
}

func (g *gathering) put(src *source, key manifests.Key, e *v1.Event) {
	e.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: eventKind.Kind}
	if old, ok := g.view.Get(key); ok {
		if _, is := src.keys[key]; !is || equalEvents(old.(*v1.Event), e) {
			return // another node's, or as it was before the watch broke
		}
	}
	src.keys[key] = e.LastTimestamp
	g.view.Apply(view.Change{Key: key, Object: e})
	if most := g.allowance(); len(src.keys) > most+most/4 {
		oldest := slices.SortedFunc(maps.Keys(src.keys), func(a, b manifests.Key) int { return src.keys[a].Compare(src.keys[b].Time) })
		for _, key := range oldest[:len(oldest)-most] {
			g.drop(src, key)
		}
	}
}

// equalEvents says whether two states of one event are the same: it counts up
// whenever it happens again.
func equalEvents(a, b *v1.Event) bool {
	return a.UID == b.UID && a.Count == b.Count && a.LastTimestamp.Equal(&b.LastTimestamp) && a.Message == b.Message
}

// allowance is how many events of each node are kept.
func (g *gathering) allowance() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(mostGathered/len(g.sources), leastGathered)
}

func (g *gathering) drop(src *source, key manifests.Key) {
	if _, is := src.keys[key]; is {
		delete(src.keys, key)
		g.view.Apply(view.Change{Key: key})
	}
}
