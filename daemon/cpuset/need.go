package cpuset

import (
	v1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	v1qos "k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
)

// Kind is when a container runs.
type Kind int

// The kinds.
const (
	App     Kind = iota // a main container
	Sidecar             // an init container that stays (restartPolicy: Always)
	Init                // one that ends before the main containers start
)

// Need is how many CPUs a container is to hold.
type Need struct {
	Container string
	CPUs      int
	Kind      Kind
}

// Needs are what a pod's containers are to hold under the static policy, as the
// kubelet's guaranteedCPUs: whole CPUs of Guaranteed pods. Pods with resources
// of their own (spec.resources) hold none, as with its feature gate
// PodLevelResourceManagers off, the default. Containers with none are left out.
func Needs(pod *v1.Pod) []Need {
	if v1qos.ComputePodQOS(pod) != v1.PodQOSGuaranteed || resourcehelper.IsPodLevelResourcesSet(pod) {
		return nil
	}
	var needs []Need
	add := func(c *v1.Container, kind Kind) {
		request := c.Resources.Requests.Cpu()
		if request.Value() > 0 && request.Value()*1000 == request.MilliValue() {
			needs = append(needs, Need{c.Name, int(request.Value()), kind})
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
			add(c, Sidecar)
		} else {
			add(c, Init)
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i], App)
	}
	return needs
}
