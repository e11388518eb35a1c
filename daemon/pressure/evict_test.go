package pressure

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// usage is a pod of one container, with its requests of memory and disk.
func usage(name string, priority int32, memory, disk string, u Usage) Usage {
	p := &v1.Pod{}
	p.Name = name
	c := v1.Container{Name: "c"}
	c.Resources.Requests = v1.ResourceList{}
	if memory != "" {
		c.Resources.Requests[v1.ResourceMemory] = resource.MustParse(memory)
	}
	if disk != "" {
		c.Resources.Requests[v1.ResourceEphemeralStorage] = resource.MustParse(disk)
	}
	p.Spec.Containers, p.Spec.Priority = []v1.Container{c}, &priority
	u.Pod = p
	return u
}

func TestPodsGoInTheKubeletsOrder(t *testing.T) {
	kept := func(layer, logs, volume, memory Files) Usage {
		return Usage{Known: true, Containers: []ContainerUsage{{Name: "c", Layer: layer, Logs: logs}},
			Volumes: []VolumeUsage{{Name: "v", Files: volume}, {Name: "m", Files: memory, InMemory: true}}}
	}
	memory := []Usage{
		usage("within", 0, "1000", "", Usage{Known: true, Memory: 900}),
		usage("within-less", 0, "1000", "", Usage{Known: true, Memory: 100}),
		usage("little-over", 0, "100", "", Usage{Known: true, Memory: 101}),
		usage("important-over", 10, "", "", Usage{Known: true, Memory: 5000}),
		usage("much-over", 0, "100", "", Usage{Known: true, Memory: 800}),
		usage("at", -1, "100", "", Usage{Known: true, Memory: 100}),
		usage("unknown", 10, "100", "", Usage{}),
	}
	processes := []Usage{
		usage("few", 0, "", "", Usage{Known: true, Processes: 2}),
		usage("important", 5, "", "", Usage{Known: true, Processes: 900}),
		usage("many", 0, "", "", Usage{Known: true, Processes: 9}),
	}
	disk := []Usage{
		usage("layer", 0, "", "", kept(Files{500, 1}, Files{}, Files{}, Files{})),
		usage("logs", 0, "", "", kept(Files{}, Files{400, 90}, Files{}, Files{})),
		usage("volume", 0, "", "", kept(Files{}, Files{}, Files{300, 50}, Files{})),
		usage("memory", 0, "", "", kept(Files{}, Files{}, Files{1, 1}, Files{9000, 9000})),
		usage("asked", 0, "", "600", kept(Files{599, 2}, Files{}, Files{}, Files{})),
	}
	for _, test := range []struct {
		signal Signal
		split  bool
		pods   []Usage
		want   string
	}{
		{MemoryAvailable, false, memory, "unknown much-over little-over important-over at within within-less"},
		{PIDAvailable, false, processes, "many few important"},
		{NodeFSAvailable, false, disk, "layer logs volume memory asked"},
		{NodeFSAvailable, true, disk, "logs volume memory layer asked"},
		{ImageFSAvailable, true, disk, "layer logs volume memory asked"},
		{NodeFSInodesFree, false, disk, "logs volume asked layer memory"},
	} {
		pods := append([]Usage(nil), test.pods...)
		Rank(pods, test.signal, test.split)
		var names []string
		for _, p := range pods {
			names = append(names, p.Pod.Name)
		}
		if got := strings.Join(names, " "); got != test.want {
			t.Errorf("%s, split %t:\ngot  %s\nwant %s", test.signal, test.split, got, test.want)
		}
	}
}

func TestEvictionMessagesAreTheKubelets(t *testing.T) {
	u := usage("p", 0, "64Mi", "", Usage{Known: true, Containers: []ContainerUsage{
		{Name: "c", Memory: 100 << 20, Layer: Files{3 << 20, 1}, Logs: Files{1 << 20, 1}}, {Name: "injected", Memory: 1 << 30}}})
	hard := Threshold{Signal: MemoryAvailable, Value: Value{Quantity: "100Mi"}}
	disk := Threshold{Signal: NodeFSAvailable, Value: Value{Percent: 10}}
	o := Observations{MemoryAvailable: {50 << 20, 8 << 30}, NodeFSAvailable: {1 << 20, 1 << 30}, PIDAvailable: {3, 100}}
	for _, test := range []struct {
		starved []Threshold
		want    string
	}{
		{[]Threshold{hard, disk}, "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c was using 100Mi, request is 64Mi, has larger consumption of memory. "},
		{[]Threshold{disk, hard}, "The node was low on resource: ephemeral-storage. Threshold quantity: 107374182, available: 1Mi. Container c was using 4Mi, request is 0, has larger consumption of ephemeral-storage. "},
		{[]Threshold{{Signal: PIDAvailable, Value: Value{Quantity: "5"}}}, "The node was low on resource: pids. Threshold quantity: 5, available: 3. "},
	} {
		if got := Message(u, test.starved, o); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func TestAPodThatKeepsMoreThanItsLimitsGoes(t *testing.T) {
	limit := resource.MustParse("10Mi")
	u := usage("p", 0, "", "", Usage{Known: true})
	if Limited(u.Pod) {
		t.Error("a pod without limits is limited")
	}
	u.Pod.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceEphemeralStorage: limit}
	size := resource.MustParse("1Mi")
	u.Pod.Spec.Volumes = []v1.Volume{{Name: "x", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{SizeLimit: &size}}}}
	if !Limited(u.Pod) {
		t.Error("a pod with limits is not limited")
	}
	with := func(layer, logs, volume, total int64) Usage {
		u := u
		u.Containers = []ContainerUsage{{Name: "c", Layer: Files{Bytes: layer}, Logs: Files{Bytes: logs}}}
		u.Volumes, u.Total = []VolumeUsage{{Name: "x", Files: Files{Bytes: volume}}}, total
		return u
	}
	for _, test := range []struct {
		u     Usage
		split bool
		want  string
	}{
		{with(5<<20, 5<<20, 1<<20, 10<<20), false, ""},
		{with(0, 0, 1<<20+1, 0), false, `Usage of EmptyDir volume "x" exceeds the limit "1Mi". `},
		{with(0, 0, 0, 10<<20+1), false, "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "},
		{with(6<<20, 5<<20, 0, 0), false, `Container c exceeded its local ephemeral storage limit "10Mi". `},
		{with(6<<20, 5<<20, 0, 0), true, ""},
	} {
		if got := OverLimit(test.u, test.split); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestUnderPressureOnlySomePodsAreTakenIn(t *testing.T) {
	memory, disk := v1.NodeMemoryPressure, v1.NodeDiskPressure
	both := []v1.NodeConditionType{disk, memory}
	bestEffort, burstable := usage("b", 0, "", "", Usage{}).Pod, usage("r", 0, "1Mi", "", Usage{}).Pod
	critical, static, mirrored := usage("c", systemCritical, "", "", Usage{}).Pod, bestEffort.DeepCopy(), bestEffort.DeepCopy()
	static.Annotations, mirrored.Annotations = map[string]string{sourceAnnotation: "file"}, map[string]string{sourceAnnotation: "api"}
	tolerant, wrong := bestEffort.DeepCopy(), bestEffort.DeepCopy()
	tolerant.Spec.Tolerations = []v1.Toleration{{Key: v1.TaintNodeMemoryPressure, Operator: v1.TolerationOpExists}}
	wrong.Spec.Tolerations = []v1.Toleration{{Key: v1.TaintNodeMemoryPressure, Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute}}
	for _, test := range []struct {
		pod        *v1.Pod
		conditions []v1.NodeConditionType
		want       string
	}{
		{bestEffort, nil, ""},
		{bestEffort, []v1.NodeConditionType{memory}, "The node had condition: [MemoryPressure]. "},
		{burstable, []v1.NodeConditionType{memory}, ""},
		{tolerant, []v1.NodeConditionType{memory}, ""},
		{wrong, []v1.NodeConditionType{memory}, "The node had condition: [MemoryPressure]. "},
		{burstable, []v1.NodeConditionType{disk}, "The node had condition: [DiskPressure]. "},
		{tolerant, both, "The node had condition: [DiskPressure MemoryPressure]. "},
		{critical, both, ""},
		{static, both, ""},
		{mirrored, []v1.NodeConditionType{disk}, "The node had condition: [DiskPressure]. "},
	} {
		if got := Refusal(test.pod, test.conditions); got != test.want {
			t.Errorf("%s under %v: got %q, want %q", test.pod.Name, test.conditions, got, test.want)
		}
	}
}
