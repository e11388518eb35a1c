package api_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/daemon/api/apitest"
	"github.com/shoal-project/shoal/daemon/view"
)

// fuzzNode is a node without a socket: handlers run in the fuzzer's goroutine,
// so that a panic is seen.
func fuzzNode(f *testing.F) *apitest.Node {
	f.Helper()
	n := apitest.NewNode(f.TempDir(), func() time.Time { return now }, slog.New(slog.DiscardHandler))
	n.View.Apply(view.Change{Key: webKey, Object: webPod(running)})
	return n
}

func serve(n *apitest.Node, method, path, query, contentType, accept, body string) int {
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	r.URL.Path, r.URL.RawQuery = path, query
	r.Header = http.Header{"Content-Type": {contentType}, "Accept": {accept}}
	w := httptest.NewRecorder()
	n.API.ServeHTTP(w, r)
	return w.Code
}

// FuzzPatch: no patch, however odd, makes the server panic or fail inside.
func FuzzPatch(f *testing.F) {
	for _, seed := range []struct {
		kind uint8
		body string
	}{
		{0, `[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`},
		{0, `[{"op":"copy","from":"","path":"/metadata/annotations"}]`},
		{0, `[{"op":"remove","path":"/spec/containers/-1"}]`},
		{1, `{"metadata":null}`}, {1, `{"spec":{"containers":null}}`},
		{2, `{"spec":{"containers":[{"name":"main","image":"x"}]}}`},
		{2, `{"spec":{"containers":[{"$patch":"replace"}]}}`},
		{2, `{"spec":{"$setElementOrder/containers":[{"name":"x"}],"containers":[{"$patch":"delete","name":"main"}]}}`},
		{2, `{"metadata":{"$deleteFromPrimitiveList/finalizers":[1]}}`},
		{2, `{"spec":{"$retainKeys":["containers"]},"status":{"conditions":[null]}}`},
	} {
		f.Add(seed.kind, seed.body)
	}
	n := fuzzNode(f)
	types := []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"}
	f.Fuzz(func(t *testing.T, kind uint8, body string) {
		code := serve(n, "PATCH", "/api/v1/namespaces/default/pods/web", "dryRun=All", types[int(kind)%len(types)], "", body)
		if code == http.StatusInternalServerError {
			t.Errorf("%d for %q", code, body)
		}
	})
}

// FuzzRead: no path, query or Accept header does.
func FuzzRead(f *testing.F) {
	f.Add("/api/v1/pods", "labelSelector=a+in+(b)&fieldSelector=spec.nodeName=x&limit=1", "application/json;as=Table;v=v1;g=meta.k8s.io")
	f.Add("/api/v1/namespaces/default/pods/web/log", "tailLines=1&sinceTime=x", "*/*")
	f.Add("/apis/apps/v1/deployments", "continue=eyJydiI6MX0", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")
	f.Add("/api/v1/pods", "watch=1&timeoutSeconds=0&resourceVersion=1", "")
	f.Add("/openapi/v3/api/v1", "", "")
	n := fuzzNode(f)
	f.Fuzz(func(t *testing.T, path, query, accept string) {
		if strings.Contains(strings.ToLower(query), "watch") && !strings.Contains(query, "resourceVersion=1&") {
			query += "&resourceVersion=1" // a watch of another run ends at once
		}
		if strings.Contains(query, "follow") || strings.Contains(query, "sendInitial") || !strings.HasPrefix(path, "/") {
			return
		}
		if code := serve(n, "GET", path, query, "", accept, ""); code == http.StatusInternalServerError {
			t.Errorf("%d for %q ? %q", code, path, query)
		}
	})
}

// FuzzCreate: no body does, in any encoding.
func FuzzCreate(f *testing.F) {
	f.Add(uint8(0), `{"metadata":{"name":"x"},"spec":{"containers":[{"name":"c","image":"i"}]}}`)
	f.Add(uint8(1), "metadata: {name: x}\nspec: {containers: [{name: c, image: i}]}")
	f.Add(uint8(2), "k8s\x00\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x02\x0a\x00")
	n := fuzzNode(f)
	types := []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"}
	f.Fuzz(func(t *testing.T, kind uint8, body string) {
		code := serve(n, "POST", "/api/v1/namespaces/default/pods", "dryRun=All", types[int(kind)%len(types)], "", body)
		if code == http.StatusInternalServerError {
			t.Errorf("%d for %q", code, body)
		}
	})
}
