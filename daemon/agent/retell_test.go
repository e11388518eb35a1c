package agent

import (
	"context"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestEachPodsStatusIsToldAgain(t *testing.T) {
	w := newTestWorker(t)
	var told []v1.PodPhase
	w.agent.cfg.Publish = func(_ context.Context, _ *v1.Pod, s v1.PodStatus, _ bool) { told = append(told, s.Phase) }
	w.agent.workers[w.uid] = w
	w.status.Phase = v1.PodRunning

	w.agent.Retell() // it is what came with the pod
	w.receive()
	if len(told) > 0 {
		t.Errorf("told %q before anything was decided", told)
	}
	w.decided = true
	w.agent.Retell()
	w.receive()
	if want := []v1.PodPhase{v1.PodRunning}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
