package agent

import (
	"context"
	"fmt"
	"io"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/cure"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/probe"
	"github.com/shoal-project/shoal/daemon/prober"
)

// Reasons of events about probes; the kubelet's.
const (
	reasonUnhealthy    = "Unhealthy"
	reasonProbeWarning = "ProbeWarning"
)

// probe has these repeated, and no others of the pod.
func (w *worker) probe(probes []pod.Probed) {
	tasks := make([]prober.Task, 0, len(probes))
	commands := make(map[prober.Key]*container.Repeated)
	for _, p := range probes {
		c := w.spec(p.Container)
		a := w.seen.Containers[p.Container].Current
		key := prober.Key{Container: p.Container, Attempt: p.Attempt, Kind: p.Kind}
		target := w.target(c, p.Attempt)
		if e := probe.Of(c, p.Kind).Exec; e != nil {
			command := w.commands[key]
			if command == nil {
				command = w.agent.cfg.Containers.Repeated(w.bundle(c.Name, p.Attempt), string(p.Kind), pod.ExpandArgs(e.Command, literals(c)))
			}
			commands[key] = command
			target.Exec = func(ctx context.Context, _ []string, out io.Writer) (int, error) { return command.Run(ctx, out) }
		}
		tasks = append(tasks, prober.Task{
			Key:   key,
			Probe: probe.Of(c, p.Kind), Target: target,
			Started: a.Started, State: *a.Probes.Of(p.Kind),
			Said: w.probeSaid(p, w.pod),
		})
	}
	w.commands = commands
	w.agent.prober.Set(string(w.uid), tasks)
}

// target is a run of a container as probes and hooks reach it.
func (w *worker) target(c *v1.Container, attempt int) prober.Target {
	t := prober.Target{Container: c}
	if len(w.seen.Sandbox.IPs) > 0 {
		t.Host = w.seen.Sandbox.IPs[0]
	}
	dir, runtime := w.bundle(c.Name, attempt), w.agent.cfg.Containers
	t.Exec = func(ctx context.Context, command []string, out io.Writer) (int, error) {
		return runtime.Exec(ctx, dir, container.ExecOptions{Cmd: pod.ExpandArgs(command, literals(c)), Stdout: out, Stderr: out})
	}
	return t
}

// literals are a container's variables as far as the specification gives them:
// commands of probes may name those (the kubelet's ExpandContainerCommandOnlyStatic).
func literals(c *v1.Container) []string {
	env := make([]string, len(c.Env))
	for i, e := range c.Env {
		env[i] = e.Name + "=" + e.Value
	}
	return env
}

// probeSaid makes events of a probe's outcomes, and has the worker take up its
// result when that changes.
func (w *worker) probeSaid(p pod.Probed, about *v1.Pod) func(probe.State, probe.Outcome) {
	ref := reference(about, p.Container)
	var last probe.Result // said of by this function
	return func(s probe.State, out probe.Outcome) {
		events := w.agent.cfg.Events
		switch {
		case out.Err != nil:
			events.Warning(ref, reasonUnhealthy, "%s", cure.Add(about, p.Container, fmt.Sprintf("%s probe errored and resulted in unknown state: %v", p.Kind, out.Err)))
		case out.Result == probe.Failure:
			events.Warning(ref, reasonUnhealthy, "%s", cure.Add(about, p.Container, fmt.Sprintf("%s probe failed: %s", p.Kind, out.Output)))
		case out.Warning:
			events.Warning(ref, reasonProbeWarning, "%s probe warning: %s", p.Kind, out.Output)
		}
		if s.Result != last {
			last = s.Result
			w.send(func() { w.setProbe(p, s) })
		}
	}
}

// setProbe takes up what the probes of a run amount to.
func (w *worker) setProbe(p pod.Probed, s probe.State) {
	c := w.seen.Containers[p.Container]
	if c.Current == nil || c.Current.Number != p.Attempt || c.Current.State != pod.Running || c.Current.Probes.Of(p.Kind).Result == s.Result {
		return
	}
	a := *c.Current
	*a.Probes.Of(p.Kind) = s
	c.Current = &a
	w.put(p.Container, c)
}

// seedProbes takes what an earlier version of the daemon said of a container
// that runs, where it kept nothing of its probes: nobody sees it unready because
// the daemon was upgraded.
func seedProbes(a *pod.Attempt, published []v1.ContainerStatus, name string) {
	if a.Probes != (pod.Probes{}) || a.State != pod.Running {
		return
	}
	for _, cs := range published {
		if cs.Name != name || cs.RestartCount != int32(a.Number) || cs.State.Running == nil {
			continue
		}
		if cs.Started != nil && *cs.Started {
			a.Probes.Startup.Result = probe.Success
		}
		if cs.Ready {
			a.Probes.Readiness.Result = probe.Success
		}
	}
}
