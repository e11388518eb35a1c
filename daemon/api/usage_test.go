package api_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubelet "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	metrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/view"
)

// used is a node of which everything is known.
type used struct{}

func list(cpu, memory string) v1.ResourceList {
	return v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse(memory)}
}

func (used) Nodes(context.Context) ([]*metrics.NodeMetrics, error) {
	return []*metrics.NodeMetrics{{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Usage: list("1500m", "2Gi")}}, nil
}

func (used) Pods(context.Context) ([]*metrics.PodMetrics, error) {
	pod := func(ns, name string) *metrics.PodMetrics {
		return &metrics.PodMetrics{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{"app": name}},
			Containers: []metrics.ContainerMetrics{{Name: "a", Usage: list("100m", "1Mi")}, {Name: "b", Usage: list("150m", "2Mi")}},
		}
	}
	return []*metrics.PodMetrics{pod("default", "db"), pod("default", "web"), pod("other", "web")}, nil
}

func (used) Summary(context.Context) (*kubelet.Summary, error) {
	return &kubelet.Summary{Node: kubelet.NodeStats{NodeName: "n1"}}, nil
}

func usageServer() *api.Server {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "page "+r.URL.Path) })
	return api.New(api.Config{
		View: view.New(time.Now()), Usage: used{}, Metrics: page, Node: "n1", Version: "test", Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
}

func ask(s *api.Server, method, path, accept string) (int, string) {
	r := httptest.NewRequest(method, path, nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestUsageIsSelectedByNameNamespaceAndLabel(t *testing.T) {
	s := usageServer()
	const base = "/apis/metrics.k8s.io/v1beta1/"
	for path, want := range map[string][]string{
		"pods":                                       {"default/db", "default/web", "other/web"},
		"namespaces/default/pods":                    {"default/db", "default/web"},
		"pods?labelSelector=app%3Dweb":               {"default/web", "other/web"},
		"pods?labelSelector=app%21%3Dweb":            {"default/db"},
		"pods?fieldSelector=metadata.name%3Ddb":      {"default/db"},
		"namespaces/none/pods":                       {},
		"nodes":                                      {"/n1"},
		"nodes?labelSelector=app%3Dweb":              {},
		"namespaces/other/pods?labelSelector=app=db": {},
	} {
		code, body := ask(s, http.MethodGet, base+path, "application/json")
		var l struct {
			Kind  string
			Items []metav1.PartialObjectMetadata
		}
		if err := json.Unmarshal([]byte(body), &l); err != nil || code != http.StatusOK || !strings.HasSuffix(l.Kind, "MetricsList") {
			t.Fatalf("%s: %d %s (%v)", path, code, body, err)
		}
		got := []string{}
		for _, o := range l.Items {
			got = append(got, o.Namespace+"/"+o.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
}

func TestUsageAnswers(t *testing.T) {
	s := usageServer()
	const base = "/apis/metrics.k8s.io/v1beta1/"
	const asTable = "application/json;as=Table;v=v1;g=meta.k8s.io"
	for _, test := range []struct {
		method, path, accept string
		code                 int
		want                 string
	}{
		{"GET", base + "namespaces/default/pods/web", "", 200, `"kind":"PodMetrics","apiVersion":"metrics.k8s.io/v1beta1"`},
		{"GET", base + "namespaces/default/pods/web", "", 200, `{"name":"b","usage":{"cpu":"150m","memory":"2Mi"}}`},
		{"GET", base + "namespaces/default/pods/web", asTable, 200, `"cells":["web","250m","3Mi","0s"]`},
		{"GET", base + "nodes", asTable, 200, `"cells":["n1","1500m","2Gi","0s"]`},
		{"GET", base + "nodes/n1", "", 200, `"usage":{"cpu":"1500m","memory":"2Gi"}`},
		{"GET", base + "nodes/n2", "", 404, `nodes.metrics.k8s.io \"n2\" not found`},
		{"GET", base + "namespaces/other/pods/db", "", 404, "NotFound"},
		{"GET", base + "pods?watch=true", "", 405, "MethodNotAllowed"},
		{"GET", base + "pods?labelSelector=%3D%3D", "", 400, "unable to parse labelSelector"},
		{"DELETE", base + "namespaces/default/pods/web", "", 405, "MethodNotAllowed"},
		{"POST", base + "namespaces/default/pods", "", 405, "MethodNotAllowed"},
		{"GET", base + "namespaces/default/pods/web/log", "", 404, "could not find the requested resource"},
		{"GET", "/apis/metrics.k8s.io/v1beta1", "", 200, `{"name":"pods","singularName":"","namespaced":true,"kind":"PodMetrics","verbs":["get","list"]}`},
		{"GET", "/apis/metrics.k8s.io", "", 200, `"preferredVersion":{"groupVersion":"metrics.k8s.io/v1beta1"`},
		{"GET", "/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", 200, `{"name":"metrics.k8s.io"}`},
		{"GET", "/stats/summary", "", 200, `"nodeName":"n1"`},
		{"GET", "/api/v1/nodes/n1/proxy/stats/summary", "", 200, `"nodeName":"n1"`},
		{"GET", "/api/v1/nodes/n1:10250/proxy/stats/summary", "", 200, `"nodeName":"n1"`},
		{"GET", "/api/v1/nodes/n2/proxy/stats/summary", "", 404, `nodes \"n2\" not found`},
		{"GET", "/metrics", "", 200, "page /metrics"},
		{"GET", "/metrics/cadvisor", "", 200, "page /metrics/cadvisor"},
		{"GET", "/api/v1/nodes/n1/proxy/metrics", "", 200, "page /metrics"},
		{"GET", "/api/v1/nodes/n1/proxy/metrics/resource", "", 200, "page /metrics/resource"},
	} {
		code, body := ask(s, test.method, test.path, test.accept)
		if code != test.code || !strings.Contains(body, test.want) {
			t.Errorf("%s %s: got %d %s\nwant %d with %s", test.method, test.path, code, body, test.code, test.want)
		}
	}
	if got := s.Requests()[api.Request{Method: "DELETE", Code: 405}]; got != 1 {
		t.Errorf("%d requests to delete were counted, want 1", got)
	}
}

func TestWithoutUsageThereIsNoSuchGroup(t *testing.T) {
	s := api.New(api.Config{View: view.New(time.Now()), Node: "n1", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	for _, path := range []string{"/apis/metrics.k8s.io", "/apis/metrics.k8s.io/v1beta1/pods", "/stats/summary", "/metrics"} {
		if code, body := ask(s, http.MethodGet, path, ""); code != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}
