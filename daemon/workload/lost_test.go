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

// TestAHostThatIsBackInSightDrivesNobodyOutWhoWasStillThere: that its node is
// unreachable takes a while to be taken back.
func TestAHostThatIsBackInSightDrivesNobodyOutWhoWasStillThere(t *testing.T) {
	const tolerated = 2 * time.Second
	yes, one, seconds := true, int32(1), int64(tolerated/time.Second)
	podKey := manifests.Key{Kind: "Pod", Namespace: "default", Name: "p"}
	rsKey := manifests.Key{Group: apps.GroupName, Kind: "ReplicaSet", Namespace: "default", Name: "rs"}
	for _, c := range []struct {
		name        string
		tainted     time.Duration // ago
		back        time.Duration // ago; <0: it is not
		filed, made bool          // the file's pod goes, the set's is replaced
		again       time.Duration // from now; 0: never
	}{
		{"lost, tolerated so far", time.Second, -1, false, false, time.Second},
		{"lost for good", tolerated, -1, true, true, 0},
		{"back before it was due", tolerated, time.Second, false, false, backFor - time.Second},
		{"back when it was due", tolerated, 0, false, false, backFor},
		{"back after it was due", time.Minute, time.Second, false, true, backFor - time.Second},
		{"back for long, and others say that it is not", time.Minute, backFor, true, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			node := &v1.Node{}
			node.Name = "n1"
			node.Status.Conditions = []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionUnknown}}
			since := metav1.NewTime(now.Add(-c.tainted))
			node.Spec.Taints = []v1.Taint{{Key: v1.TaintNodeUnreachable, Effect: v1.TaintEffectNoExecute, TimeAdded: &since}}
			p := &v1.Pod{}
			p.Name, p.Namespace, p.UID, p.Labels = "p", "default", "p", map[string]string{"a": "b"}
			p.CreationTimestamp = metav1.NewTime(now.Add(-time.Hour))
			p.Spec = v1.PodSpec{NodeName: "n1", Tolerations: []v1.Toleration{{Key: v1.TaintNodeUnreachable, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute, TolerationSeconds: &seconds}}}
			rs := &apps.ReplicaSet{}
			rs.Name, rs.Namespace, rs.UID = "rs", "default", "rs"
			rs.Spec = apps.ReplicaSetSpec{Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: p.Labels}}
			rs.Spec.Template.Labels = p.Labels
			objects := view.New(now)
			seen := Cluster{
				Objects: objects, Now: now, UID: func(manifests.Key) types.UID { return "new" },
				Filed: func(k manifests.Key) bool { return k == rsKey }, Gone: func(*v1.Pod) bool { return false },
				Back: func(name string) (at time.Time) {
					if c.back >= 0 && name == "n1" {
						at = now.Add(-c.back)
					}
					return at
				},
			}
			objects.Apply(view.Change{Key: nodeKey("n1"), Object: node}, view.Change{Key: podKey, Object: p})
			got := Reconcile(podKey, seen)
			if goes := len(got.Changes) == 1 && got.Changes[0].Verb == Delete; goes != c.filed || len(got.Changes) > 1 {
				t.Errorf("the file's pod goes: %v, want %v: %+v", goes, c.filed, got.Changes)
			}
			if want := c.again; want > 0 && !got.Again.Equal(now.Add(want)) {
				t.Errorf("the file's pod is looked at again at %v, want in %s", got.Again, want)
			}

			p = p.DeepCopy()
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "rs", UID: "rs", Controller: &yes}}
			objects.Apply(view.Change{Key: podKey, Object: p}, view.Change{Key: rsKey, Object: rs})
			got = Reconcile(rsKey, seen)
			made := false
			for _, change := range got.Changes {
				_, isPod := change.Object.(*v1.Pod)
				made = made || isPod && change.Verb == Create
			}
			if made != c.made {
				t.Errorf("the set's pod is replaced: %v, want %v", made, c.made)
			}
			if !c.made && !got.Again.Equal(now.Add(c.again)) {
				t.Errorf("the set is looked at again at %v, want in %s", got.Again, c.again)
			}
		})
	}
}
