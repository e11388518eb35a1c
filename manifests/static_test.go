package manifests

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestStaticPod(t *testing.T) {
	const head = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n"
	const plain = head + "  containers: [{name: main, image: x}]\n"
	pod := func(text, node string) (*v1.Pod, error) {
		t.Helper()
		objects, problems := Decode("/etc/shoal/static-pods/web.yaml", []byte(text))
		if len(problems) > 0 || len(objects) != 1 {
			t.Fatalf("%d objects, problems %v in:\n%s", len(objects), problems, text)
		}
		return StaticPod(objects[0], node)
	}
	p, err := pod(plain, "Node-1")
	if err != nil {
		t.Fatal(err)
	}
	hash := p.Annotations[AnnotationConfigHash]
	if p.Name != "web-node-1" || p.Namespace != "default" || p.Spec.NodeName != "Node-1" || p.Spec.ServiceAccountName != "" ||
		p.Annotations[AnnotationConfigSource] != "file" || len(hash) != 32 || p.Annotations[v1.MirrorPodAnnotationKey] != hash {
		t.Errorf("got %s/%s on %q for %q, annotations %v", p.Namespace, p.Name, p.Spec.NodeName, p.Spec.ServiceAccountName, p.Annotations)
	}
	if again, _ := pod(plain, "Node-1"); again.Annotations[AnnotationConfigHash] != hash {
		t.Error("the same file has another hash")
	}
	if edited, _ := pod(strings.Replace(plain, "image: x", "image: z", 1), "Node-1"); edited.Annotations[AnnotationConfigHash] == hash {
		t.Error("an edited file has the same hash")
	}
	for want, text := range map[string]string{
		"static pods only: a ConfigMap":                                 "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n",
		"may not reference configmaps":                                  head + "  containers: [{name: main, image: x, envFrom: [{configMapRef: {name: c}}]}]\n",
		"may not reference secrets":                                     head + "  containers: [{name: main, image: x}]\n  volumes: [{name: v, secret: {secretName: s}}]\n",
		"may not reference serviceaccounts":                             head + "  serviceAccountName: robot\n  containers: [{name: main, image: x}]\n",
		"its name with the node's, " + strings.Repeat("w", 252) + "-n1": strings.Replace(plain, "name: web", "name: "+strings.Repeat("w", 252), 1),
	} {
		if _, err := pod(text, "n1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
