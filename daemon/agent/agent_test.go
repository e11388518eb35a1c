package agent

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAPodIsHandedOverAgainOnlyWhenSomethingThatIsFollowedDiffers(t *testing.T) {
	grace := int64(3)
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "u", ResourceVersion: "1", Labels: map[string]string{"a": "b"}}}
	p.Spec.TerminationGracePeriodSeconds = &grace
	for name, tt := range map[string]struct {
		change func(*v1.Pod)
		same   bool
	}{
		"status":          {func(p *v1.Pod) { p.Status.Phase, p.ResourceVersion = v1.PodRunning, "2" }, true},
		"labels":          {func(p *v1.Pod) { p.Labels["a"] = "c" }, false},
		"spec":            {func(p *v1.Pod) { *p.Spec.TerminationGracePeriodSeconds = 4 }, false},
		"its end":         {func(p *v1.Pod) { at := metav1.Now(); p.DeletionTimestamp = &at }, false},
		"a shorter grace": {func(p *v1.Pod) { p.DeletionGracePeriodSeconds = new(int64) }, false},
	} {
		next := p.DeepCopy()
		tt.change(next)
		if got := sameWish(p, next); got != tt.same {
			t.Errorf("%s: the same: %t", name, got)
		}
	}
}
