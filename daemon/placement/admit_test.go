package placement

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestANodeTakesInWhatFits(t *testing.T) {
	at := objects[v1.Node](t, []byte(`
metadata: {name: n1, labels: {disk: ssd}}
spec: {unschedulable: true, taints: [{key: no, effect: NoSchedule}]}
status: {allocatable: {cpu: "1", memory: 1Gi, pods: "2"}}`))[0]
	leaving := at.DeepCopy()
	leaving.Spec.Taints = []v1.Taint{{Key: "leave", Effect: v1.TaintEffectNoExecute}}
	other := `{metadata: {name: o}, spec: {nodeName: n1, containers: [{name: c, ports: [{hostPort: 80, containerPort: 80}], resources: {requests: {cpu: 500m}}}]}}`
	ended := `{metadata: {name: e}, spec: {nodeName: n1, containers: [{name: c, resources: {requests: {cpu: "1"}}}]}, status: {phase: Failed}}`
	for _, c := range []struct {
		name, pod string
		on        *v1.Node
		others    []string
		static    bool
		want      Rejection
	}{
		{name: "fits, though the node is cordoned and tainted", pod: `{requests: {cpu: 500m}}`, others: []string{other, ended}},
		{name: "too little cpu", pod: `{requests: {cpu: "2"}}`,
			want: Rejection{"OutOfcpu", "Node didn't have enough resource: cpu, requested: 2000, used: 0, capacity: 1000"}},
		{name: "too little cpu left", pod: `{requests: {cpu: 600m}}`, others: []string{other},
			want: Rejection{"OutOfcpu", "Node didn't have enough resource: cpu, requested: 600, used: 500, capacity: 1000"}},
		{name: "too little memory", pod: `{requests: {memory: 2Gi}}`,
			want: Rejection{"OutOfmemory", "Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824"}},
		{name: "too many pods", pod: `{}`, others: []string{other, other},
			want: Rejection{"OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 2, capacity: 2"}},
		{name: "an extended resource that the node does not know is not its own", pod: `{requests: {example.com/x: "1"}}`},
		{name: "its port is taken", pod: `{}, ports: [{hostPort: 80, containerPort: 1}]`, others: []string{other},
			want: Rejection{"NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"}},
		{name: "other labels are asked for", pod: `{}}], nodeSelector: {disk: hdd}, initContainers: [{name: i`,
			want: Rejection{"NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"}},
		{name: "the node is left", pod: `{}`, on: leaving,
			want: Rejection{"TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"}},
		{name: "the node is left, but the pod is its own", pod: `{}`, on: leaving, static: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := objects[v1.Pod](t, []byte(`{metadata: {name: p}, spec: {nodeName: n1, containers: [{name: c, resources: `+c.pod+`}]}}`))[0]
			var others []*v1.Pod
			for _, o := range c.others {
				others = append(others, objects[v1.Pod](t, []byte(o))...)
			}
			on := at
			if c.on != nil {
				on = c.on
			}
			got := Admit(p, on, others, c.static)
			if got == nil {
				got = &Rejection{}
			}
			if *got != c.want {
				t.Errorf("got  %+v\nwant %+v", *got, c.want)
			}
		})
	}
}
