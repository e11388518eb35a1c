package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/manifests"
)

// Nodes is the way to the API of the cluster's other nodes.
type Nodes interface {
	// RoundTrip sends a request to a node, where ServeNode answers it. Of its URL
	// the path and query count.
	RoundTrip(node string, r *http.Request) (*http.Response, error)
	// Others are the nodes besides this one that seem to be alive.
	Others() []string
}

type callerKey struct{}

// callingNode is the node that handed a request over, "" where a client of this
// node made it.
func callingNode(ctx context.Context) string {
	node, _ := ctx.Value(callerKey{}).(string)
	return node
}

// ServeNode answers what another node hands over: what only this node has, its
// pods' logs and streams, their and its own usage, its events. It never hands a
// request on: whoever asks the wrong node is told so.
func (s *Server) ServeNode(node string, w http.ResponseWriter, r *http.Request) {
	start := s.Now()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // as in ServeHTTP
	t := &tracked{ResponseWriter: w}
	r = r.WithContext(context.WithValue(r.Context(), callerKey{}, node))
	s.nodes.ServeHTTP(t, r)
	s.access(r, t.code, s.Now().Sub(start))
}

// nodeRoutes are what ServeNode answers.
func (s *Server) nodeRoutes() {
	s.nodes.HandleFunc("/api/{version}/{rest...}", s.ownObjects)
	s.nodes.HandleFunc("/apis/{group}/{version}/{rest...}", s.ownObjects)
	s.proxyRoutes(s.nodes)
	s.nodes.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, errNoSuchPath) })
}

// ownObjects answers for objects, as far as only their node can.
func (s *Server) ownObjects(w http.ResponseWriter, r *http.Request) {
	gv := schema.GroupVersion{Group: r.PathValue("group"), Version: r.PathValue("version")}
	t, ok := s.kinds.target(gv, r.PathValue("rest"))
	own := ok && (upgrades[t.sub] || r.Method == http.MethodGet && (t.sub == "log" || t.only != nil || t.groupKind() == eventKind))
	if !own {
		s.fail(w, r, errNoSuchPath)
		return
	}
	s.objects(w, r)
}

// elsewhere is the node that has the pod of a request, "" if it is this one or
// none.
func (s *Server) elsewhere(t target) string {
	o, ok := s.View.Get(manifests.Key{Kind: "Pod", Namespace: t.namespace, Name: t.name})
	if p, is := o.(*v1.Pod); ok && is && p.Spec.NodeName != s.Node {
		return p.Spec.NodeName
	}
	return ""
}

// handOver has another node answer a request.
func (s *Server) handOver(w http.ResponseWriter, r *http.Request, node string) error {
	what := fmt.Sprintf("node %s has what is asked for", node)
	if from := callingNode(r.Context()); from != "" {
		return unavailable(fmt.Sprintf("node %s was asked by node %s, but %s as node %s sees the cluster: try again", s.Node, from, what, s.Node))
	}
	if s.Nodes == nil {
		return unavailable(what + ", and this one is in no cluster")
	}
	var failed error
	proxy := httputil.ReverseProxy{
		Rewrite:       func(p *httputil.ProxyRequest) { p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "https", node, node },
		Transport:     to{s.Nodes, node},
		FlushInterval: -1,
		ErrorHandler:  func(_ http.ResponseWriter, _ *http.Request, err error) { failed = unreachable(node, err) },
		ErrorLog:      log.New(io.Discard, "", 0),
	}
	proxy.ServeHTTP(impatient{w}, r)
	if failed != nil {
		s.Log.Warn("can't hand a request over", "node", node, "path", r.URL.Path, "err", failed)
	}
	return failed
}

// to is the way to one node.
type to struct {
	Nodes
	node string
}

func (t to) RoundTrip(r *http.Request) (*http.Response, error) { return t.Nodes.RoundTrip(t.node, r) }

// impatient gives a client up that reads nothing of an answer for a while.
type impatient struct{ http.ResponseWriter }

func (i impatient) Write(b []byte) (int, error) {
	http.NewResponseController(i.ResponseWriter).SetWriteDeadline(time.Now().Add(writeTime))
	return i.ResponseWriter.Write(b)
}

func (i impatient) Unwrap() http.ResponseWriter { return i.ResponseWriter }

// unreachable says that a node does not answer, and what there is to do.
func unreachable(node string, err error) error {
	return unavailable(fmt.Sprintf("node %s can't be reached: %v. What runs there may run all the same: see `shoal members`, and shoald's journal on that host", node, err))
}

func unavailable(message string) error { return apierrors.NewServiceUnavailable(message) }

// ask asks a node, and reads its answer's JSON with read.
func (s *Server) ask(ctx context.Context, node, path, query string, read func(io.Reader) error) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+node+path, nil)
	if err != nil {
		return err
	}
	r.URL.RawQuery = query
	r.Header.Set("Accept", "application/json")
	resp, err := s.Nodes.RoundTrip(node, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return read(resp.Body)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	return cmp.Or(statusIn(b), errors.New(resp.Status))
}

// statusIn is the error that a body holds in Kubernetes' form, nil if it is
// another.
func statusIn(body []byte) error {
	status := &metav1.Status{}
	if json.Unmarshal(body, status) != nil || status.Kind != "Status" || status.Status != metav1.StatusFailure {
		return nil
	}
	return &apierrors.StatusError{ErrStatus: *status}
}

// withLost adds to the nodes that did not answer those that nobody asked, since
// they are not in sight.
func (s *Server) withLost(missing, others []string) []string {
	list, _ := s.View.List(schema.GroupKind{Kind: "Node"}, "")
	for _, o := range list {
		if name := o.GetName(); name != s.Node && !slices.Contains(others, name) {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing
}

// silent is the warning that some nodes are missing in an answer, none if there
// are none.
func silent(nodes []string, what string) []string {
	if len(nodes) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("no answer in time from node %s: %s", strings.Join(nodes, ", "), what)}
}
