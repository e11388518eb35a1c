package api

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubelet "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	metrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/shoal-project/shoal/daemon/api/openapi"
	"github.com/shoal-project/shoal/daemon/view"
)

// Usage is what pods and this node use now, for metrics.k8s.io and the
// kubelet's Summary API. What can't be measured is left out of the answers.
type Usage interface {
	Nodes(ctx context.Context) ([]*metrics.NodeMetrics, error)
	Pods(ctx context.Context) ([]*metrics.PodMetrics, error)
	Summary(ctx context.Context) (*kubelet.Summary, error)
}

// usageKinds are served from Usage, not from the view.
var usageKinds = map[schema.GroupVersionKind]openapi.Resource{
	metrics.SchemeGroupVersion.WithKind("NodeMetrics"): {Resource: "nodes"},
	metrics.SchemeGroupVersion.WithKind("PodMetrics"):  {Resource: "pods", Namespaced: true},
}

// addUsage puts the kinds of metrics.k8s.io behind all others: a name without a
// group means those first.
func (k *kinds) addUsage() {
	for _, gvk := range slices.SortedFunc(maps.Keys(usageKinds), func(a, b schema.GroupVersionKind) int { return strings.Compare(a.Kind, b.Kind) }) {
		one := usageKinds[gvk]
		one.Group, one.Version, one.Kind = gvk.Group, gvk.Version, gvk.Kind
		r := &resource{Resource: one, only: []string{"get", "list"}}
		k.all = append(k.all, r)
		k.byPath[r.gv().WithResource(one.Resource)] = r
	}
}

// measuring is how long an answer may take: rates need two looks.
const measuring = 10 * time.Second

// usage answers everything below /apis/metrics.k8s.io/v1beta1.
func (s *Server) usage(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	if r.Method != http.MethodGet || isWatch(r, q) {
		return methodNotAllowed(t.gr(), strings.ToLower(r.Method))
	}
	if t.sub != "" {
		return errNoSuchPath
	}
	f, err := s.formOf(r, t.resource, q)
	if err != nil {
		return err
	}
	match, err := selectorOf(t.resource, q)
	if err != nil {
		return err
	}
	if node := s.measuredBy(t); node != "" {
		return s.handOver(w, r, node)
	}
	ctx, cancel := context.WithTimeout(r.Context(), measuring)
	defer cancel()
	all, missing, err := s.measuredAnywhere(ctx, t)
	if err != nil {
		return err
	}
	warn(w, silent(missing, "what it uses is missing here"))
	items := []view.Object{}
	for _, o := range all {
		if match(o) && (t.name == "" || t.name == o.GetName()) && (t.namespace == "" || t.namespace == o.GetNamespace()) {
			items = append(items, o)
		}
	}
	if t.name == "" {
		w.Header().Set("Content-Type", "application/json")
		return f.list(w, metav1.ListMeta{}, items)
	}
	if len(items) == 0 {
		return apierrors.NewNotFound(t.gr(), t.name)
	}
	return s.reply(w, f, http.StatusOK, items[0])
}

func (s *Server) measured(ctx context.Context, t target) ([]view.Object, error) {
	if t.Kind == "NodeMetrics" {
		list, err := s.Usage.Nodes(ctx)
		return objectsOf(list, t.gvk()), err
	}
	list, err := s.Usage.Pods(ctx)
	return objectsOf(list, t.gvk()), err
}

func objectsOf[T view.Object](list []T, gvk schema.GroupVersionKind) []view.Object {
	var objects []view.Object
	for _, o := range list {
		o.GetObjectKind().SetGroupVersionKind(gvk)
		objects = append(objects, o)
	}
	return objects
}

// usageRoutes are the kubelet's own paths.
func (s *Server) usageRoutes() {
	if s.Usage != nil {
		s.mux.HandleFunc("GET /stats/summary", answer(s, s.Usage.Summary))
	}
	if s.Metrics != nil {
		s.mux.Handle("/metrics", s.Metrics)
		s.mux.Handle("/metrics/", s.Metrics)
	}
	s.proxyRoutes(s.mux)
}

// proxyRoutes are a kubelet's paths as its clients reach them through the
// apiserver.
func (s *Server) proxyRoutes(mux *http.ServeMux) {
	if s.Usage != nil {
		mux.HandleFunc("GET /api/v1/nodes/{node}/proxy/stats/summary", s.onItsNode(answer(s, s.Usage.Summary)))
	}
	if s.Metrics == nil {
		return
	}
	through := func(w http.ResponseWriter, r *http.Request) {
		r = r.Clone(r.Context())
		r.URL.Path = strings.TrimSuffix("/metrics/"+r.PathValue("page"), "/")
		s.Metrics.ServeHTTP(w, r)
	}
	mux.HandleFunc("GET /api/v1/nodes/{node}/proxy/metrics", s.onItsNode(through))
	mux.HandleFunc("GET /api/v1/nodes/{node}/proxy/metrics/{page}", s.onItsNode(through))
}

// onItsNode has the node answer that a path names; a kubelet may be named with
// its port.
func (s *Server) onItsNode(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name, _, _ := strings.Cut(r.PathValue("node"), ":")
		var err error
		switch {
		case name == s.Node:
			next(w, r)
			return
		case s.isNode(name):
			err = s.handOver(w, r, name)
		default:
			err = apierrors.NewNotFound(schema.GroupResource{Resource: "nodes"}, name)
		}
		if err != nil {
			s.fail(w, r, err)
		}
	}
}

// Request is a kind of request: "GET", 200.
type Request struct {
	Method string
	Code   int
}

// tally counts requests. Its zero value is ready.
type tally struct {
	mu     sync.Mutex
	counts map[Request]uint64
}

// methods are counted by name; what else clients make up is one.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

func (t *tally) add(method string, code int) {
	if !slices.Contains(methods, method) {
		method = "other"
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = make(map[Request]uint64)
	}
	t.counts[Request{method, code}]++
}

// Requests counts those answered since the server was made.
func (s *Server) Requests() map[Request]uint64 {
	s.tally.mu.Lock()
	defer s.tally.mu.Unlock()
	return maps.Clone(s.tally.counts)
}
