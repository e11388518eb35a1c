package workload

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

func TestTaintsDriveOutWhoDoesNotTolerateThem(t *testing.T) {
	minute, zero, hour := int64(60), int64(0), int64(3600)
	added := metav1.NewTime(now.Add(-30 * time.Second))
	out := v1.Taint{Key: "out", Effect: v1.TaintEffectNoExecute, TimeAdded: &added}
	tolerate := func(key string, seconds *int64) v1.Toleration {
		return v1.Toleration{Key: key, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute, TolerationSeconds: seconds}
	}
	placed := func(ago time.Duration) func(*v1.Pod) {
		return func(p *v1.Pod) {
			p.Status.Conditions = []v1.PodCondition{{Type: v1.PodScheduled, Status: v1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-ago))}}
		}
	}
	for _, c := range []struct {
		name   string
		taints []v1.Taint
		by     []v1.Toleration
		change func(*v1.Pod)
		goes   bool
		again  time.Duration // from now; 0: never
	}{
		{"no taint", nil, nil, nil, false, 0},
		{"a taint that only keeps out", []v1.Taint{{Key: "out", Effect: v1.TaintEffectNoSchedule}}, nil, nil, false, 0},
		{"not tolerated", []v1.Taint{out}, nil, nil, true, 0},
		{"tolerated for ever", []v1.Taint{out}, []v1.Toleration{tolerate("out", nil)}, nil, false, 0},
		{"tolerated for a minute, half of which is over", []v1.Taint{out}, []v1.Toleration{tolerate("out", &minute)}, placed(time.Hour), false, 30 * time.Second},
		{"tolerated for a minute, placed after the taint was there", []v1.Taint{out}, []v1.Toleration{tolerate("out", &minute)}, placed(10 * time.Second), false, 50 * time.Second},
		{"tolerated for no time", []v1.Taint{out}, []v1.Toleration{tolerate("out", &zero)}, placed(time.Hour), true, 0},
		{"the first of two to run out counts", []v1.Taint{out, {Key: "b", Effect: v1.TaintEffectNoExecute, TimeAdded: &added}},
			[]v1.Toleration{tolerate("out", &hour), tolerate("b", &minute)}, placed(time.Hour), false, 30 * time.Second},
		{"of two taints one is not tolerated", []v1.Taint{out, {Key: "b", Effect: v1.TaintEffectNoExecute}}, []v1.Toleration{tolerate("out", nil)}, nil, true, 0},
		{"a static pod", []v1.Taint{out}, nil, func(p *v1.Pod) {
			yes := true
			p.Annotations = map[string]string{manifests.AnnotationConfigHash: "h"}
			p.OwnerReferences = []metav1.OwnerReference{{Kind: "Node", Name: "n1", Controller: &yes}}
		}, false, 0},
		{"one that has ended", []v1.Taint{out}, nil, func(p *v1.Pod) { p.Status.Phase = v1.PodFailed }, false, 0},
		{"one without a node", []v1.Taint{out}, nil, func(p *v1.Pod) { p.Spec.NodeName = "" }, false, 0},
		{"one that goes already", []v1.Taint{out}, nil, func(p *v1.Pod) { p.DeletionTimestamp = &added }, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			objects := view.New(now)
			n := &v1.Node{}
			n.Name, n.Spec.Taints = "n1", c.taints
			p := &v1.Pod{}
			p.Name, p.Namespace, p.UID, p.Spec.NodeName, p.Spec.Tolerations = "p", "default", types.UID("u"), "n1", c.by
			p.CreationTimestamp = metav1.NewTime(now.Add(-time.Hour))
			if c.change != nil {
				c.change(p)
			}
			key := manifests.Key{Kind: "Pod", Namespace: "default", Name: "p"}
			objects.Apply(view.Change{Key: manifests.Key{Kind: "Node", Name: "n1"}, Object: n}, view.Change{Key: key, Object: p})
			got := Reconcile(key, Cluster{Objects: objects, Now: now, Filed: func(manifests.Key) bool { return true }, Gone: func(*v1.Pod) bool { return false }})
			goes := len(got.Changes) == 1 && got.Changes[0].Verb == Delete && len(got.Events) == 1 && got.Events[0].Reason == "TaintManagerEviction"
			if goes != c.goes || len(got.Changes) > 0 && !c.goes {
				t.Errorf("goes %v, want %v: %+v", goes, c.goes, got)
			}
			var want time.Time
			if c.again > 0 {
				want = now.Add(c.again)
			}
			if !got.Again.Equal(want) {
				t.Errorf("looks again at %v, want %v", got.Again, want)
			}
		})
	}
}

func TestANodesNewTaintConcernsItsPods(t *testing.T) {
	objects := view.New(now)
	key := manifests.Key{Kind: "Pod", Namespace: "default", Name: "p"}
	for _, name := range []string{"p", "q"} {
		p := &v1.Pod{}
		p.Name, p.Namespace, p.Spec.NodeName = name, "default", map[string]string{"p": "n1", "q": "n2"}[name]
		objects.Apply(view.Change{Key: manifests.Key{Kind: "Pod", Namespace: "default", Name: name}, Object: p})
	}
	old, tainted := &v1.Node{}, &v1.Node{}
	old.Name, tainted.Name = "n1", "n1"
	tainted.Spec.Taints = []v1.Taint{{Key: "out", Effect: v1.TaintEffectNoExecute}}
	nodeKey := manifests.Key{Kind: "Node", Name: "n1"}
	if got := Affected(objects, nodeKey, old, tainted); len(got) != 1 || got[0] != key {
		t.Errorf("got %v, want p alone", got)
	}
	if got := Affected(objects, nodeKey, tainted, tainted.DeepCopy()); len(got) != 0 {
		t.Errorf("nothing changed, and %v are to look", got)
	}
}
