package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/scope"
)

// ended is a host on which no scope is left.
type ended struct{ scope.Host }

func (ended) Stop(context.Context, string) error { return nil }

// Nothing else wakes the worker of a pod of which all has ended.
func TestWhatCannotBeRemovedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTestWorker(t)
		said := &heard{}
		cfg := &w.agent.cfg
		cfg.Events, cfg.Scopes = said, ended{}
		cfg.Publish = func(context.Context, *v1.Pod, v1.PodStatus, bool) {}
		cfg.Log = "\x00" // no file is called so
		w.pod.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		ctx, end := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() { w.run(ctx); close(over) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(said.reasons); n < 2 {
			t.Errorf("said %q; want more than one try", said.reasons)
		}
		end()
		<-over
	})
}

// What is saved is not what the operation under way still writes to.
func TestWhatIsAnnouncedIsACopy(t *testing.T) {
	w := newTestWorker(t)
	making := &pod.Attempt{Number: 3}
	announced := make(chan error)
	go func() { announced <- w.announce("main", making) }()
	<-w.ringing
	w.receive()
	if err := <-announced; err != nil {
		t.Fatal(err)
	}
	if got := w.state.Containers["main"].Starting; got == nil || got == making || got.Number != 3 {
		t.Errorf("saved %p %+v of %p; want a copy", got, got, making)
	}
}
