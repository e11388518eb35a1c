package api_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

const maps = "/api/v1/namespaces/default/configmaps"

func TestWritesAreRefusedInUpstreamsWords(t *testing.T) {
	c := newClient(t)
	c.status("POST", maps, `{"metadata":{"name":"a"},"data":{"k":"v"}}`)
	big := `{"metadata":{"name":"big"},"data":{"k":"` + strings.Repeat("x", 4<<20) + `"}}`
	for _, test := range []struct{ method, path, body, contentType, want string }{
		{"POST", maps, `{"metadata":{"name":"a"}}`, "", `409 configmaps "a" already exists`},
		{"POST", maps, `{"metadata":{"name":"x","namespace":"other"}}`, "", "400 the namespace of the provided object does not match the namespace sent on the request"},
		{"POST", maps, `{"metadata":{"name":"x","resourceVersion":"1"}}`, "", "400 resourceVersion should not be set on objects to be created"},
		{"POST", maps, `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"}}`, "", `400 Pod in version "v1" cannot be handled as a ConfigMap`},
		{"POST", maps, `{"metadata":{"name":"X"}}`, "", `422 ConfigMap "X" is invalid: metadata.name: Invalid value: "X": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`},
		{"POST", maps, big, "", "413 Request entity too large: limit is 3145728"},
		{"POST", maps, `{}`, "text/plain", "415 the body of the request was in an unknown format (text/plain): accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
		{"POST", maps + "?fieldValidation=Strict", `{"metadata":{"name":"x"},"dta":{}}`, "", `400 strict decoding error: unknown field "dta"`},
		{"POST", maps + "?dryRun=some", `{}`, "", `400 dryRun: Unsupported value: "some": supported values: "All"`},
		{"POST", "/api/v1/namespaces/nowhere/configmaps", `{"metadata":{"name":"x"}}`, "", `404 namespaces "nowhere" not found`},
		{"POST", "/api/v1/configmaps", `{"metadata":{"name":"x"}}`, "", "400 an empty namespace may not be set during creation"},
		{"PUT", maps + "/a", `{"metadata":{"name":"b"}}`, "", "400 the name of the object (b) does not match the name on the URL (a)"},
		{"PUT", maps + "/b", `{"metadata":{"name":"b"}}`, "", `404 configmaps "b" not found`},
		{"PUT", maps + "/a", `{"metadata":{"name":"a","resourceVersion":"1"}}`, "", `409 Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again`},
		{"PUT", maps + "/a", `{"metadata":{"name":"a","uid":"other"}}`, "", `409 Operation cannot be fulfilled on configmaps "a": Precondition failed: UID in precondition: other, UID in object meta: 00000000-0000-4000-8000-000000000001`},
		{"PATCH", maps + "/a", `[]`, "application/merge-patch+json", "400 error decoding patch: a merge patch must be a JSON object"},
		{"PATCH", maps + "/a", `{"data":{"k":1}}`, "application/merge-patch+json", `422 the server rejected our request due to an error in our request: json: cannot unmarshal number into Go struct field ConfigMap.data of type string`},
		{"PATCH", maps + "/a", `[{"op":"test","path":"/data/k","value":"w"}]`, "application/json-patch+json", "422 the server rejected our request due to an error in our request: testing value /data/k failed: test failed"},
		{"DELETE", maps + "/a", `{"preconditions":{"uid":"other"}}`, "", `409 Operation cannot be fulfilled on configmaps "a": the UID or resourceVersion in the precondition does not match the object`},
		{"DELETE", maps + "/a?propagationPolicy=Sideways", "", "", "400 propagationPolicy must be Orphan, Background or Foreground"},
		{"DELETE", "/api/v1/namespaces/default", "", "", `403 namespaces "default" is forbidden: this namespace may not be deleted`},
		{"PUT", maps, `{}`, "", "405 put is not supported on resources of kind \"configmaps\""},
		{"PATCH", "/api/v1/namespaces/default/pods/x/status", `{}`, "application/merge-patch+json", `404 pods "x" not found`},
		{"PATCH", maps + "/a/status", `{}`, "application/merge-patch+json", `403 configmaps "a" is forbidden: status is written by the node that runs the object, not through the API`},
	} {
		if got := c.status(test.method, test.path, test.body, test.contentType); got != test.want {
			t.Errorf("%s %s %.60s:\ngot  %s\nwant %s", test.method, test.path, test.body, got, test.want)
		}
	}
}

func TestCreatedObjectsAreDefaultedAndTheSystemsFieldsAreNotTheClients(t *testing.T) {
	c := newClient(t)
	pod, h := as[v1.Pod](c, "POST", "/api/v1/namespaces/default/pods", `{
		"metadata":{"generateName":"web-","uid":"mine","creationTimestamp":"2001-01-01T00:00:00Z"},
		"spec":{"containers":[{"name":"c","image":"busybox","imaeg":1}]},
		"status":{"phase":"Failed"}}`, nil)
	if !strings.HasPrefix(pod.Name, "web-") || len(pod.Name) != 9 || pod.UID == "mine" || pod.CreationTimestamp.Year() != 2026 ||
		pod.Status.Phase != v1.PodRunning || pod.Spec.RestartPolicy != v1.RestartPolicyAlways || pod.Kind != "Pod" {
		t.Errorf("got %+v", pod)
	}
	if got, want := h.Get("Warning"), `299 - "unknown field \"spec.containers[0].imaeg\""`; got != want {
		t.Errorf("warning: got %s, want %s", got, want)
	}
}

func TestAPodsConditionsCanBeSetThroughItsStatus(t *testing.T) {
	c := newClient(t)
	const path = "/api/v1/namespaces/default/pods"
	pod, _ := as[v1.Pod](c, "POST", path, `{"metadata":{"name":"web"},"spec":{"containers":[{"name":"c","image":"busybox"}]}}`, nil)
	patch := http.Header{"Content-Type": {"application/strategic-merge-patch+json"}}
	got, _ := as[v1.Pod](c, "PATCH", path+"/web/status", `{"metadata":{"labels":{"a":"b"}},"spec":{"nodeName":"other"},
		"status":{"conditions":[{"type":"example.com/gate","status":"True"}]}}`, patch)
	if n := len(got.Status.Conditions); n != len(pod.Status.Conditions)+1 || got.Status.Phase != pod.Status.Phase {
		t.Errorf("got status %+v, want one condition more than %+v", got.Status, pod.Status)
	}
	if got.Spec.NodeName != pod.Spec.NodeName || len(got.Labels) > 0 {
		t.Errorf("a write of the status changed more: node %q, labels %v", got.Spec.NodeName, got.Labels)
	}
	stale := c.status("PUT", path+"/web/status", `{"metadata":{"name":"web","resourceVersion":"1"},"status":{}}`)
	if !strings.HasPrefix(stale, "409 ") {
		t.Errorf("a stale PUT: got %s, want a conflict", stale)
	}
}

func TestSecretsStringDataIsFoldedIn(t *testing.T) {
	c := newClient(t)
	s, _ := as[v1.Secret](c, "POST", "/api/v1/namespaces/default/secrets", `{"metadata":{"name":"s"},"stringData":{"a":"b"}}`, nil)
	if string(s.Data["a"]) != "b" || len(s.StringData) != 0 || s.Type != v1.SecretTypeOpaque {
		t.Errorf("got %+v", s)
	}
}

func TestProtobufBodiesOfTypedClients(t *testing.T) {
	c := newClient(t)
	var b bytes.Buffer
	o := &v1.ConfigMap{TypeMeta: metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: "p"}, Data: map[string]string{"a": "b"}}
	if err := protobuf.NewSerializer(manifests.Scheme, manifests.Scheme).Encode(o, &b); err != nil {
		t.Fatal(err)
	}
	got, _ := as[v1.ConfigMap](c, "POST", maps, b.String(), http.Header{"Content-Type": {"application/vnd.kubernetes.protobuf"}})
	if got.Name != "p" || got.Data["a"] != "b" {
		t.Errorf("got %+v", got)
	}
}

func TestAnUpdateThatChangesNothingWritesNothing(t *testing.T) {
	c := newClient(t)
	first, _ := as[v1.ConfigMap](c, "POST", maps, `{"metadata":{"name":"a"},"data":{"k":"v"}}`, nil)
	same, _ := as[v1.ConfigMap](c, "PUT", maps+"/a", `{"metadata":{"name":"a"},"data":{"k":"v"}}`, nil)
	other, _ := as[v1.ConfigMap](c, "PUT", maps+"/a", `{"metadata":{"name":"a"},"data":{"k":"w"}}`, nil)
	if same.ResourceVersion != first.ResourceVersion || other.ResourceVersion == first.ResourceVersion || other.UID != first.UID {
		t.Errorf("versions %s, %s, %s", first.ResourceVersion, same.ResourceVersion, other.ResourceVersion)
	}
}

func TestBothVersionsOfAnAutoscalerAreServed(t *testing.T) {
	c := newClient(t)
	spec := `"scaleTargetRef":{"kind":"Deployment","name":"d","apiVersion":"apps/v1"},"maxReplicas":3`
	c.get("/apis/autoscaling/v1/horizontalpodautoscalers")
	if got := c.status("POST", "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers",
		`{"metadata":{"name":"h"},"spec":{`+spec+`,"targetCPUUtilizationPercentage":70}}`); got != "201" {
		t.Fatal(got)
	}
	v2 := c.get("/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/h")
	v1 := c.get("/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers/h")
	if !strings.Contains(v2, `"averageUtilization":70`) || !strings.Contains(v2, `"apiVersion":"autoscaling/v2"`) ||
		!strings.Contains(v1, `"targetCPUUtilizationPercentage":70`) || !strings.Contains(v1, `"apiVersion":"autoscaling/v1"`) {
		t.Errorf("v2: %s\nv1: %s", v2, v1)
	}
}

func TestObjectsThatFilesDeclareWarnAndStay(t *testing.T) {
	c := newClient(t)
	c.View.Apply(configMap("a", nil))
	c.Writer.Declared[configMap("a", nil).Key] = "/etc/shoal/manifests/a.yaml"
	_, h := as[v1.ConfigMap](c, "PATCH", maps+"/a", `{"data":{"k":"v"}}`, http.Header{"Content-Type": {"application/merge-patch+json"}})
	if !strings.Contains(h.Get("Warning"), "/etc/shoal/manifests/a.yaml") {
		t.Errorf("warning: %q", h.Get("Warning"))
	}
	if got := c.status("DELETE", maps+"/a", ""); !strings.HasPrefix(got, "403") {
		t.Errorf("delete: %s", got)
	}
}

func TestANamespaceIsDeletedWithAllThatIsInItOrNotAtAll(t *testing.T) {
	c := newClient(t)
	ns := "/api/v1/namespaces/team"
	c.status("POST", "/api/v1/namespaces", `{"metadata":{"name":"team"}}`)
	c.status("POST", ns+"/configmaps", `{"metadata":{"name":"free"}}`)
	c.status("POST", ns+"/configmaps", `{"metadata":{"name":"kept"}}`)
	kept := manifests.Key{Kind: "ConfigMap", Namespace: "team", Name: "kept"}
	c.Writer.Declared[kept] = "/etc/x.yaml"
	if got := c.status("DELETE", ns, ""); !strings.HasPrefix(got, "403") {
		t.Errorf("with a declared object: %s", got)
	}
	c.get(ns + "/configmaps/free")
	delete(c.Writer.Declared, kept)
	if got := c.status("DELETE", ns, ""); got != "200" {
		t.Errorf("delete: %s", got)
	}
	for _, gone := range []string{ns, ns + "/configmaps/free", ns + "/configmaps/kept"} {
		if got := c.status("GET", gone, ""); !strings.HasPrefix(got, "404") {
			t.Errorf("%s is still there: %s", gone, got)
		}
	}
}

func TestDeleteCollectionTakesWhatMatches(t *testing.T) {
	c := newClient(t)
	x := map[string]string{"k": "x"}
	c.View.Apply(configMap("a", x), configMap("b", nil), configMap("c", x))
	gone, _ := as[v1.ConfigMapList](c, "DELETE", maps+"?labelSelector=k%3Dx", "", nil)
	left, _ := as[v1.ConfigMapList](c, "GET", maps, "", nil)
	if len(gone.Items) != 2 || len(left.Items) != 1 || left.Items[0].Name != "b" {
		t.Errorf("deleted %d, left %d", len(gone.Items), len(left.Items))
	}
}

func TestReadersNeverSeeAnObjectChange(t *testing.T) {
	c := newClient(t)
	pod := webPod(running)
	c.View.Apply(view.Change{Key: webKey, Object: pod})
	before := pod.DeepCopy()
	c.get("/api/v1/pods")
	c.status("PATCH", "/api/v1/namespaces/default/pods/web", `{"metadata":{"labels":{"a":"b"}}}`, "application/strategic-merge-patch+json")
	c.status("DELETE", "/api/v1/namespaces/default/pods/web", "")
	if pod.String() != before.String() || pod.Kind != "" {
		t.Error("an object of the view was changed in place")
	}
}
