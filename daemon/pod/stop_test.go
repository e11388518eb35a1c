package pod

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestWhoAServiceLeadsToIsNotStoppedAtOnce: until all hosts have heard of it.
func TestWhoAServiceLeadsToIsNotStoppedAtOnce(t *testing.T) {
	deleted := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		serves bool
		grace  int64
		after  time.Duration
		wake   time.Duration // after the deletion; 0: it is sent its signal
	}{
		{"nobody leads to it", false, 30, 0, 0},
		{"at once", true, 30, 0, linger},
		{"later", true, 30, linger - time.Millisecond, linger},
		{"all have heard", true, 30, linger, 0},
		{"the time was rounded up", true, 30, -time.Second, linger},
		{"little grace", true, 1, 0, time.Second / 2},
		{"half of it is over", true, 1, time.Second / 2, 0},
		{"no grace", true, 0, 0, 0},
		{"deleted by a host whose clock is ahead", true, 30, -time.Minute, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &v1.Pod{}
			p.Spec.Containers = []v1.Container{{Name: "c"}}
			at := metav1.NewTime(deleted.Add(time.Duration(c.grace) * time.Second))
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &at, &c.grace
			seen := Observed{Serves: c.serves, Sandbox: Sandbox{Ready: true, Present: true},
				Containers: map[string]Container{"c": {Current: &Attempt{State: Running, Started: deleted.Add(-time.Hour)}}}}
			d := Decide(p, seen, deleted.Add(c.after))
			if signals := len(d.Do) == 1 && (d.Do[0].Verb == Terminate || d.Do[0].Verb == Kill); signals != (c.wake == 0) || len(d.Do) > 1 {
				t.Errorf("does %v", d.Do)
			}
			if c.wake > 0 && !d.Wake.Equal(deleted.Add(c.wake)) {
				t.Errorf("looks again %s after the deletion, want %s", d.Wake.Sub(deleted), c.wake)
			}
		})
	}
}
