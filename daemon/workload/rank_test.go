package workload

import (
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Each pod differs from the last in what its name says, and goes before it.
func TestPodsToDeleteComeInUpstreamsOrder(t *testing.T) {
	at := func(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }
	pod := func(name string, change func(*v1.Pod)) *v1.Pod {
		p := &v1.Pod{}
		p.Name, p.UID, p.CreationTimestamp, p.Spec.NodeName = name, types.UID(name), at(100*time.Hour), "n1"
		p.Status = v1.PodStatus{
			Phase:             v1.PodRunning,
			Conditions:        []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue, LastTransitionTime: at(100 * time.Hour)}},
			ContainerStatuses: []v1.ContainerStatus{{RestartCount: 0}},
		}
		change(p)
		return p
	}
	want := []*v1.Pod{
		pod("unassigned", func(p *v1.Pod) { p.Spec.NodeName = "" }),
		pod("pending", func(p *v1.Pod) { p.Status.Phase = v1.PodPending }),
		pod("not-ready", func(p *v1.Pod) { p.Status.Conditions[0].Status = v1.ConditionFalse }),
		pod("cheap", func(p *v1.Pod) {
			p.Annotations = map[string]string{"controller.kubernetes.io/pod-deletion-cost": "-1"}
		}),
		pod("doubled-up", func(p *v1.Pod) { p.Spec.NodeName = "n2" }),
		pod("ready-lately", func(p *v1.Pod) { p.Status.Conditions[0].LastTransitionTime = at(time.Minute) }),
		pod("restarted", func(p *v1.Pod) { p.Status.ContainerStatuses[0].RestartCount = 3 }),
		pod("young", func(p *v1.Pod) { p.CreationTimestamp = at(time.Hour) }),
		pod("old", func(*v1.Pod) {}),
	}
	related := append([]*v1.Pod{}, want...)
	for i := range 20 {
		related = append(related, pod(fmt.Sprint("other-", i), func(p *v1.Pod) { p.Spec.NodeName = "n2" }))
	}
	got := append([]*v1.Pod{}, want...)
	for i, j := 0, len(got)-1; i < j; i, j = i+1, j-1 {
		got[i], got[j] = got[j], got[i]
	}
	Cluster{Now: now}.expendable(got, related)
	for i := range want {
		if got[i].Name != want[i].Name {
			t.Errorf("place %d has %s, want %s", i, got[i].Name, want[i].Name)
		}
	}
}
