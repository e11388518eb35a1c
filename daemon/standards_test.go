package daemon

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/errors"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

const hostNetworkPod = `apiVersion: v1
kind: Pod
metadata: {namespace: strict, name: p}
spec: {hostNetwork: true, containers: [{name: c, image: i}]}
`

func namespaceWith(label, level string) string {
	return "apiVersion: v1\nkind: Namespace\nmetadata: {name: strict, labels: {pod-security.kubernetes.io/" + label + ": " + level + "}}\n"
}

func TestAPodThatItsNamespaceRefusesIsAProblemOfItsFile(t *testing.T) {
	f := openFiles(t, t.TempDir(), "n1")
	f.write("z-namespace.yaml", namespaceWith("enforce", "baseline"))
	f.write("pod.yaml", "# first line\n"+hostNetworkPod)
	f.scan()
	if _, ok := f.view.Get(manifests.Key{Kind: "Pod", Namespace: "strict", Name: "p"}); ok {
		t.Error("the pod is there")
	}
	problems := f.set.AllProblems()
	want := `pod.yaml:2:1: pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`
	if len(problems) != 1 || !strings.HasSuffix(problems[0].Error(), want) {
		t.Errorf("got %v, want %s", problems, want)
	}
	for _, s := range f.manifestList().Sources {
		if strings.HasSuffix(s.Path, "/pod.yaml") && s.Objects[0].State != api.StateInvalid {
			t.Errorf("shoal manifests says %s", s.Objects[0].State)
		}
	}
}

func TestANamespacesLabelsAreValidatedAndTemplatesWarnedOf(t *testing.T) {
	f := openFiles(t, t.TempDir(), "n1")
	f.write("namespace.yaml", namespaceWith("warn", "restricted"))
	f.scan()
	deployment := decodeOne(t, `{apiVersion: apps/v1, kind: Deployment, metadata: {namespace: strict, name: d}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}`)
	warnings, err := f.applyStandards(deployment.Key, deployment.Value.(view.Object), nil)
	if err != nil || len(warnings) != 1 || !strings.HasPrefix(warnings[0], `would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false`) {
		t.Errorf("got %q, %v", warnings, err)
	}
	pod := decodeOne(t, hostNetworkPod)
	if _, err := f.applyStandards(pod.Key, pod.Value.(view.Object), nil); err != nil {
		t.Errorf("a warning refuses: %v", err)
	}
	bad := decodeOne(t, namespaceWith("enforce", "strict"))
	if _, err := f.applyStandards(bad.Key, bad.Value.(view.Object), nil); !errors.IsInvalid(err) {
		t.Errorf("of a level that is no level: got %v", err)
	}
	f.write("namespace.yaml", namespaceWith("enforce", "restricted"))
	f.scan()
	if _, err := f.applyStandards(pod.Key, pod.Value.(view.Object), nil); !errors.IsForbidden(err) || !strings.HasPrefix(err.Error(), `pods "p" is forbidden: violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true), `) {
		t.Errorf("got %v", err)
	}
}

func decodeOne(t *testing.T, text string) manifests.Object {
	t.Helper()
	objects, problems := manifests.Decode("f", []byte(text))
	if len(objects) != 1 || len(problems) > 0 {
		t.Fatalf("%d objects, %v", len(objects), problems)
	}
	return objects[0]
}
