package cure

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// scheduling is why no node takes a pod, in the words of Kubernetes' scheduler.
// A message may have several of them, and each has its cure.
var scheduling = []rule{
	says(`didn't match Pod's node affinity/selector`, func(a about, _ []string) string {
		if len(a.pod.Spec.NodeSelector) == 0 {
			return at("spec.affinity.nodeAffinity", "label a node as it asks (shoal label node NODE KEY=VALUE; shoal get nodes --show-labels has theirs), or correct it")
		}
		var labels []string
		for _, key := range slices.Sorted(maps.Keys(a.pod.Spec.NodeSelector)) {
			labels = append(labels, key+"="+a.pod.Spec.NodeSelector[key])
		}
		return at("spec.nodeSelector", "shoal label node NODE %s, or correct it (shoal get nodes --show-labels)", strings.Join(labels, " "))
	}),
	says(`didn't have free ports for the requested pod ports`, func(a about, _ []string) string {
		for path, c := range containers(a.pod) {
			for i, p := range c.Ports {
				if p.HostPort != 0 {
					return at(fmt.Sprintf("%s.ports[%d].hostPort", path, i), "another pod has %d: choose another one or leave it out, or end that pod", p.HostPort)
				}
			}
		}
		return ""
	}),
	says(`had untolerated taint`, func(about, []string) string {
		return at("spec.tolerations", "shoal describe nodes shows the taints: tolerate one here, or take it away with shoal taint node NODE KEY-")
	}),
	says(`were unschedulable`, func(about, []string) string { return "shoal uncordon NODE, when its maintenance is done" }),
	says(`Insufficient (cpu|memory|ephemeral-storage)`, func(a about, m []string) string {
		for path, c := range containers(a.pod) {
			if q, ok := c.Resources.Requests[v1.ResourceName(m[1])]; ok {
				return at(path+".resources.requests."+m[1], "ask for less than %s, or end other pods: shoal describe node has what each asks for", q.String())
			}
		}
		return ""
	}),
}

// Scheduling is what may be done about a pod that no node takes, by what is
// said of that.
func Scheduling(p *v1.Pod, said string) []string {
	var all []string
	for _, r := range scheduling {
		if cure := first([]rule{r}, about{pod: p}, said); cure != "" {
			all = append(all, cure)
		}
	}
	return all
}
