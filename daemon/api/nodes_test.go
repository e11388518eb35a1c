package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mapped "maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	kubelet "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	metrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// street is nodes that reach each other over loopback.
type street struct {
	mu    sync.Mutex
	hosts map[string]*httptest.Server
	mute  map[string]bool // nodes that take a request and say nothing
}

// from is a node's way to the others.
func (s *street) from(node string) api.Nodes { return corner{s, node} }

type corner struct {
	*street
	node string
}

var errDown = errors.New("dial tcp: connect: no route to host")

func (c corner) RoundTrip(node string, r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	host, mute := c.hosts[node], c.mute[node]
	c.mu.Unlock()
	switch {
	case mute:
		<-r.Context().Done()
		return nil, r.Context().Err()
	case host == nil:
		return nil, errDown
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.RequestURI = "http", host.Listener.Addr().String(), ""
	r.Header.Set("Test-From", c.node)
	return http.DefaultTransport.RoundTrip(r)
}

func (c corner) Others() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(mapped.Keys(c.hosts)), func(n string) bool { return n == c.node })
}

// opens has others reach a node. Connections to what had its name before break.
func (s *street) opens(t *testing.T, node string, a *api.Server) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.ServeNode(r.Header.Get("Test-From"), w, r) }))
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hosts == nil {
		s.hosts, s.mute = make(map[string]*httptest.Server), make(map[string]bool)
	}
	old := s.hosts[node]
	s.hosts[node] = srv
	if old != nil {
		old.CloseClientConnections()
	}
}

// neighbour is a node without pods.
func (s *street) neighbour(t *testing.T, node string, change func(*api.Config)) *api.Server {
	t.Helper()
	c := api.Config{View: view.New(now), Nodes: s.from(node), Node: node, Version: "test", Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	a := api.New(c)
	s.opens(t, node, a)
	return a
}

// far is a pod on another node than the one whose API the configuration leads to.
func far(t *testing.T) (*client, *rest.Config) {
	t.Helper()
	c := newClient(t)
	c.View.Apply(view.Change{Key: webKey, Object: webPod(running)})
	var s street
	s.opens(t, "n1", c.API)
	near := s.neighbour(t, "n0", nil)
	near.View.Apply(view.Change{Key: webKey, Object: webPod(running)})
	srv := httptest.NewServer(near)
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	return c, &rest.Config{Host: srv.URL}
}

func answered(t *testing.T, method, url string) (int, string, http.Header) {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), 30*time.Second)
	defer done()
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestLogsOfAPodOnAnotherNodeAreFollowed(t *testing.T) {
	c, config := far(t)
	pod := webPod(running)
	if err := c.Pods.Log(pod, "main", 0, "2026-11-21T10:00:00Z stdout F one\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(podURL(t, config, "log", "follow=true").String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for _, want := range []string{"one\n", "two\n"} {
		if got, err := lines.ReadString('\n'); got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		if err := c.Pods.Log(pod, "main", 0, "2026-11-21T10:00:01Z stdout F two\n"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestARequestIsHandedOverOnce: nodes that see the cluster differently send no
// request in circles.
func TestARequestIsHandedOverOnce(t *testing.T) {
	var s street
	place := func(node string) *v1.Pod {
		p := webPod(running)
		p.Spec.NodeName = node
		return p
	}
	n1, n2 := s.neighbour(t, "n1", nil), s.neighbour(t, "n2", nil)
	n1.View.Apply(view.Change{Key: webKey, Object: place("n2")})
	n2.View.Apply(view.Change{Key: webKey, Object: place("n1")})
	srv := httptest.NewServer(n1)
	defer srv.Close()
	pod := srv.URL + "/api/v1/namespaces/default/pods/web/"
	for _, sub := range []string{"log", "exec?command=x&stdout=1", "attach?stdout=1", "portforward"} {
		code, body, _ := answered(t, "GET", pod+sub)
		if code != 503 || !strings.Contains(body, "node n2 was asked by node n1, but node n1 has what is asked for as node n2 sees the cluster: try again") {
			t.Errorf("%s: %d %s", sub, code, body)
		}
	}
	n1.View.Apply(view.Change{Key: webKey, Object: place("n9")})
	code, body, _ := answered(t, "GET", pod+"log")
	if want := "node n9 can't be reached: dial tcp: connect: no route to host. What runs there may run all the same"; code != 503 || !strings.Contains(body, want) {
		t.Errorf("a node that is down: %d %s", code, body)
	}
}

// TestNodesAskForLittle: nothing but what only their node has is handed over.
func TestNodesAskForLittle(t *testing.T) {
	c, _ := tcp(t)
	for path, want := range map[string]int{
		"/api/v1/namespaces/default/pods/web":          404,
		"/api/v1/secrets":                              404,
		"/api/v1/namespaces/default/pods/web/eviction": 404,
		"/shoal/v1/images":                             404,
		"/metrics":                                     404,
		"/api/v1/events":                               200,
		"/api/v1/namespaces/default/pods/web/log?container=nope": 400,
	} {
		w := httptest.NewRecorder()
		c.API.ServeNode("n2", w, httptest.NewRequest("GET", path, nil))
		if w.Code != want {
			t.Errorf("GET %s: %d, want %d: %s", path, w.Code, want, w.Body)
		}
	}
	for _, method := range []string{"POST", "DELETE", "PATCH", "PUT"} {
		w := httptest.NewRecorder()
		c.API.ServeNode("n2", w, httptest.NewRequest(method, "/api/v1/namespaces/default/events", strings.NewReader("{}")))
		if w.Code != 404 {
			t.Errorf("%s events: %d", method, w.Code)
		}
	}
}

// happened is an event of a node.
func happened(node, name string, count int32) view.Change {
	return view.Change{Key: manifests.Key{Kind: "Event", Namespace: "default", Name: name}, Object: &v1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Reason: node, Count: count,
		InvolvedObject: v1.ObjectReference{Kind: "Pod", Name: "web"}, LastTimestamp: metav1.NewTime(now.Add(time.Duration(count) * time.Second)),
	}}
}

// listed is the names in a list of events, and its version.
func listed(t *testing.T, url string) (names []string, version string, warnings []string) {
	t.Helper()
	code, body, header := answered(t, "GET", url)
	var l v1.EventList
	if err := json.Unmarshal([]byte(body), &l); err != nil || code != 200 {
		t.Fatalf("%s: %d %s %v", url, code, body, err)
	}
	for _, e := range l.Items {
		names = append(names, fmt.Sprintf("%s of %s x%d", e.Name, e.Reason, e.Count))
	}
	return names, l.ResourceVersion, header["Warning"]
}

func TestEventsAreThoseOfAllNodes(t *testing.T) {
	var s street
	n1, n2, n3 := s.neighbour(t, "n1", nil), s.neighbour(t, "n2", nil), s.neighbour(t, "n3", nil)
	n1.View.Apply(happened("n1", "a", 1))
	n2.View.Apply(happened("n2", "b", 1))
	n3.View.Apply(happened("n3", "c", 1))
	srv := httptest.NewServer(n1)
	defer srv.Close()
	defer srv.CloseClientConnections()
	events := srv.URL + "/api/v1/namespaces/default/events"

	names, version, warnings := listed(t, events)
	if got, want := fmt.Sprint(names, warnings), "[a of n1 x1 b of n2 x1 c of n3 x1] []"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if code, body, _ := answered(t, "GET", events+"/c"); code != 200 || !strings.Contains(body, `"reason":"n3"`) {
		t.Errorf("one of another node: %d %s", code, body)
	}

	// What happens between a list and the watch after it is not missed, wherever.
	n2.View.Apply(happened("n2", "b", 2))
	n1.View.Apply(happened("n1", "d", 1))
	n3.View.Apply(view.Change{Key: manifests.Key{Kind: "Event", Namespace: "default", Name: "c"}})
	resp, err := http.Get(events + "?watch=1&resourceVersion=" + version)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	got := make(map[string]bool)
	for range 3 {
		var e struct {
			Type   string
			Object v1.Event
		}
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		got[fmt.Sprintf("%s %s x%d", e.Type, e.Object.Name, e.Object.Count)] = true
	}
	if want := map[string]bool{"MODIFIED b x2": true, "ADDED d x1": true, "DELETED c x1": true}; !mapped.Equal(got, want) {
		t.Errorf("watched %v, want %v", got, want)
	}
}

// TestANodeThatJoinsIsWatchedToo, by those who watch already.
func TestANodeThatJoinsIsWatchedToo(t *testing.T) {
	var s street
	n1 := s.neighbour(t, "n1", nil)
	s.neighbour(t, "n2", nil)
	srv := httptest.NewServer(n1)
	defer srv.Close()
	defer srv.CloseClientConnections()
	resp, err := http.Get(srv.URL + "/api/v1/events?watch=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s.neighbour(t, "n3", nil).View.Apply(happened("n3", "c", 1))
	var e struct{ Object v1.Event }
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Object.Name != "c" {
		t.Errorf("watched %s, %v", e.Object.Name, err)
	}
}

// TestANodeThatIsSilentIsNamed, and what it had said stays; once it is back, what
// it has is there, and nothing else.
func TestANodeThatIsSilentIsNamed(t *testing.T) {
	var s street
	n1, n2 := s.neighbour(t, "n1", nil), s.neighbour(t, "n2", nil)
	s.opens(t, "n3", n1) // an address of a node that is hung
	s.mute["n3"] = true
	n2.View.Apply(happened("n2", "b", 1), happened("n2", "c", 1))
	n1.View.Apply(view.Change{Key: manifests.Key{Kind: "Node", Name: "n4"}, Object: &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n4"}}}) // lost
	srv := httptest.NewServer(n1)
	defer srv.Close()
	defer srv.CloseClientConnections()
	events := srv.URL + "/api/v1/events"
	names, _, warnings := listed(t, events)
	if got := fmt.Sprint(names, warnings); got != `[b of n2 x1 c of n2 x1] [299 - "no answer in time from node n3, n4: its events are missing here"]` {
		t.Errorf("got %s", got)
	}

	// n2 breaks off, and comes back with other events.
	again := api.New(api.Config{View: view.New(now), Node: "n2", Nodes: s.from("n2"), Version: "test", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	again.View.Apply(happened("n2", "c", 5), happened("n2", "z", 1))
	s.opens(t, "n2", again)
	eventually(t, func() error {
		if names, _, _ := listed(t, events); fmt.Sprint(names) != "[c of n2 x5 z of n2 x1]" {
			return fmt.Errorf("after it came back: %v", names)
		}
		return nil
	})
}

// usedBy is a node that uses something, and tells of whom it is told to.
type usedBy struct {
	used
	node, pod string
}

func (u usedBy) Nodes(context.Context) ([]*metrics.NodeMetrics, error) {
	return []*metrics.NodeMetrics{{ObjectMeta: metav1.ObjectMeta{Name: u.node}, Usage: list("1", "1Gi")}}, nil
}

func (u usedBy) Pods(context.Context) ([]*metrics.PodMetrics, error) {
	return []*metrics.PodMetrics{{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: u.pod}, Containers: []metrics.ContainerMetrics{{Name: "a", Usage: list("1", "1Gi")}}}}, nil
}

func (u usedBy) Summary(context.Context) (*kubelet.Summary, error) {
	return &kubelet.Summary{Node: kubelet.NodeStats{NodeName: u.node}}, nil
}

func TestUsageIsThatOfAllNodes(t *testing.T) {
	var s street
	uses := func(node, pod string) func(*api.Config) {
		return func(c *api.Config) {
			c.Usage = usedBy{node: node, pod: pod}
			c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, node, r.URL.Path) })
		}
	}
	n1 := s.neighbour(t, "n1", uses("n1", "x"))
	s.neighbour(t, "n2", uses("n2", "web"))
	s.neighbour(t, "n3", uses("n2", "y")) // it speaks for another
	web := webPod(running)
	web.Spec.NodeName = "n2"
	n1.View.Apply(view.Change{Key: webKey, Object: web})
	srv := httptest.NewServer(n1)
	defer srv.Close()
	const metricsPath = "/apis/metrics.k8s.io/v1beta1/"
	for _, tt := range []struct {
		path string
		code int
		want []string
	}{
		{metricsPath + "nodes", 200, []string{`"name":"n1"`, `"name":"n2"`, "Warning: no answer in time from node n3"}},
		{metricsPath + "nodes/n2", 200, []string{`"name":"n2"`}},
		{metricsPath + "nodes/n4", 404, []string{`nodes.metrics.k8s.io \"n4\" not found`}},
		{metricsPath + "pods", 200, []string{`"name":"web"`, `"name":"x"`, `"name":"y"`}},
		{metricsPath + "namespaces/default/pods/web", 200, []string{`"name":"web"`}},
		{metricsPath + "namespaces/none/pods", 200, []string{`"items":[]`}},
		{"/api/v1/nodes/n2/proxy/stats/summary", 200, []string{`"nodeName":"n2"`}},
		{"/api/v1/nodes/n2:10250/proxy/metrics/cadvisor", 200, []string{`n2/metrics/cadvisor`}},
		{"/api/v1/nodes/n1/proxy/metrics", 200, []string{`n1/metrics`}},
		{"/api/v1/nodes/n4/proxy/metrics", 404, []string{`nodes \"n4\" not found`}},
	} {
		code, body, header := answered(t, "GET", srv.URL+tt.path)
		if w := header.Get("Warning"); w != "" {
			body += "Warning: " + strings.TrimPrefix(w, `299 - "`)
		}
		for _, want := range tt.want {
			if code != tt.code || !strings.Contains(body, want) {
				t.Errorf("%s: %d %s, want %d with %s", tt.path, code, body, tt.code, want)
			}
		}
	}
	s.mute["n2"] = true
	_, _, header := answered(t, "GET", srv.URL+metricsPath+"nodes")
	if got := header.Get("Warning"); !strings.Contains(got, "from node n2, n3: what it uses is missing here") {
		t.Errorf("warning %q", got)
	}
}
