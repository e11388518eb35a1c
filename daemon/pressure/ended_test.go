package pressure

import (
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestOnlyControllersPodsThatEndedGoBeyondTheThreshold(t *testing.T) {
	pod := func(name string, age time.Duration, phase v1.PodPhase, reason, owner string) *v1.Pod {
		p := &v1.Pod{}
		p.Name, p.CreationTimestamp = name, metav1.NewTime(ago(age))
		p.Status.Phase, p.Status.Reason = phase, reason
		if owner != "" {
			yes := true
			p.OwnerReferences = []metav1.OwnerReference{{Name: owner, Controller: &yes}}
		}
		return p
	}
	leaving := pod("leaving", 9*time.Hour, v1.PodFailed, "", "rs")
	now := metav1.NewTime(t0)
	leaving.DeletionTimestamp = &now
	pods := []*v1.Pod{
		pod("young", time.Hour, v1.PodSucceeded, "", "job"), pod("old", 3*time.Hour, v1.PodSucceeded, "", "job"),
		pod("evicted", 2*time.Hour, v1.PodFailed, "Evicted", "rs"), pod("file", 8*time.Hour, v1.PodFailed, "Evicted", ""),
		pod("runs", 9*time.Hour, v1.PodRunning, "", "rs"), leaving,
	}
	for keep, want := range map[int]string{-1: "", 3: "", 2: "evicted", 1: "evicted old", 0: "evicted old young"} {
		var names []string
		for _, p := range Ended(pods, keep) {
			names = append(names, p.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("keeping %d: got %q, want %q", keep, got, want)
		}
	}
}

func TestAPodsPriorityIsItsOwnItsClassesOrTheDefault(t *testing.T) {
	classes := map[string]int32{"high": 1000, "": 7}
	class := func(name string) (int32, bool) { v, ok := classes[name]; return v, ok }
	own := int32(3)
	for _, test := range []struct {
		spec v1.PodSpec
		want int32
	}{
		{v1.PodSpec{}, 7},
		{v1.PodSpec{PriorityClassName: "high"}, 1000},
		{v1.PodSpec{PriorityClassName: "high", Priority: &own}, 3},
		{v1.PodSpec{PriorityClassName: "gone"}, 0},
		{v1.PodSpec{PriorityClassName: "system-node-critical"}, 2000001000},
		{v1.PodSpec{PriorityClassName: "system-cluster-critical"}, 2000000000},
	} {
		if got := Priority(&v1.Pod{Spec: test.spec}, class); got != test.want {
			t.Errorf("%+v: got %d, want %d", test.spec.PriorityClassName, got, test.want)
		}
	}
}
