package workload

import v1 "k8s.io/api/core/v1"

// fieldName is the one field of a node that node affinity can ask for.
const fieldName = "metadata.name"

// mean has a daemon set's pod wait for its node: it is placed like any other
// pod, on that node or not at all (upstream's
// ReplaceDaemonSetPodNodeNameNodeAffinity). Whatever else its template asks of
// nodes has been looked at.
func mean(spec *v1.PodSpec, node string) {
	spec.NodeName = ""
	if spec.Affinity == nil {
		spec.Affinity = &v1.Affinity{}
	}
	if spec.Affinity.NodeAffinity == nil {
		spec.Affinity.NodeAffinity = &v1.NodeAffinity{}
	}
	spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
		MatchFields: []v1.NodeSelectorRequirement{{Key: fieldName, Operator: v1.NodeSelectorOpIn, Values: []string{node}}},
	}}}
}

// meantFor is the node that a daemon set's pod is on, or waits for; "" when
// nobody can tell.
func meantFor(p *v1.Pod) string {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName
	}
	a := p.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, t := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, f := range t.MatchFields {
			if f.Key == fieldName && f.Operator == v1.NodeSelectorOpIn && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}
