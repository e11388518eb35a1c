package manifests

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// docs are the objects of all files in testdata/kubernetes-docs.
func docs(t testing.TB) []Object {
	paths, err := filepath.Glob("testdata/kubernetes-docs/*")
	if err != nil || len(paths) < 19 {
		t.Fatalf("%d example files, %v", len(paths), err)
	}
	var all []Object
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		objects, problems := Decode(filepath.Base(path), data)
		for _, p := range problems {
			t.Error(p)
		}
		if len(objects) == 0 {
			t.Errorf("%s declares nothing", path)
		}
		all = append(all, objects...)
	}
	return all
}

func TestDocumentationExamplesAreAccepted(t *testing.T) {
	seen := map[schema.GroupKind]bool{}
	for _, o := range docs(t) {
		seen[o.Key.GroupKind()] = true
	}
	if len(seen) < 25 {
		t.Errorf("only %d kinds are covered", len(seen))
	}
}

func TestDeclaredGivesTheObjectBack(t *testing.T) {
	for _, o := range docs(t) {
		back, err := FromDeclared(o.Declared)
		if err != nil {
			t.Errorf("%s: %v", o.Key, err)
			continue
		}
		if !apiequality.Semantic.DeepEqual(back, o.Value) {
			t.Errorf("%s: FromDeclared gives another object than Decode", o.Key)
		}
		again, problems := Decode("declared.json", o.Declared)
		if len(problems) > 0 || len(again) != 1 || !bytes.Equal(again[0].Declared, o.Declared) || again[0].Key != o.Key {
			t.Errorf("%s: Decode(Declared) does not declare the same: %v", o.Key, problems)
		}
		if key, err := KeyOf(back); err != nil || key != o.Key {
			t.Errorf("%s: key of what came back: %v, %v", o.Key, key, err)
		}
	}
}

func TestDefaultTwiceChangesNothing(t *testing.T) {
	for _, o := range docs(t) {
		again := o.Value.DeepCopyObject()
		Default(again)
		if !apiequality.Semantic.DeepEqual(again, o.Value) {
			t.Errorf("%s: a second Default changed the object", o.Key)
		}
	}
}

func TestAnUnchangedObjectIsAValidUpdate(t *testing.T) {
	for _, o := range docs(t) {
		if o.Key.Kind == "ControllerRevision" {
			continue
		}
		before, err := json.Marshal(o.Value)
		if err != nil {
			t.Fatal(err)
		}
		if errs := ValidateUpdate(o.Value, o.Value); len(errs) > 0 {
			t.Errorf("%s: %v", o.Key, errs)
		}
		if after, _ := json.Marshal(o.Value); !bytes.Equal(before, after) {
			t.Errorf("%s: ValidateUpdate changed its argument", o.Key)
		}
	}
}

func TestEveryKindIsInTheScheme(t *testing.T) {
	for gk, k := range kinds {
		gvk := gk.WithVersion(k.version)
		obj, err := Scheme.New(gvk)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if _, err := canonical(obj); err != nil {
			t.Errorf("%s: %v", gvk, err)
		}
		// A rule for another type than the kind's would panic here.
		if errs := Validate(obj); len(errs) == 0 {
			t.Errorf("%s: an empty object is valid", gvk)
		}
		ValidateUpdate(obj, obj)
	}
}

func podOf(t *testing.T, spec string) *corev1.Pod {
	t.Helper()
	objects, problems := Decode("pod.yaml", []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {"+spec+"}"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return objects[0].Value.(*corev1.Pod)
}

func TestWhatOfAPodMayChangeInPlace(t *testing.T) {
	old := `containers: [{name: a, image: x, resources: {requests: {cpu: 1}, limits: {cpu: 2}}}], initContainers: [{name: i, image: i, resources: {limits: {cpu: 1, memory: 1Mi}}}]`
	for _, c := range []struct{ name, spec, want string }{
		{"nothing", old, ""},
		{"image", strings.ReplaceAll(old, "image: x", "image: v2"), ""},
		{"resources", strings.Replace(old, "cpu: 1", "cpu: 500m", 1), ""},
		{"image and resources", strings.Replace(strings.Replace(old, "cpu: 2", "cpu: 3", 1), "image: x", "image: z", 1), ""},
		{"toleration added", old + ", tolerations: [{key: a, operator: Exists}]", ""},
		{"deadline set", old + ", activeDeadlineSeconds: 5", ""},
		{"command", strings.Replace(old, "name: a", "name: a, command: [b]", 1), "spec: Forbidden: pod updates may not change fields"},
		{"host network", old + ", hostNetwork: true", "spec: Forbidden: pod updates may not change fields"},
		{"container added", strings.Replace(old, "[{name: a", "[{name: b, image: x}, {name: a", 1), "containers"},
		{"QoS class", strings.Replace(old, "requests: {cpu: 1}, limits: {cpu: 2}", "limits: {cpu: 2, memory: 1Gi}", 1), "Pod QOS Class may not change"},
		{"limits taken away", strings.Replace(old, ", limits: {cpu: 2}", "", 1), "resource limits cannot be removed"},
	} {
		errs := ValidateUpdate(podOf(t, c.spec), podOf(t, old))
		got := ""
		if len(errs) > 0 {
			got = errs.ToAggregate().Error()
		}
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestUpdateRulesOfOtherKinds(t *testing.T) {
	one := func(text string) runtime.Object {
		objects, problems := Decode("x.yaml", []byte(text))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return objects[0].Value
	}
	svc := func(extra string) *corev1.Service {
		return one("apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 80}]" + extra + "}").(*corev1.Service)
	}
	allocated := svc("")
	allocated.Spec.ClusterIP, allocated.Spec.ClusterIPs = "10.0.0.1", []string{"10.0.0.1"}
	allocated.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	single := corev1.IPFamilyPolicySingleStack
	allocated.Spec.IPFamilyPolicy = &single
	if errs := ValidateUpdate(svc(", selector: {a: b}"), allocated); len(errs) > 0 {
		t.Errorf("a service whose address was allocated: %v", errs)
	}
	if errs := ValidateUpdate(svc(", clusterIP: 10.0.0.2"), allocated); len(errs) == 0 {
		t.Error("an allocated address may change")
	}
	immutable := one("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\nimmutable: true")
	changed := one("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: c}\nimmutable: true")
	if errs := ValidateUpdate(changed, immutable); len(errs) != 1 || errs[0].Field != "data" {
		t.Errorf("got %v", errs)
	}
	if errs := ValidateUpdate(changed, allocated); len(errs) != 1 {
		t.Errorf("another kind: got %v", errs)
	}
	ds := func(image string) runtime.Object {
		return one("apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: d}\nspec: {selector: {matchLabels: {a: b}}, " +
			"template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: " + image + "}]}}}")
	}
	if errs := ValidateUpdate(ds("new"), ds("old")); len(errs) > 0 {
		t.Errorf("a daemon set's template may not change: %v", errs)
	}
}

func TestSecretsAndAutoscalersComeInOneForm(t *testing.T) {
	objects, problems := Decode("x.yaml", []byte(`
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {a: hello}
---
apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata: {name: h}
spec: {maxReplicas: 2, targetCPUUtilizationPercentage: 50, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	secret := objects[0].Value.(*corev1.Secret)
	if string(secret.Data["a"]) != "hello" || len(secret.StringData) > 0 {
		t.Errorf("got %+v", secret)
	}
	if v := objects[1].Value.GetObjectKind().GroupVersionKind().Version; v != "v2" {
		t.Errorf("autoscaler in version %s", v)
	}
}

func TestFromDeclaredPassesOverFieldsOfNewerVersions(t *testing.T) {
	obj, err := FromDeclared([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","new":1},"spec":{"containers":[{"name":"a","image":"b","warp":{"x":[1]}}]}}`))
	if err != nil || obj.(*corev1.Pod).Spec.Containers[0].ImagePullPolicy != corev1.PullAlways {
		t.Errorf("got %v, %v", obj, err)
	}
	if _, err := FromDeclared([]byte(`{"apiVersion":"x/v1","kind":"Y"}`)); err == nil {
		t.Error("an unknown kind was accepted")
	}
}

func TestNamespacedKnowsScopes(t *testing.T) {
	for gk, want := range map[schema.GroupKind][2]bool{
		{Kind: "Pod"}:                   {true, true},
		{Kind: "Node"}:                  {false, true},
		{Group: "apps", Kind: "Gadget"}: {false, false},
		{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}: {false, true},
	} {
		namespaced, known := Namespaced(gk)
		if got := [2]bool{namespaced, known}; got != want {
			t.Errorf("%s: got %v, want %v", gk, got, want)
		}
	}
}
