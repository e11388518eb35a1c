package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// A watch without timeoutSeconds ends after this; clients watch again.
const watchTime = 45 * time.Minute

// bookmarkEvery is how often an idle watcher learns the current version.
const bookmarkEvery = time.Minute

// writeTime is how long a client may take to read a batch before it is cut.
const writeTime = time.Minute

func isWatch(r *http.Request, q url.Values) bool {
	return r.Method == http.MethodGet && boolParameter(q, "watch")
}

// watcher is one client's watch.
type watcher struct {
	form
	w         http.ResponseWriter
	namespace string
	match     selector
	columns   []metav1.TableColumnDefinition // sent with the first table only
}

// watchOptions is how a watch begins and how long it lasts.
type watchOptions struct {
	version   uint64
	replay    bool // begin with the objects that there are
	mark      bool // say when these are done
	bookmarks bool
	timeout   time.Duration
}

func watchOptionsOf(q url.Values, v *view.View) (watchOptions, error) {
	o := watchOptions{bookmarks: boolParameter(q, "allowWatchBookmarks"), timeout: watchTime}
	seconds, err := intParameter(q, "timeoutSeconds")
	if err != nil {
		return o, err
	}
	if seconds > 0 {
		o.timeout = min(time.Duration(min(seconds, 86400))*time.Second, watchTime)
	}
	match := metav1.ResourceVersionMatch(q.Get("resourceVersionMatch"))
	rv := q.Get("resourceVersion")
	if q.Has("sendInitialEvents") {
		if match != metav1.ResourceVersionMatchNotOlderThan {
			return o, apierrors.NewBadRequest("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
		}
		o.replay = boolParameter(q, "sendInitialEvents")
		o.mark = o.replay && o.bookmarks
		if !o.replay && (rv == "" || rv == "0") {
			o.version = v.Version()
			return o, nil
		}
	} else if match != "" {
		return o, apierrors.NewBadRequest("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
	}
	if rv == "" || rv == "0" {
		o.replay = true
		return o, nil
	}
	if o.version, err = strconv.ParseUint(rv, 10, 64); err != nil {
		return o, badParameter("resourceVersion", err)
	}
	if o.replay {
		return o, checkVersion(url.Values{"resourceVersion": {rv}}, v.Version())
	}
	return o, nil
}

func (s *Server) watch(w http.ResponseWriter, r *http.Request, t target, q url.Values, f form, match selector, v *view.View) error {
	o, err := watchOptionsOf(q, v)
	if err != nil {
		return err
	}
	if t.name != "" {
		return errNoSuchPath
	}
	ctx, done := context.WithTimeout(r.Context(), o.timeout)
	defer done()
	c := &watcher{form: f, w: w, namespace: t.namespace, match: match, columns: columnsOf(f.groupKind())}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	version := o.version
	if o.replay {
		if version, err = c.replay(v, o.mark); err != nil {
			return nil // the client hung up
		}
	}
	c.flush()
	c.follow(ctx, v, s.Now, version, o.bookmarks)
	return nil
}

// replay sends the objects that there are, and says where that leaves the
// watcher.
func (c *watcher) replay(v *view.View, mark bool) (uint64, error) {
	all, version := v.List(c.groupKind(), c.namespace)
	for _, o := range all {
		if !c.match(o) {
			continue
		}
		if err := c.send(watch.Added, o); err != nil {
			return 0, err
		}
	}
	if !mark {
		return version, nil
	}
	return version, c.bookmark(version, map[string]string{metav1.InitialEventsAnnotationKey: "true"})
}

// follow sends changes until the client leaves, its time is over, or it fell
// too far behind.
func (c *watcher) follow(ctx context.Context, v *view.View, now func() time.Time, version uint64, bookmarks bool) {
	for {
		idle, done := context.WithTimeout(ctx, bookmarkEvery)
		events, err := v.Wait(idle, version)
		done()
		http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(writeTime))
		if errors.Is(err, view.ErrExpired) {
			status := expired(version, v.Version()).Status()
			status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
			c.write(watch.Error, &status)
			c.flush()
			return
		}
		c.now = now()
		for _, e := range events {
			if err := c.event(e); err != nil {
				return
			}
			version = e.Version
		}
		if err != nil && bookmarks && c.bookmark(version, nil) != nil {
			return
		}
		if c.flush() != nil || ctx.Err() != nil {
			return
		}
	}
}

// event sends a change as this watcher sees it: an object that begins to match
// is added, one that no longer does is deleted.
func (c *watcher) event(e view.Event) error {
	if e.Key.GroupKind() != c.groupKind() || c.namespace != "" && e.Key.Namespace != c.namespace {
		return nil
	}
	is := e.Type != watch.Deleted && c.match(e.Object)
	was := e.Old != nil && c.match(e.Old)
	switch {
	case is && was:
		return c.send(watch.Modified, e.Object)
	case is:
		return c.send(watch.Added, e.Object)
	case was && e.Type == watch.Deleted:
		return c.send(watch.Deleted, e.Object)
	case was:
		old, err := as(e.Old, c.gvk())
		if err != nil {
			return err
		}
		old.SetResourceVersion(strconv.FormatUint(e.Version, 10))
		return c.send(watch.Deleted, old)
	}
	return nil
}

func (c *watcher) send(kind watch.EventType, o view.Object) error {
	out, err := c.one(o)
	if err != nil {
		return err
	}
	if t, ok := out.(*metav1.Table); ok {
		t.ColumnDefinitions, c.columns = c.columns, nil
	}
	return c.write(kind, out)
}

// bookmark tells the watcher a version from which it may watch again.
func (c *watcher) bookmark(version uint64, annotations map[string]string) error {
	blank, err := manifests.Scheme.New(c.gvk())
	if err != nil {
		return err
	}
	o := blank.(view.Object)
	o.SetResourceVersion(strconv.FormatUint(version, 10))
	o.SetAnnotations(annotations)
	if c.as == "Table" {
		t := c.table(nil)
		t.ResourceVersion = o.GetResourceVersion()
		t.Rows = append(t.Rows, metav1.TableRow{Cells: []any{}, Object: runtime.RawExtension{Object: c.metadata(o)}})
		return c.write(watch.Bookmark, t)
	}
	out, err := c.one(o)
	if err != nil {
		return err
	}
	return c.write(watch.Bookmark, out)
}

func (c *watcher) write(kind watch.EventType, o runtime.Object) error {
	return json.NewEncoder(c.w).Encode(struct {
		Type   watch.EventType `json:"type"`
		Object runtime.Object  `json:"object"`
	}{kind, o})
}

func (c *watcher) flush() error { return http.NewResponseController(c.w).Flush() }
