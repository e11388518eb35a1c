package pod

import v1 "k8s.io/api/core/v1"

// Ephemeral is an ephemeral container as any other container: it has the same
// fields, though of most it may set none (KEP-277).
func Ephemeral(c *v1.EphemeralContainer) *v1.Container {
	out := v1.Container(c.EphemeralContainerCommon)
	return &out
}

// runEphemeral starts ephemeral containers that never ran. They wait for no
// init container, and one that has ended stays so, whatever the restartPolicy
// (the kubelet's computePodActions).
func (d *decider) runEphemeral() {
	for i := range d.pod.Spec.EphemeralContainers {
		c := &d.pod.Spec.EphemeralContainers[i]
		seen := d.seen.Containers[c.Name]
		switch a := seen.Current; {
		case seen.Busy:
		case a == nil:
			d.start(c.Name, 0)
		case a.State != Exited && seen.Unsupervised:
			d.stop(c.Name, 0, "")
		}
	}
}

// ephemeralStatuses are those of the ephemeral containers, which are never
// ready.
func (d *decider) ephemeralStatuses() []v1.ContainerStatus {
	var list []v1.ContainerStatus
	for i := range d.pod.Spec.EphemeralContainers {
		s := d.containerStatus(Ephemeral(&d.pod.Spec.EphemeralContainers[i]), reasonCreating)
		s.Ready, s.Started = false, nil
		list = append(list, s)
	}
	return list
}

func (d *decider) isEphemeral(name string) bool {
	for _, c := range d.pod.Spec.EphemeralContainers {
		if c.Name == name {
			return true
		}
	}
	return false
}
