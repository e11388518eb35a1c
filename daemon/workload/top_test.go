package workload

import (
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

func TestAControllersPodsAreOfOneTop(t *testing.T) {
	v := view.New(time.Unix(0, 0))
	put := func(o view.Object, owner view.Object, labels map[string]string) manifests.Key {
		o.SetNamespace("x")
		o.SetUID(types.UID("of " + o.GetName()))
		o.SetLabels(labels)
		if owner != nil {
			kind, err := manifests.GVKFor(owner)
			if err != nil {
				t.Fatal(err)
			}
			o.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(owner, kind)})
		}
		v.Apply(view.Change{Key: keyOf(o), Object: o})
		return keyOf(o)
	}
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	hash := map[string]string{apps.DefaultDeploymentUniqueLabelKey: "abc"}

	web := &apps.Deployment{ObjectMeta: named("web")}
	set := &apps.ReplicaSet{ObjectMeta: named("web-abc")}
	gone := &apps.ReplicaSet{ObjectMeta: named("gone-abc")}
	lone := &apps.ReplicaSet{ObjectMeta: named("lone")}
	agents := &apps.DaemonSet{ObjectMeta: named("agents")}
	put(web, nil, nil)
	put(lone, nil, nil)
	gone.Namespace = "x"
	for _, c := range []struct {
		what string
		key  manifests.Key
		want string
	}{
		{"a replica set of a deployment", put(set, web, hash), "apps/Deployment/x/web"},
		{"a pod of a deployment", put(&v1.Pod{ObjectMeta: named("web-abc-1")}, set, hash), "apps/Deployment/x/web"},
		{"a pod whose replica set is gone", put(&v1.Pod{ObjectMeta: named("gone-abc-1")}, gone, hash), "apps/Deployment/x/gone"},
		{"a pod of a replica set", put(&v1.Pod{ObjectMeta: named("lone-1")}, lone, hash), "apps/ReplicaSet/x/lone"},
		{"a pod of a daemon set", put(&v1.Pod{ObjectMeta: named("agents-1")}, agents, nil), "apps/DaemonSet/x/agents"},
		{"a revision of a daemon set", put(&apps.ControllerRevision{ObjectMeta: named("agents-2")}, agents, nil), "apps/DaemonSet/x/agents"},
		{"a pod alone", put(&v1.Pod{ObjectMeta: named("alone")}, nil, hash), "/Pod/x/alone"},
		{"what is not there", manifests.Key{Kind: "Pod", Namespace: "x", Name: "none"}, "/Pod/x/none"},
	} {
		if got := Top(v, c.key).String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}
