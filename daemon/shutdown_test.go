package daemon

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/shoal-project/shoal/daemon/placement"
	"github.com/shoal-project/shoal/daemon/shutdown"
)

func TestAGroupOfPodsIsWaitedForUntilAllHaveEndedOrItsTimeIsOver(t *testing.T) {
	for _, test := range []struct {
		name   string
		ends   []time.Duration // of the pods
		called time.Duration   // off, then
		want   time.Duration
		late   bool
	}{
		{"all end", []time.Duration{3 * time.Second, time.Second}, time.Hour, 3 * time.Second, false},
		{"one does not", []time.Duration{time.Second, time.Hour}, time.Hour, 10 * time.Second, true},
		{"called off", []time.Duration{time.Hour}, 4 * time.Second, 4 * time.Second, true},
		{"nobody is in it", nil, time.Hour, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), test.called)
				defer cancel()
				var over []<-chan struct{}
				for _, after := range test.ends {
					done := make(chan struct{})
					time.AfterFunc(after, func() { close(done) })
					over = append(over, done)
				}
				start := time.Now()
				err := waitFor(ctx, over, 10*time.Second)
				if got := time.Since(start); got != test.want || (err != nil) != test.late {
					t.Errorf("after %s: %v, want after %s", got, err, test.want)
				}
			})
		})
	}
}

func TestAPodOfAGroupWithoutTimeIsNotKilledAtOnce(t *testing.T) {
	own := int64(7)
	p := &v1.Pod{}
	p.Spec.TerminationGracePeriodSeconds = &own
	for group, want := range map[time.Duration]time.Duration{0: 7 * time.Second, 5 * time.Second: 5 * time.Second} {
		if got := ending(shutdown.Group{Period: shutdown.Period{Grace: group}}, p).Grace; got != want {
			t.Errorf("a group of %s: got %s, want %s", group, got, want)
		}
	}
}

func TestTheNodeIsNotReadyAndTakesNobodyInWhileItShutsDown(t *testing.T) {
	d := &Daemon{started: time.Unix(1000, 0)}
	p := &v1.Pod{}
	p.Spec.RestartPolicy = v1.RestartPolicyAlways
	p.Status = v1.PodStatus{Phase: v1.PodFailed, Reason: shutdown.Reason, Message: shutdown.Message}
	if c := d.ready(); c.Status != v1.ConditionTrue || d.endedByShutdown(p) == "" {
		t.Errorf("up: got %+v, again %q", c, d.endedByShutdown(p))
	}
	d.power.Store(&power{down: true, at: time.Unix(2000, 0)})
	c := d.ready()
	if c.Status != v1.ConditionFalse || c.Reason != "KubeletNotReady" || c.Message != "node is shutting down" || c.LastTransitionTime.Unix() != 2000 {
		t.Errorf("down: got %+v", c)
	}
	if r := d.refuse(p); r == nil || r.Reason != "NodeShutdown" || r.Message != "Pod was rejected as the node is shutting down." {
		t.Errorf("down: a pod is refused with %+v", r)
	}
	d.pressure.Store(&nodePressure{})
	n := &v1.Node{}
	d.addPressure(n)
	n.Name, n.Status.Allocatable = "n1", v1.ResourceList{v1.ResourcePods: resource.MustParse("110")}
	out := placement.New([]*v1.Node{n}, nil, nil).Place(&v1.Pod{}, placement.Options{})
	if out.Node != "" || d.endedByShutdown(p) != "" {
		t.Error("down: a pod is taken in")
	}
}
