package workload

import (
	"testing"

	apps "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// Somebody exports a pod, or copies a template from one, and declares it again.
func TestMarksOfOtherPodsAreNotDeclared(t *testing.T) {
	p := pod(t, declared)
	p.Annotations = map[string]string{"kept": "yes"}
	for _, mark := range marks {
		p.Annotations[mark] = "x"
	}
	if got := WithoutMarks(p); len(got.Annotations) != 1 || got.Annotations["kept"] != "yes" {
		t.Errorf("declared: %v", got.Annotations)
	}
	if len(p.Annotations) != 1+len(marks) {
		t.Errorf("the file's own object was changed: %v", p.Annotations)
	}
	rs := &apps.ReplicaSet{}
	rs.Name, rs.Namespace, rs.UID = "rs", "default", "u"
	rs.Spec.Template.Annotations, rs.Spec.Template.Spec = p.Annotations, p.Spec
	c := Cluster{Objects: view.New(now), Now: now, UID: func(manifests.Key) types.UID { return "u2" }}
	if got := c.newPod(&rs.Spec.Template, rs, KindReplicaSet, 0); len(got.Annotations) != 1 || len(rs.Spec.Template.Annotations) != 1+len(marks) {
		t.Errorf("of a template: %v", got.Annotations)
	}
}

func TestAControllersPodIsNoStaticOneWhateverItsAnnotations(t *testing.T) {
	p := pod(t, declared)
	p.UID = "u"
	p.Annotations = map[string]string{manifests.AnnotationConfigHash: "abc"}
	p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(p, KindReplicaSet.WithVersion("v1"))}
	if got := DeclaredPods(input(p, nil)); len(got) != 0 {
		t.Errorf("no file declares it, and its controller does: %+v", got)
	}
	p.OwnerReferences[0].Kind = "Node"
	if got := DeclaredPods(input(p, nil)); len(got) != 1 || got[0].Verb != Delete {
		t.Errorf("a static pod whose file is gone: %+v", got)
	}
}
