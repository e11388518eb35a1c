package agent

import (
	"strings"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/cure"
	"github.com/shoal-project/shoal/daemon/pod"
)

// refusedExec is how crun (src/libcrun/container.c, container_init) tells that
// the kernel did not execute the program of a container that was started: all
// that the container ever writes is this line, and its exit code is 1.
const refusedExec = "exec container process"

// refused notes that a run's program was never executed: its script's first
// line names an interpreter that is not there, say. With containerd, whose
// runtime finds out earlier, that is a StartError.
func (w *worker) refused(c *v1.Container, a *pod.Attempt) {
	if a.ExitCode != 1 || a.Reason != string(container.Failed) {
		return
	}
	said := strings.TrimSpace(tailOfLog(w.logFile(c.Name, a.Number)))
	if !strings.HasPrefix(said, refusedExec) || strings.Contains(said, "\n") {
		return
	}
	a.ExitCode, a.Reason, a.Message = pod.StartErrorExitCode, pod.StartError, cure.Add(w.pod, c.Name, said)
	w.agent.cfg.Events.Warning(reference(w.pod, c.Name), "Failed", "Error: %s", a.Message)
}
