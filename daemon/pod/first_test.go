package pod

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestFirstIsWhatDecideStarts(t *testing.T) {
	always := v1.ContainerRestartPolicyAlways
	two := v1.PodSpec{Containers: []v1.Container{{Name: "a"}, {Name: "b"}}}
	withInit, withSidecar := *two.DeepCopy(), *two.DeepCopy()
	withInit.InitContainers = []v1.Container{{Name: "i"}, {Name: "j"}}
	withSidecar.InitContainers = []v1.Container{{Name: "s", RestartPolicy: &always}, {Name: "j"}}
	ran := map[string]Container{"a": {Current: &Attempt{State: Exited}}}
	failed := map[string]Container{"a": {Failure: &Failure{At: epoch, Tries: 1}}}
	for name, c := range map[string]struct {
		spec v1.PodSpec
		seen Observed
		want string
	}{
		"side by side":       {two, Observed{}, "start a #0, start b #0"},
		"one init container": {withInit, Observed{}, "start i #0"},
		"a sidecar":          {withSidecar, Observed{}, "start s #0"},
		"not while on hold":  {two, Observed{Hold: true}, ""},
		"one has run":        {two, Observed{Containers: ran}, ""},
		"one must wait":      {two, Observed{Containers: failed}, "start b #0"},
		"rejected":           {two, Observed{Rejected: &Rejection{Reason: "No"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := &v1.Pod{Spec: c.spec}
			var got []string
			for _, a := range First(p, c.seen, epoch) {
				got = append(got, a.String())
			}
			if got := strings.Join(got, ", "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			ready := c.seen
			ready.Sandbox = Sandbox{Ready: true, Present: true}
			if c.want == "" {
				return
			}
			var decided []string
			for _, a := range Decide(p, ready, epoch).Do {
				decided = append(decided, a.String())
			}
			if got := strings.Join(decided, ", "); got != c.want {
				t.Errorf("Decide says %q", got)
			}
		})
	}
}
