package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

func configMap(name string, labels map[string]string) view.Change {
	return view.Change{Key: manifests.Key{Kind: "ConfigMap", Namespace: "default", Name: name}, Object: &v1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: labels},
	}}
}

// watching reads a watch's events as "TYPE name".
type watching struct {
	t   *testing.T
	dec *json.Decoder
}

func (c *client) watch(query string, accept string) *watching {
	c.t.Helper()
	resp := c.do("GET", "/api/v1/namespaces/default/configmaps?watch=1&"+query, "", http.Header{"Accept": {accept}})
	c.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 {
		c.t.Fatalf("watch %s: %d", query, resp.StatusCode)
	}
	return &watching{c.t, json.NewDecoder(resp.Body)}
}

type watchEvent struct {
	Type   string
	Object struct {
		Kind              string
		Code              int
		Message           string
		Metadata          metav1.ObjectMeta
		ColumnDefinitions []metav1.TableColumnDefinition
		Rows              []struct {
			Cells []any
		}
	}
}

func (w *watching) next() watchEvent {
	w.t.Helper()
	var e watchEvent
	if err := w.dec.Decode(&e); err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *watching) want(all ...string) {
	w.t.Helper()
	for _, want := range all {
		e := w.next()
		got := e.Type + " " + e.Object.Metadata.Name
		if e.Type == "ERROR" {
			got = fmt.Sprint(e.Type, " ", e.Object.Code)
		}
		if e.Object.Metadata.Annotations[metav1.InitialEventsAnnotationKey] == "true" {
			got += "initial-events-end"
		}
		if strings.TrimSpace(got) != want {
			w.t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func TestAWatchBeginsWithWhatThereIs(t *testing.T) {
	c := newClient(t)
	c.View.Apply(configMap("a", nil))
	w := c.watch("", "")
	w.want("ADDED a")
	c.View.Apply(configMap("b", nil), configMap("a", nil), view.Change{Key: configMap("b", nil).Key})
	w.want("ADDED b", "MODIFIED a", "DELETED b")
}

func TestAWatchGoesOnFromAVersion(t *testing.T) {
	c := newClient(t)
	c.View.Apply(configMap("a", nil))
	from := c.View.Version()
	c.View.Apply(configMap("b", nil))
	c.watch("resourceVersion="+strconv.FormatUint(from, 10), "").want("ADDED b")
}

func TestInitialEventsEndWithABookmark(t *testing.T) {
	c := newClient(t)
	c.View.Apply(configMap("a", nil))
	w := c.watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true", "")
	w.want("ADDED a", "BOOKMARK initial-events-end")
	c.View.Apply(configMap("b", nil))
	w.want("ADDED b")
}

func TestAWatchFromAnotherRunIsGone(t *testing.T) {
	c := newClient(t)
	c.watch("resourceVersion=1", "").want("ERROR 410")
	c.watch("resourceVersion=18446744073709551615", "").want("ERROR 410")
}

func TestAnObjectThatNoLongerMatchesIsDeleted(t *testing.T) {
	c := newClient(t)
	x, y := map[string]string{"k": "x"}, map[string]string{"k": "y"}
	c.View.Apply(configMap("a", y))
	w := c.watch("labelSelector=k%3Dx", "")
	c.View.Apply(configMap("a", x), configMap("a", x), configMap("a", y), configMap("a", y), configMap("b", x), view.Change{Key: configMap("b", nil).Key})
	w.want("ADDED a", "MODIFIED a", "DELETED a", "ADDED b", "DELETED b")
}

func TestAWatchOfTablesSendsColumnsOnce(t *testing.T) {
	c := newClient(t)
	c.View.Apply(configMap("a", nil), configMap("b", nil))
	w := c.watch("", "application/json;as=Table;v=v1;g=meta.k8s.io")
	first, second := w.next(), w.next()
	if first.Object.Kind != "Table" || len(first.Object.ColumnDefinitions) != 3 || len(first.Object.Rows) != 1 || first.Object.Rows[0].Cells[0] != "a" {
		t.Errorf("first: %+v", first)
	}
	if len(second.Object.ColumnDefinitions) != 0 || second.Object.Rows[0].Cells[0] != "b" {
		t.Errorf("second: %+v", second)
	}
}

func TestAWatchEndsAtItsTimeWithABookmark(t *testing.T) {
	c := newClient(t)
	w := c.watch("timeoutSeconds=1&allowWatchBookmarks=true", "")
	w.want("BOOKMARK")
	if err := w.dec.Decode(new(watchEvent)); err == nil {
		t.Error("goes on after its time")
	}
}

func TestPagesShowEachObjectOnceAndTheVersionOfTheFirst(t *testing.T) {
	c := newClient(t)
	for i := range 7 {
		c.View.Apply(configMap(fmt.Sprint("c", i), nil))
	}
	first := strconv.FormatUint(c.View.Version(), 10)
	var names []string
	token := ""
	for page := 0; ; page++ {
		list, _ := as[v1.ConfigMapList](c, "GET", "/api/v1/configmaps?limit=3&continue="+token, "", nil)
		if list.ResourceVersion != first {
			t.Errorf("page %d has version %s, want %s: a watch from there would miss changes", page, list.ResourceVersion, first)
		}
		for _, o := range list.Items {
			names = append(names, o.Name)
		}
		if token = list.Continue; token == "" {
			break
		}
		c.View.Apply(configMap(fmt.Sprint("a", page), nil)) // before the page's place
	}
	if got, want := strings.Join(names, " "), "c0 c1 c2 c3 c4 c5 c6"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSelectors(t *testing.T) {
	c := newClient(t)
	c.View.Apply(view.Change{Key: webKey, Object: webPod(running)}, configMap("a", map[string]string{"k": "x"}))
	for path, want := range map[string]int{
		"/api/v1/pods?fieldSelector=spec.nodeName%3Dn1":                         1,
		"/api/v1/pods?fieldSelector=spec.nodeName%3Dn2":                         0,
		"/api/v1/pods?fieldSelector=status.phase!%3DRunning":                    0,
		"/api/v1/pods?fieldSelector=metadata.name%3Dweb,status.phase%3DRunning": 1,
		"/api/v1/configmaps?labelSelector=k+in+(x,y)":                           1,
		"/api/v1/configmaps?labelSelector=!k":                                   0,
		"/api/v1/namespaces/kube-system/pods":                                   0,
	} {
		list, _ := as[metav1.PartialObjectMetadataList](c, "GET", path, "", nil)
		if len(list.Items) != want {
			t.Errorf("%s: got %d, want %d", path, len(list.Items), want)
		}
	}
	for path, want := range map[string]string{
		"/api/v1/pods?fieldSelector=spec.nope%3D1":                  "400 field label not supported: spec.nope",
		"/api/v1/pods?limit=-1":                                     "400 invalid query parameter limit: must not be negative",
		"/api/v1/pods?continue=nonsense":                            "400 continue key is not valid: invalid character '\\u009e' looking for beginning of value",
		"/api/v1/pods?resourceVersion=99999999999999999":            "504 Timeout: Too large resource version: 99999999999999999, current: " + strconv.FormatUint(c.View.Version(), 10),
		"/api/v1/pods?resourceVersion=1&resourceVersionMatch=Exact": "410 too old resource version: 1 (" + strconv.FormatUint(c.View.Version(), 10) + ")",
		"/api/v1/pods?watch=1&sendInitialEvents=true":               "400 sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
		"/api/v1/nope":                              "404 the server could not find the requested resource",
		"/apis/apps/v7/deployments":                 "404 the server could not find the requested resource",
		"/api/v1/namespaces/default/pods/none":      `404 pods "none" not found`,
		"/api/v1/namespaces/default/pods/web/proxy": "501 proxy is not served: connect to the pod's address from its host",
		"/api/v1/pods?includeObject=Some":           "400 includeObject must be None, Metadata or Object",
	} {
		if got := c.status("GET", path, ""); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}
