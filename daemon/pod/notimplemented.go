package pod

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
)

// NotImplemented lists the fields that a pod sets and that this version takes
// no notice of, as paths. docs/pods.md has the same list; nothing is passed
// over in silence.
func NotImplemented(p *v1.Pod) []string {
	var fields []string
	add := func(set bool, path string, args ...any) {
		if set {
			fields = append(fields, fmt.Sprintf(path, args...))
		}
	}
	s := &p.Spec
	for _, list := range []struct {
		name       string
		containers []v1.Container
	}{{"initContainers", s.InitContainers}, {"containers", s.Containers}} {
		for i := range list.containers {
			c, at := &list.containers[i], fmt.Sprintf("spec.%s[%d]", list.name, i)
			add(c.LivenessProbe != nil, "%s.livenessProbe", at)
			add(c.ReadinessProbe != nil, "%s.readinessProbe", at)
			add(c.StartupProbe != nil, "%s.startupProbe", at)
			add(c.Lifecycle != nil && c.Lifecycle.PostStart != nil, "%s.lifecycle.postStart", at)
			add(c.Lifecycle != nil && c.Lifecycle.PreStop != nil, "%s.lifecycle.preStop", at)
			add(len(c.VolumeDevices) > 0, "%s.volumeDevices", at)
		}
	}
	for i, v := range s.Volumes {
		add(v.PersistentVolumeClaim != nil, "spec.volumes[%d].persistentVolumeClaim", i)
	}
	add(len(s.ReadinessGates) > 0, "spec.readinessGates")
	add(len(s.NodeSelector) > 0, "spec.nodeSelector")
	add(s.Affinity != nil, "spec.affinity")
	add(len(s.TopologySpreadConstraints) > 0, "spec.topologySpreadConstraints")
	add(s.RuntimeClassName != nil, "spec.runtimeClassName")
	add(s.HostUsers != nil && !*s.HostUsers, "spec.hostUsers")
	add(len(s.ResourceClaims) > 0, "spec.resourceClaims")
	add(len(s.SchedulingGates) > 0, "spec.schedulingGates")
	return fields
}
