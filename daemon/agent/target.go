package agent

import (
	"fmt"
	"os"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/pod"
)

// targetOf names the container whose processes an ephemeral one is to see; ""
// when it needs no help for that, or wants none.
func targetOf(p *v1.Pod, name string) string {
	if share := p.Spec.ShareProcessNamespace; p.Spec.HostPID || share != nil && *share {
		return ""
	}
	for _, c := range p.Spec.EphemeralContainers {
		if c.Name == name {
			return c.TargetContainerName
		}
	}
	return ""
}

// targetBundle is where the target of an ephemeral container runs; "" when it
// has none, or that does not run.
func (w *worker) targetBundle(name string) string {
	target := targetOf(w.pod, name)
	if a := w.seen.Containers[target].Current; target != "" && a != nil && a.State == pod.Running {
		return w.bundle(target, a.Number)
	}
	return ""
}

// targetNamespace opens the PID namespace of an ephemeral container's target;
// nil when it has none.
func (j job) targetNamespace(name string) (*os.File, error) {
	target := targetOf(j.pod, name)
	if target == "" {
		return nil, nil
	}
	missing := &failure{string(container.CreateContainerConfigError), fmt.Errorf("unable to find target container %q: it is not running", target)}
	if j.target == "" {
		return nil, missing
	}
	before, err := j.w.agent.cfg.Containers.Read(j.target)
	if err != nil || before.Phase != container.Running {
		return nil, missing
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", before.PID))
	if err != nil {
		return nil, missing
	}
	// As it still runs, that was not somebody else's process of the same number.
	if now, err := j.w.agent.cfg.Containers.Read(j.target); err != nil || now.Phase != container.Running || now.PID != before.PID {
		ns.Close()
		return nil, missing
	}
	return ns, nil
}
