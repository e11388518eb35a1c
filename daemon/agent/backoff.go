package agent

import (
	"fmt"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/cure"
)

// reasonBackOff is the kubelet's event on a container that waits to be started,
// or an image that waits to be pulled, again.
const reasonBackOff = "BackOff"

// reportBackOff says that containers wait, once each time they begin to.
func (w *worker) reportBackOff(old, now v1.PodStatus) {
	before := make(map[string]v1.ContainerStatus)
	for _, list := range [][]v1.ContainerStatus{old.InitContainerStatuses, old.ContainerStatuses, old.EphemeralContainerStatuses} {
		for _, c := range list {
			before[c.Name] = c
		}
	}
	for _, list := range [][]v1.ContainerStatus{now.InitContainerStatuses, now.ContainerStatuses, now.EphemeralContainerStatuses} {
		for _, c := range list {
			waiting := c.State.Waiting
			if waiting == nil {
				continue
			}
			if was := before[c.Name].State.Waiting; was != nil && was.Reason == waiting.Reason {
				continue
			}
			switch waiting.Reason {
			case "CrashLoopBackOff":
				said := fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)", c.Name, w.podName, w.namespace, w.uid)
				if todo := cure.Ended(w.pod, c.Name, c.LastTerminationState.Terminated); todo != "" {
					said += " (" + todo + ")"
				}
				w.agent.cfg.Events.Warning(reference(w.pod, c.Name), reasonBackOff, "%s", said)
			case "ImagePullBackOff":
				w.agent.cfg.Events.Normal(reference(w.pod, c.Name), reasonBackOff, "Back-off pulling image %q", c.Image)
				w.agent.cfg.Events.Warning(reference(w.pod, c.Name), "Failed", "Error: %s", waiting.Reason)
			}
		}
	}
}
