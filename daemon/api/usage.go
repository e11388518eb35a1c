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
	ctx, cancel := context.WithTimeout(r.Context(), measuring)
	defer cancel()
	all, err := s.measured(ctx, t)
	if err != nil {
		return err
	}
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

// usageRoutes are the kubelet's own paths, and those by which its clients reach
// it through the apiserver.
func (s *Server) usageRoutes() {
	if s.Usage != nil {
		s.mux.HandleFunc("GET /stats/summary", answer(s, s.Usage.Summary))
		s.mux.HandleFunc("GET /api/v1/nodes/{node}/proxy/stats/summary", s.onThisNode(answer(s, s.Usage.Summary)))
	}
	if s.Metrics == nil {
		return
	}
	s.mux.Handle("/metrics", s.Metrics)
	s.mux.Handle("/metrics/", s.Metrics)
	through := func(w http.ResponseWriter, r *http.Request) {
		r = r.Clone(r.Context())
		r.URL.Path = strings.TrimSuffix("/metrics/"+r.PathValue("page"), "/")
		s.Metrics.ServeHTTP(w, r)
	}
	s.mux.HandleFunc("GET /api/v1/nodes/{node}/proxy/metrics", s.onThisNode(through))
	s.mux.HandleFunc("GET /api/v1/nodes/{node}/proxy/metrics/{page}", s.onThisNode(through))
}

// onThisNode answers for this node alone; a kubelet may be named with its port.
func (s *Server) onThisNode(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name, _, _ := strings.Cut(r.PathValue("node"), ":")
		if name != s.Node {
			s.fail(w, r, apierrors.NewNotFound(schema.GroupResource{Resource: "nodes"}, name))
			return
		}
		next(w, r)
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
