package agent

import (
	"slices"
	"testing"

	"github.com/shoal-project/shoal/daemon/pod"
)

// TestASandboxIsReplacedOnlyWhereItStands: one that is being made gets its address
// from the network of today, and a pod in the host's network has none to lose.
func TestASandboxIsReplacedOnlyWhereItStands(t *testing.T) {
	for what, tt := range map[string]struct {
		sandbox pod.Sandbox
		host    bool
		want    bool
	}{
		"it stands":                 {sandbox: pod.Sandbox{Ready: true, Present: true}, want: true},
		"it is not made yet":        {sandbox: pod.Sandbox{Present: true}},
		"it is being made":          {sandbox: pod.Sandbox{Present: true, Busy: true}},
		"it is being taken down":    {sandbox: pod.Sandbox{Ready: true, Present: true, Busy: true}},
		"it has the host's network": {sandbox: pod.Sandbox{Ready: true, Present: true}, host: true},
	} {
		w := newTestWorker(t)
		said := &heard{}
		w.agent.cfg.Events = said
		w.pod.Spec.HostNetwork = tt.host
		w.seen.Sandbox, w.state.Ready = tt.sandbox, tt.sandbox.Ready
		w.save()
		w.agent.workers[w.uid] = w
		w.agent.ReplaceSandbox(w.uid, "PodCIDRChanged", "another address")
		w.receive()

		if replaced := tt.sandbox.Ready && !w.seen.Sandbox.Ready; replaced != tt.want {
			t.Errorf("%s: replaced %t, want %t", what, replaced, tt.want)
		}
		if told := slices.Equal(said.reasons, []string{"PodCIDRChanged"}); told != tt.want || len(said.reasons) > 1 {
			t.Errorf("%s: said %q", what, said.reasons)
		}
		s, err := readState(w.dir())
		if err != nil {
			t.Fatal(err)
		}
		if want := tt.sandbox.Ready && !tt.want; s.Ready != want {
			t.Errorf("%s: the next daemon takes it for ready: %t, want %t", what, s.Ready, want)
		}
	}
}
