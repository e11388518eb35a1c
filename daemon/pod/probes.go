package pod

import (
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/probe"
)

// Probed is a probe that is to be repeated now.
type Probed struct {
	Container string
	Attempt   int
	Kind      probe.Kind
}

// probes are those that are to be repeated: of running containers, a startup
// probe before the others, and in a pod that ends or a container that is being
// stopped readiness alone.
func (d *decider) probes() []Probed {
	var list []Probed
	for _, c := range d.lasting() {
		seen := d.seen.Containers[c.Name]
		a := seen.Current
		if a == nil || a.State != Running || a.PostStart == HookPending || seen.Busy || seen.Unsupervised || a.OldSandbox {
			continue
		}
		for _, k := range probe.Kinds {
			p := probe.Of(c, k)
			if p == nil || a.Probes.Of(k).Over(k) || k != probe.Readiness && (d.ends || stopping(a)) {
				continue
			}
			if (k == probe.Startup) == started(c, a) {
				continue
			}
			list = append(list, Probed{Container: c.Name, Attempt: a.Number, Kind: k})
		}
	}
	return list
}

// lasting are the containers that are not to end by themselves: sidecars and
// main ones.
func (d *decider) lasting() []*v1.Container {
	var list []*v1.Container
	for i := range d.pod.Spec.InitContainers {
		if c := &d.pod.Spec.InitContainers[i]; isSidecar(c) {
			list = append(list, c)
		}
	}
	for i := range d.pod.Spec.Containers {
		list = append(list, &d.pod.Spec.Containers[i])
	}
	return list
}

// started says whether a run has passed its postStart hook and startup probe.
func started(c *v1.Container, a *Attempt) bool {
	return a != nil && a.State == Running && a.PostStart != HookPending && a.PostStart != HookFailed &&
		(c.StartupProbe == nil || a.Probes.Startup.Result == probe.Success)
}

// ready says whether a container that started has passed its readiness probe.
func ready(c *v1.Container, a *Attempt) bool {
	return started(c, a) && (c.ReadinessProbe == nil || a.Probes.Readiness.Result == probe.Success)
}

// stopping says whether a run was asked to end.
func stopping(a *Attempt) bool { return !a.Stopping.IsZero() || !a.Signalled.IsZero() }

// unwell is why a running container has to be replaced, with the grace that it
// gets (the kubelet's setTerminationGracePeriod); "" if it has not.
func (d *decider) unwell(c *v1.Container, a *Attempt) (message string, grace time.Duration) {
	grace = GracePeriod(d.pod)
	name := "Container " + c.Name
	if d.isInit(c.Name) {
		name = "Init container " + c.Name
	}
	for _, k := range []probe.Kind{probe.Liveness, probe.Startup} {
		p := probe.Of(c, k)
		if p == nil || a.Probes.Of(k).Result != probe.Failure {
			continue
		}
		if s := p.TerminationGracePeriodSeconds; s != nil {
			grace = time.Duration(*s) * time.Second
		}
		message = fmt.Sprintf("%s failed %s probe", name, map[probe.Kind]string{probe.Liveness: "liveness", probe.Startup: "startup"}[k])
		if !d.isInit(c.Name) && d.restartsUnwell(c) {
			message += ", will be restarted"
		}
		return message, grace
	}
	if a.PostStart == HookFailed {
		return "FailedPostStartHook", grace
	}
	return "", grace
}

// restartsUnwell says whether a container that is stopped because of a probe is
// started again. Rules about exit codes do not count: it has none yet.
func (d *decider) restartsUnwell(c *v1.Container) bool {
	if c.RestartPolicy != nil {
		return *c.RestartPolicy != v1.ContainerRestartPolicyNever
	}
	return d.pod.Spec.RestartPolicy != v1.RestartPolicyNever
}
