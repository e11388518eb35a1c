package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

const (
	deployments = "/apis/apps/v1/namespaces/default/deployments"
	applyType   = "application/apply-patch+yaml"
)

var applyHeader = http.Header{"Content-Type": {applyType}}

// webDeployment is what most tests apply: a list that merges by key, a map, a
// number.
const webDeployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {tier: front}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "nginx:1", env: [{name: A, value: "1"}]}
`

func TestApplyMakesAnObjectAndKeepsTheBooks(t *testing.T) {
	c := newClient(t)
	d, _ := as[apps.Deployment](c, "PATCH", deployments+"/web?fieldManager=kubectl", webDeployment, applyHeader)
	if d.Name != "web" || d.Namespace != "default" || *d.Spec.Replicas != 2 || d.Spec.RevisionHistoryLimit == nil || d.UID == "" {
		t.Errorf("got %+v", d)
	}
	if got, want := books(d.ManagedFields), "kubectl Apply apps/v1"; got != want {
		t.Errorf("books: got %s, want %s", got, want)
	}
	again, _ := as[apps.Deployment](c, "PATCH", deployments+"/web?fieldManager=kubectl", webDeployment, applyHeader)
	if again.ResourceVersion != d.ResourceVersion {
		t.Errorf("the same again was written again: version %s, then %s", d.ResourceVersion, again.ResourceVersion)
	}
}

func TestTwoManagersShareAnObject(t *testing.T) {
	c := newClient(t)
	as[apps.Deployment](c, "PATCH", deployments+"/web?fieldManager=kubectl", webDeployment, applyHeader)
	const sidecar = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},
		"spec":{"template":{"spec":{"containers":[{"name":"log","image":"busybox"}]}}}}`
	d, _ := as[apps.Deployment](c, "PATCH", deployments+"/web?fieldManager=other", sidecar, applyHeader)
	if got := containers(d); got != "web=nginx:1 log=busybox" {
		t.Errorf("after both applied: %s", got)
	}

	const replicas = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":5}}`
	if got, want := c.status("PATCH", deployments+"/web?fieldManager=other", replicas, applyType),
		`409 Apply failed with 1 conflict: conflict with "kubectl": .spec.replicas`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	d, _ = as[apps.Deployment](c, "PATCH", deployments+"/web?fieldManager=other&force=true", replicas, applyHeader)
	if *d.Spec.Replicas != 5 || containers(d) != "web=nginx:1" {
		t.Errorf("after it was forced: %d replicas, containers %s; want 5 and the container gone that is applied no more", *d.Spec.Replicas, containers(d))
	}
	if got, want := c.status("PATCH", deployments+"/web?fieldManager=kubectl", webDeployment, applyType),
		`409 Apply failed with 1 conflict: conflict with "other": .spec.replicas`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWhatIsAppliedNoLongerGoes(t *testing.T) {
	c := newClient(t)
	const first = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","labels":{"a":"b"}},"data":{"x":"1","y":"2"}}`
	const second = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"},"data":{"x":"1"}}`
	as[v1.ConfigMap](c, "PATCH", maps+"/m?fieldManager=a", first, applyHeader)
	as[v1.ConfigMap](c, "PATCH", maps+"/m?fieldManager=b", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"},"data":{"z":"3"}}`, applyHeader)
	m, _ := as[v1.ConfigMap](c, "PATCH", maps+"/m?fieldManager=a", second, applyHeader)
	if got := fmt.Sprint(m.Data, m.Labels); got != "map[x:1 z:3] map[]" {
		t.Errorf("got %s", got)
	}
}

func TestOtherWritesAreBookedOnceSomebodyApplied(t *testing.T) {
	c := newClient(t)
	merge := http.Header{"Content-Type": {"application/merge-patch+json"}}
	as[v1.ConfigMap](c, "POST", maps, `{"metadata":{"name":"m"},"data":{"x":"1"}}`, nil)
	m, _ := as[v1.ConfigMap](c, "PATCH", maps+"/m?fieldManager=edit", `{"data":{"x":"2"}}`, merge)
	if got := books(m.ManagedFields); got != "" {
		t.Errorf("books of what nobody applied: %s", got)
	}
	const applied = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"},"data":{"x":"3","y":"1"}}`
	if got, want := c.status("PATCH", maps+"/m?fieldManager=kubectl", applied, applyType),
		`409 Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.x`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	as[v1.ConfigMap](c, "PATCH", maps+"/m?fieldManager=kubectl&force=true", applied, applyHeader)
	m, _ = as[v1.ConfigMap](c, "PATCH", maps+"/m?fieldManager=edit", `{"data":{"y":"2"}}`, merge)
	if got := books(m.ManagedFields); !strings.Contains(got, "edit Update v1") || m.Data["y"] != "2" {
		t.Errorf("books %s, data %v", got, m.Data)
	}
	if got, want := c.status("PATCH", maps+"/m?fieldManager=kubectl", applied, applyType),
		`409 Apply failed with 1 conflict: conflict with "edit" using v1: .data.y`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := c.status("PUT", maps+"/m", `{"metadata":{"name":"m"},"data":{"y":"2","x":"3"}}`); got != "200" {
		t.Errorf("a write without a manager: %s", got)
	}
	m, _ = as[v1.ConfigMap](c, "GET", maps+"/m", "", nil)
	if got := books(m.ManagedFields); !strings.Contains(got, "kubectl Apply v1") {
		t.Errorf("a write by a client that knows no books lost them: %s", got)
	}
}

func TestADryRunOfApplyChangesNothing(t *testing.T) {
	c := newClient(t)
	d, _ := as[apps.Deployment](c, "PATCH", deployments+"/web?fieldManager=kubectl&dryRun=All", webDeployment, applyHeader)
	if *d.Spec.Replicas != 2 {
		t.Errorf("got %+v", d)
	}
	if got := c.status("GET", deployments+"/web", ""); !strings.HasPrefix(got, "404") {
		t.Errorf("after a dry run: %s", got)
	}
}

func TestApplyIsRefusedInUpstreamsWords(t *testing.T) {
	c := newClient(t)
	const m = maps + "/m"
	object := func(more string) string {
		return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"}` + more + `}`
	}
	for _, test := range []struct{ path, body, want string }{
		{m, object(""), `422 PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch`},
		{m + "?fieldManager=" + strings.Repeat("x", 129), object(""), `422 PatchOptions.meta.k8s.io "" is invalid: fieldManager: Too long: may not be more than 128 bytes`},
		{m + "?fieldManager=a&force=perhaps", object(""), `400 force: want true or false, got "perhaps"`},
		{m + "?fieldManager=a", "- a", "400 error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value of type map[string]interface {}"},
		{m + "?fieldManager=a", "", "400 error decoding YAML: the body is no object"},
		{m + "?fieldManager=a", "{}", "400 invalid object type: /, Kind=, want /v1, Kind=ConfigMap"},
		{m + "?fieldManager=a", webDeployment, "400 invalid object type: apps/v1, Kind=Deployment, want /v1, Kind=ConfigMap"},
		{m + "?fieldManager=a", object(`,"dta":{"a":"b"}`), "400 failed to create typed patch object (default/m; /v1, Kind=ConfigMap): .dta: field not declared in schema"},
		{m + "?fieldManager=a", object(`,"data":["b"]`), "400 failed to create typed patch object (default/m; /v1, Kind=ConfigMap): .data: expected map, got &{[b]}"},
		{m + "?fieldManager=a", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"other"}}`, "400 the name of the object (other) does not match the name on the URL (m)"},
		{m + "?fieldManager=a", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":7}}`, "400 the name of the object () does not match the name on the URL (m)"},
		{m + "?fieldManager=a", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","managedFields":[]}}`, "400 metadata.managedFields must be nil"},
		{m + "?fieldManager=a", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","uid":"x"}}`, `409 Operation cannot be fulfilled on configmaps "m": uid mismatch: the provided object specified uid x, and no existing object was found`},
		{m + "?fieldManager=a&fieldValidation=Strict", "apiVersion: v1\nkind: ConfigMap\nkind: ConfigMap\n", "400 error strict decoding YAML"},
		{"/api/v1/namespaces/nowhere/configmaps/m?fieldManager=a", object(""), `404 namespaces "nowhere" not found`},
		{deployments + "/web?fieldManager=a", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"}}`, `422 Deployment.apps "web" is invalid`},
	} {
		if got := c.status("PATCH", test.path, test.body, applyType); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s %.80s:\ngot  %s\nwant %s", test.path, test.body, got, test.want)
		}
	}
}

// Every kind that is served can be applied: its fields are in the documents.
func TestEveryServedKindsFieldsAreKnown(t *testing.T) {
	c := newClient(t)
	for _, group := range []string{"/api/v1", "/apis/apps/v1", "/apis/batch/v1", "/apis/autoscaling/v1", "/apis/autoscaling/v2", "/apis/policy/v1",
		"/apis/networking.k8s.io/v1", "/apis/rbac.authorization.k8s.io/v1", "/apis/storage.k8s.io/v1", "/apis/scheduling.k8s.io/v1",
		"/apis/coordination.k8s.io/v1", "/apis/node.k8s.io/v1", "/apis/discovery.k8s.io/v1"} {
		list, _ := as[metav1.APIResourceList](c, "GET", group, "", nil)
		for _, r := range list.APIResources {
			if strings.Contains(r.Name, "/") || r.Name == "tokenreviews" {
				continue
			}
			path := group + "/" + r.Name + "/x"
			if r.Namespaced {
				path = group + "/namespaces/default/" + r.Name + "/x"
			}
			body := fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":"x"},"nonsense":1}`, list.GroupVersion, r.Kind)
			if got := c.status("PATCH", path+"?fieldManager=a", body, applyType); !strings.HasSuffix(got, ".nonsense: field not declared in schema") {
				t.Errorf("%s: %s", path, got)
			}
		}
	}
}

// A file declares it, so nobody has books: applying it conflicts with them all.
func TestApplyOverADeclaredObjectConflictsWithItsFile(t *testing.T) {
	c := newClient(t)
	key := manifests.Key{Kind: "ConfigMap", Namespace: "default", Name: "m"}
	c.View.Apply(view.Change{Key: key, Object: &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "m"}, Data: map[string]string{"a": "b"}}})
	if got, want := c.status("PATCH", maps+"/m?fieldManager=kubectl", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"},"data":{"a":"c"}}`, applyType),
		`409 Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.a`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// books is who manages something, in the order of the list.
func books(entries []metav1.ManagedFieldsEntry) string {
	var out []string
	for _, e := range entries {
		out = append(out, fmt.Sprintf("%s %s %s", e.Manager, e.Operation, e.APIVersion))
	}
	return strings.Join(out, ", ")
}

func containers(d apps.Deployment) string {
	var out []string
	for _, c := range d.Spec.Template.Spec.Containers {
		out = append(out, c.Name+"="+c.Image)
	}
	return strings.Join(out, " ")
}
