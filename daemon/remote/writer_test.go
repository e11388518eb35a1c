package remote_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/api/apitest"
	"github.com/shoal-project/shoal/daemon/remote"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

var start = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

// town is nodes of which one, the home, decides about all objects. The others
// hear of what it writes a little later.
type town struct {
	t    *testing.T
	ctx  context.Context
	home string

	hosts map[string]*host

	mu  sync.Mutex
	odd map[string]string // who is the home in the eyes of some
}

type host struct {
	town   *town
	name   string
	view   *view.View
	local  *apitest.Writer
	writer *remote.Writer
	peers  *httptest.Server
	api    *httptest.Server
	cut    atomic.Bool   // nobody reaches it
	breaks atomic.Bool   // it writes and does not answer
	deaf   chan struct{} // nil: it hears of writes at once; else when that is closed
}

func newTown(t *testing.T, home string, names ...string) *town {
	t.Helper()
	m := &town{t: t, ctx: t.Context(), home: home, hosts: make(map[string]*host)}
	for i, name := range names {
		m.hosts[name] = m.host(name, start.Add(time.Duration(i)*time.Hour)) // versions of no two nodes are alike
	}
	for _, name := range names {
		if name != home {
			go m.follow(m.hosts[home].view, m.hosts[name])
		}
	}
	return m
}

func (m *town) host(name string, from time.Time) *host {
	h := &host{town: m, name: name, view: view.New(from)}
	h.local = &apitest.Writer{View: h.view, Node: name, Now: func() time.Time { return start }, Declared: map[manifests.Key]string{}}
	h.writer = &remote.Writer{Config: remote.Config{
		Node: name, Local: h.local, View: h.view, Nodes: way{h}, Log: slog.New(slog.DiscardHandler),
		Home:   func(context.Context, remote.Verb, manifests.Key) (string, error) { return m.decides(name), nil },
		Unsent: func(err error) bool { return errors.Is(err, errUnknown) || errors.Is(err, errCut) },
	}}
	h.view.Apply(view.Change{Key: manifests.Key{Kind: "Namespace", Name: "default"}, Object: &v1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "default"}, Status: v1.NamespaceStatus{Phase: v1.NamespaceActive}}})
	server := api.New(api.Config{View: h.view, Writer: h.writer, Node: name, Version: "test", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	h.api = httptest.NewServer(server)
	h.peers = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.writer.Serve(r.Header.Get("Test-From"), w, r)
		if h.breaks.Load() {
			panic(http.ErrAbortHandler)
		}
	}))
	m.t.Cleanup(h.api.Close)
	m.t.Cleanup(h.peers.Close)
	return h
}

func (m *town) decides(eyes string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return cmp.Or(m.odd[eyes], m.home)
}

// confuse has a node see another home.
func (m *town) confuse(node, home string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.odd = map[string]string{node: home}
}

// follow has a node see what another one writes.
func (m *town) follow(from *view.View, h *host) {
	version := from.Version()
	for {
		events, err := from.Wait(m.ctx, version)
		if err != nil {
			return
		}
		if h.deaf != nil {
			<-h.deaf
		}
		for _, e := range events {
			version = e.Version
			c := view.Change{Key: e.Key}
			if e.Type != watch.Deleted {
				c.Object = e.Object.DeepCopyObject().(view.Object)
			}
			h.view.Apply(c)
		}
	}
}

var (
	errUnknown = errors.New("no address of it is known")
	errCut     = errors.New("dial: no route to host")
)

// way is how a host reaches others.
type way struct{ *host }

func (w way) RoundTrip(node string, r *http.Request) (*http.Response, error) {
	to := w.town.hosts[node]
	if to == nil {
		return nil, errUnknown
	}
	if to.cut.Load() {
		return nil, errCut
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", to.peers.Listener.Addr().String()
	r.Header.Set("Test-From", w.name)
	return http.DefaultTransport.RoundTrip(r)
}

func (h *host) do(method, path, kind, body string) (int, string, http.Header) {
	h.town.t.Helper()
	r, err := http.NewRequestWithContext(h.town.ctx, method, h.api.URL+path, strings.NewReader(body))
	if err != nil {
		h.town.t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		h.town.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.town.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

const (
	maps  = "/api/v1/namespaces/default/configmaps"
	asIs  = "application/json"
	merge = "application/merge-patch+json"
)

func (h *host) must(method, path, kind, body string, code int) string {
	h.town.t.Helper()
	got, answer, _ := h.do(method, path, kind, body)
	if got != code {
		h.town.t.Fatalf("%s: %s %s: %d %s, want %d", h.name, method, path, got, answer, code)
	}
	return answer
}

// TestWhoWritesHereReadsItHere: the answer has this node's version, from which
// one can watch here, and write again.
func TestWhoWritesHereReadsItHere(t *testing.T) {
	m := newTown(t, "n2", "n1", "n2", "n3")
	n1, n3 := m.hosts["n1"], m.hosts["n3"]
	for i, step := range []struct{ method, path, kind, body string }{
		{"POST", maps, asIs, `{"metadata":{"name":"x"},"data":{"a":"1"}}`},
		{"PATCH", maps + "/x", merge, `{"data":{"b":"2"}}`},
		{"PUT", maps + "/x", asIs, `{"metadata":{"name":"x"},"data":{"c":"3"}}`},
		{"PUT", maps + "/x", asIs, `{"metadata":{"name":"x"},"data":{"c":"3"}}`}, // changes nothing
	} {
		code, answer, header := n1.do(step.method, step.path, step.kind, step.body)
		if code/100 != 2 || header.Get("Warning") != "" {
			t.Fatalf("step %d: %d %s %v", i, code, answer, header)
		}
		if read := n1.must("GET", maps+"/x", "", "", 200); read != answer {
			t.Errorf("step %d: answered %s and reads %s", i, answer, read)
		}
	}
	if got := n3.must("PATCH", maps+"/x", merge, `{"data":{"d":"4"}}`, 200); !strings.Contains(got, `"data":{"c":"3","d":"4"}`) {
		t.Errorf("through a third node: %s", got)
	}
	if code, answer, _ := n3.do("POST", maps, asIs, `{"metadata":{"name":"x"}}`); code != 409 || !strings.Contains(answer, "AlreadyExists") {
		t.Errorf("made twice: %d %s", code, answer)
	}
	n1.must("DELETE", maps+"/x", "", "", 200)
	n1.must("GET", maps+"/x", "", "", 404)
	n1.must("DELETE", maps+"/x", "", "", 404)
}

// TestNoUpdateIsLost when clients count up through all nodes, each of which sees
// the others' writes late: by versions that they read, and by patches that say
// what was there.
func TestNoUpdateIsLost(t *testing.T) {
	m := newTown(t, "n2", "n1", "n2", "n3")
	m.hosts["n1"].must("POST", maps, asIs, `{"metadata":{"name":"x"},"data":{"n":"0"}}`, 201)
	const each = 15
	var clients sync.WaitGroup
	for _, name := range []string{"n1", "n2", "n3", "n1", "n3"} {
		h := m.hosts[name]
		clients.Go(func() {
			for range each {
				for h.countUp() != 200 {
					if t.Context().Err() != nil {
						return
					}
				}
			}
		})
	}
	clients.Wait()
	got := m.hosts["n2"].must("GET", maps+"/x", "", "", 200)
	if want := fmt.Sprintf(`"data":{"n":"%d"}`, 5*each); !strings.Contains(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

// countUp reads, adds one and writes; 409 if somebody else was quicker.
func (h *host) countUp() int {
	_, body, _ := h.do("GET", maps+"/x", "", "")
	var o v1.ConfigMap
	if json.Unmarshal([]byte(body), &o) != nil || o.Name == "" {
		return 404 // not heard of yet
	}
	n, _ := strconv.Atoi(o.Data["n"])
	o.Data["n"] = strconv.Itoa(n + 1)
	b, _ := json.Marshal(o)
	code, _, _ := h.do("PUT", maps+"/x", asIs, string(b))
	return code
}

// TestPatchesOfAllNodesAreMade: they are tried again where others come between,
// and where they come too often, that is told.
func TestPatchesOfAllNodesAreMade(t *testing.T) {
	m := newTown(t, "n2", "n1", "n2", "n3")
	m.hosts["n1"].must("POST", maps, asIs, `{"metadata":{"name":"x"}}`, 201)
	var clients sync.WaitGroup
	for _, name := range []string{"n1", "n2", "n3"} {
		h := m.hosts[name]
		h.town.eventually(func() bool { code, _, _ := h.do("GET", maps+"/x", "", ""); return code == 200 })
		clients.Go(func() {
			for i := range 8 {
				code, answer := 409, ""
				for code == 409 && t.Context().Err() == nil {
					code, answer, _ = h.do("PATCH", maps+"/x", merge, fmt.Sprintf(`{"data":{"%s-%d":""}}`, name, i))
				}
				if code != 200 {
					t.Errorf("%s: %d %s", name, code, answer)
				}
			}
		})
	}
	clients.Wait()
	o, _ := m.hosts["n2"].view.Get(manifests.Key{Kind: "ConfigMap", Namespace: "default", Name: "x"})
	if n := len(o.(*v1.ConfigMap).Data); n != 24 {
		t.Errorf("%d of 24 keys are there", n)
	}
}

func (m *town) eventually(is func() bool) {
	m.t.Helper()
	late, tick := time.After(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			m.t.Fatal("it did not happen in time")
		}
	}
}

// TestAStaleReaderWritesNothing: what a client of a node saw that lags behind is
// not what it would overwrite.
func TestAStaleReaderWritesNothing(t *testing.T) {
	m := newTown(t, "n2", "n1", "n2")
	n1, n2 := m.hosts["n1"], m.hosts["n2"]
	read := n1.must("POST", maps, asIs, `{"metadata":{"name":"x"},"data":{"n":"0"}}`, 201)
	n1.deaf = make(chan struct{})
	n2.must("PATCH", maps+"/x", merge, `{"data":{"n":"1"}}`, 200)
	code, answer, _ := n1.do("PUT", maps+"/x", asIs, strings.Replace(read, `"n":"0"`, `"n":"9"`, 1))
	if code != 409 || !strings.Contains(answer, "the object has been modified; please apply your changes to the latest version and try again") {
		t.Errorf("a PUT of what n1 has: %d %s", code, answer)
	}
	var o v1.ConfigMap
	if err := json.Unmarshal([]byte(read), &o); err != nil {
		t.Fatal(err)
	}
	stale := fmt.Sprintf(`{"preconditions":{"resourceVersion":%q}}`, o.ResourceVersion)
	if code, answer, _ := n1.do("DELETE", maps+"/x", asIs, stale); code != 409 {
		t.Errorf("a DELETE of what n1 has: %d %s", code, answer)
	}
	other := `{"preconditions":{"uid":"11111111-0000-4000-8000-000000000000"}}`
	if code, answer, _ := n1.do("DELETE", maps+"/x", asIs, other); code != 409 {
		t.Errorf("a DELETE of another UID: %d %s", code, answer)
	}
	// Its writer does not wait for ever to see what it wrote.
	code, answer, header := n1.do("POST", maps, asIs, `{"metadata":{"name":"y"}}`)
	if code != 201 || !strings.Contains(header.Get("Warning"), "node n2 has written it, and node n1 has not heard of it yet") {
		t.Errorf("a write that is not heard of: %d %s %v", code, answer, header)
	}
	close(n1.deaf)
	m.eventually(func() bool { code, _, _ := n1.do("GET", maps+"/y", "", ""); return code == 200 })
	if got := n2.must("GET", maps+"/x", "", "", 200); !strings.Contains(got, `"n":"1"`) {
		t.Errorf("n2 has %s", got)
	}
}

func TestDryRunsAreTriedAtHome(t *testing.T) {
	m := newTown(t, "n2", "n1", "n2")
	n1, n2 := m.hosts["n1"], m.hosts["n2"]
	n1.must("POST", maps+"?dryRun=All", asIs, `{"metadata":{"name":"x"}}`, 201)
	n2.must("GET", maps+"/x", "", "", 404)
	n1.must("POST", maps, asIs, `{"metadata":{"name":"x"}}`, 201)
	n1.must("PATCH", maps+"/x?dryRun=All", merge, `{"data":{"a":"b"}}`, 200)
	n1.must("DELETE", maps+"/x?dryRun=All", "", "", 200)
	if got := n2.must("GET", maps+"/x", "", "", 200); strings.Contains(got, `"a"`) {
		t.Errorf("a dry run has written %s", got)
	}
	n2.local.Declared[manifests.Key{Kind: "ConfigMap", Namespace: "default", Name: "x"}] = "/etc/x.yaml"
	if _, _, header := n1.do("PATCH", maps+"/x", merge, `{"data":{"a":"b"}}`); !strings.Contains(header.Get("Warning"), "declared by /etc/x.yaml") {
		t.Errorf("warnings of its home: %v", header)
	}
	if code, answer, _ := n1.do("DELETE", maps+"/x", "", ""); code != 403 || !strings.Contains(answer, "/etc/x.yaml") {
		t.Errorf("a refusal of its home: %d %s", code, answer)
	}
}

// TestWhatCantBeWrittenIsSaid, and whether it may have been.
func TestWhatCantBeWrittenIsSaid(t *testing.T) {
	m := newTown(t, "n2", "n1", "n2", "n3")
	n1, n2 := m.hosts["n1"], m.hosts["n2"]
	try := func(name string, want ...string) {
		t.Helper()
		code, answer, _ := n1.do("POST", maps, asIs, `{"metadata":{"name":"`+name+`"}}`)
		for _, text := range want {
			if !strings.Contains(fmt.Sprint(code, answer), text) {
				t.Errorf("%s: %d %s, want %s", name, code, answer, text)
			}
		}
	}
	n2.cut.Store(true)
	try("cut", "503", "node n2, which is to write ConfigMap default/cut, can't be reached: dial: no route to host. Nothing was written")
	n2.cut.Store(false)
	n2.breaks.Store(true)
	try("breaks", "504", "node n2, which was to write ConfigMap default/breaks, broke off", "not known whether it wrote")
	n2.breaks.Store(false)
	m.confuse("n1", "n9")
	try("nowhere", "503", "no address of it is known. Nothing was written")
	m.confuse("n2", "n3")
	try("elsewhere", "503", "node n2 was asked by node n1 to write ConfigMap default/elsewhere, about which node n3 decides as node n2 sees the cluster: try again", `"retryAfterSeconds":1`)
}

// TestNonsenseFromANodeIsRefused and writes nothing.
func TestNonsenseFromANodeIsRefused(t *testing.T) {
	m := newTown(t, "n2", "n2")
	n2 := m.hosts["n2"]
	before := n2.view.Version()
	for body, want := range map[string]string{
		``:                         "400 no write",
		`[]`:                       "400 no write",
		`{"verb":"apply"}`:         "400 object key",
		`{"verb":"x","key":"a"}`:   "400 object key",
		`{"key":"/ConfigMap/d/x"}`: `"code":400`,
		`{"verb":"apply","key":"/ConfigMap/d/x","object":{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}}`:                           `"code":400`,
		`{"verb":"apply","key":"/ConfigMap/d/x","object":{"apiVersion":"v2","kind":"Nope"}}`:                                                     `"code":400`,
		`{"verb":"apply","key":"/ConfigMap/d/x_","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"d","name":"x_"}}}`:      `"code":422`,
		`{"verb":"status","key":"/ConfigMap/d/x","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"d","name":"x"}}}`:       `"code":400`,
		`{"verb":"delete","key":"/ConfigMap/d/x","saw":""}`:                                                                                      `"code":404`,
		`{"verb":"delete","key":"/ConfigMap/d/x","saw":"abc"}`:                                                                                   `"code":404`,
		`{"verb":"apply","key":"/Namespace//default","saw":"abc","object":{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"default"}}}`: `"code":409`,
		`{"verb":"apply","key":"/ConfigMap/d/x","object":` + strings.Repeat(" ", 9<<20) + `{}}`:                                                  "400 no write: http: request body too large",
	} {
		w := httptest.NewRecorder()
		n2.writer.Serve("n1", w, httptest.NewRequest("POST", remote.Path, strings.NewReader(body)))
		if got := fmt.Sprint(w.Code, " ", w.Body.String()); !strings.Contains(got, want) {
			t.Errorf("%.200s: %.300s, want %s", body, got, want)
		}
	}
	if n2.view.Version() != before {
		list, _ := n2.view.List(manifests.Key{Kind: "ConfigMap"}.GroupKind(), "")
		t.Errorf("something was written: %v", slices.Collect(func(yield func(string) bool) {
			for _, o := range list {
				yield(o.GetName())
			}
		}))
	}
}

// TestADeletionWarnsToo: in the words of the node that carries it out.
func TestADeletionWarnsToo(t *testing.T) {
	m := newTown(t, "n1", "n1", "n2")
	m.hosts["n1"].local.Warn = []string{"only node n1 has it so far"}
	for _, asked := range []string{"n1", "n2"} {
		h := m.hosts[asked]
		if code, body, _ := h.do("POST", "/api/v1/namespaces/default/configmaps", "application/json", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}`); code != http.StatusCreated {
			t.Fatal(code, body)
		}
		code, body, header := h.do("DELETE", "/api/v1/namespaces/default/configmaps/a", "", "")
		if code != http.StatusOK || !strings.Contains(header.Get("Warning"), "only node n1 has it so far") {
			t.Errorf("through %s: %d %s, warning %q", asked, code, body, header.Get("Warning"))
		}
	}
}
