package workload

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	node "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/shoal-project/shoal/manifests"
)

const slowClass = `
metadata: {name: slow}
handler: h
overhead: {podFixed: {cpu: 250m, memory: 64Mi}}
scheduling: {nodeSelector: {kvm: "yes"}, tolerations: [{key: kvm, operator: Exists}]}
`

func parse[T any](t *testing.T, text string) *T {
	t.Helper()
	var v T
	if err := yaml.UnmarshalStrict([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return &v
}

func TestARuntimeClassCompletesOrRefusesPods(t *testing.T) {
	for _, test := range []struct{ name, class, spec, want, refused string }{
		{"none", "", `{}`, `{}`, ""},
		{"of no overhead", `{metadata: {name: slow}, handler: h}`, `{runtimeClassName: slow}`, `{runtimeClassName: slow}`, ""},
		{"missing", "", `{runtimeClassName: slow}`, "", `pod rejected: RuntimeClass "slow" not found`},
		{"all that it adds", slowClass, `{runtimeClassName: slow}`,
			`{runtimeClassName: slow, overhead: {cpu: 250m, memory: 64Mi}, nodeSelector: {kvm: "yes"}, tolerations: [{key: kvm, operator: Exists}]}`, ""},
		{"merged with the pod's", slowClass,
			`{runtimeClassName: slow, overhead: {cpu: "0.25", memory: 64Mi}, nodeSelector: {disk: ssd}, tolerations: [{key: kvm, value: "yes"}, {key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 5}]}`,
			`{runtimeClassName: slow, overhead: {cpu: 250m, memory: 64Mi}, nodeSelector: {disk: ssd, kvm: "yes"}, tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 5}, {key: kvm, operator: Exists}]}`, ""},
		{"another overhead", slowClass, `{runtimeClassName: slow, overhead: {cpu: 1}}`, "",
			"pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"},
		{"overhead without a class", "", `{overhead: {cpu: 1}}`, "",
			"pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"},
		{"another node", slowClass, `{runtimeClassName: slow, nodeSelector: {kvm: "no"}}`, "",
			"conflict: runtimeClass.scheduling.nodeSelector[kvm] = yes; pod.spec.nodeSelector[kvm] = no"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &v1.Pod{Spec: *parse[v1.PodSpec](t, test.spec)}
			var class *node.RuntimeClass
			if test.class != "" {
				class = parse[node.RuntimeClass](t, test.class)
			}
			before := asYAML(t, p.Spec)
			err := ApplyRuntimeClass(p, class)
			if test.refused != "" {
				if err == nil || err.Error() != test.refused || asYAML(t, p.Spec) != before {
					t.Errorf("got %v and %s, want %s", err, asYAML(t, p.Spec), test.refused)
				}
				return
			}
			if want := asYAML(t, parse[v1.PodSpec](t, test.want)); err != nil || asYAML(t, p.Spec) != want {
				t.Errorf("got %v and %s, want %s", err, asYAML(t, p.Spec), want)
			}
			if after := asYAML(t, p.Spec); ApplyRuntimeClass(p, class) != nil || asYAML(t, p.Spec) != after {
				t.Errorf("a second time it is %s", asYAML(t, p.Spec))
			}
		})
	}
}

func asYAML(t *testing.T, v any) string {
	t.Helper()
	b, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestWhatAClassAddedIsNoEdit: the same file after the pod was made, and an edit
// that Kubernetes allows in place, do not replace it, also when the class has
// gone since.
func TestWhatAClassAddedIsNoEdit(t *testing.T) {
	const declared = `
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: default}
spec: {runtimeClassName: slow, tolerations: [{key: a, operator: Exists}], containers: [{name: c, image: i}]}
`
	of := func(text string) *v1.Pod {
		objects, problems := manifests.Decode("f", []byte(text))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return objects[0].Value.(*v1.Pod)
	}
	key := manifests.Key{Kind: "Pod", Namespace: "default", Name: "p"}
	class := parse[node.RuntimeClass](t, slowClass)
	in := Input{
		Declared:     map[manifests.Key]*v1.Pod{key: of(declared)},
		UID:          func(manifests.Key) types.UID { return "u" },
		RuntimeClass: func(string) *node.RuntimeClass { return class },
	}
	made := DeclaredPods(in)[0].Pod
	if made.Spec.Overhead.Cpu().String() != "250m" || made.Spec.NodeSelector["kvm"] != "yes" || len(made.Spec.Tolerations) < 2 {
		t.Fatalf("made %+v", made.Spec)
	}
	if next, why := UpdateInPlace(made, of(declared)); next != nil || why != "" {
		t.Errorf("the same file: %v, %q", next, why)
	}
	next, why := UpdateInPlace(made, of(strings.ReplaceAll(declared, "image: i", "image: j")))
	if why != "" || next == nil || next.Spec.Overhead.Cpu().String() != "250m" {
		t.Errorf("another image: %v, %q", next, why)
	}
	if _, why := UpdateInPlace(made, of(strings.ReplaceAll(declared, "slow", "fast"))); why != "spec.runtimeClassName can't be changed in place" &&
		!strings.HasSuffix(why, "can't be changed in place") {
		t.Errorf("another class: %q", why)
	}
}
