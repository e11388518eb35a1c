package pod

import (
	"slices"

	v1 "k8s.io/api/core/v1"
)

// restarts says whether a container that exited is started again, by its own
// rules, its own policy or the pod's, in that order (KEP-5307; upstream's
// ContainerShouldRestart). An init container that succeeded is done.
func (d *decider) restarts(c *v1.Container, exitCode int) bool {
	if d.isInit(c.Name) && !isSidecar(c) && exitCode == 0 {
		return false
	}
	if c.RestartPolicy == nil {
		return restarts(d.pod.Spec.RestartPolicy, exitCode)
	}
	if action := ruleFor(c, exitCode); action == v1.ContainerRestartRuleActionRestart || action == v1.ContainerRestartRuleActionRestartAllContainers {
		return true
	}
	return restarts(v1.RestartPolicy(*c.RestartPolicy), exitCode)
}

// restarts says whether a policy starts again what exited so.
func restarts(policy v1.RestartPolicy, exitCode int) bool {
	return policy == v1.RestartPolicyAlways || policy == v1.RestartPolicyOnFailure && exitCode != 0
}

// ruleFor is the action of the first of a container's rules that is about an
// exit code, "" if none is.
func ruleFor(c *v1.Container, exitCode int) v1.ContainerRestartRuleAction {
	for _, r := range c.RestartPolicyRules {
		if r.ExitCodes == nil {
			continue
		}
		in := slices.Contains(r.ExitCodes.Values, int32(exitCode))
		if in == (r.ExitCodes.Operator == v1.ContainerRestartRuleOnExitCodesOpIn) {
			return r.Action
		}
	}
	return ""
}

// restartingAll says whether all containers are to start from the beginning,
// because one exited with a code for which it has a rule that says so (KEP-5532).
func (d *decider) restartingAll() bool {
	for _, list := range [][]v1.Container{d.pod.Spec.InitContainers, d.pod.Spec.Containers} {
		for i := range list {
			a := d.seen.Containers[list[i].Name].Current
			if a != nil && a.State == Exited && !a.Reset && !a.OldSandbox && a.Number >= 0 && !stopping(a) &&
				ruleFor(&list[i], a.ExitCode) == v1.ContainerRestartRuleActionRestartAllContainers {
				return true
			}
		}
	}
	return false
}

// restartAll ends every container, with no hook and the least grace, and then
// has all that they did forgotten.
func (d *decider) restartAll() {
	d.hurry = true
	d.stopAll(leastGrace, "")
	if !d.anyAlive() {
		d.act(Action{Verb: Reset})
	}
}
