package pressure

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
)

// Usage is what a running pod uses, as far as that is known.
type Usage struct {
	Pod        *v1.Pod
	Known      bool // it could be measured at all
	Memory     int64
	Processes  int64
	Containers []ContainerUsage
	Volumes    []VolumeUsage // that go with the pod
	Total      int64         // bytes on disk: writable layers, logs and volumes that are not in memory
}

// ContainerUsage is what one running container uses.
type ContainerUsage struct {
	Name        string
	Memory      int64
	Layer, Logs Files
}

// VolumeUsage is what one volume holds.
type VolumeUsage struct {
	Name     string
	InMemory bool
	Files
}

// Files are bytes and inodes.
type Files struct{ Bytes, Inodes int64 }

// systemCritical is the priority from which on a pod is the system's
// (k8s.io/kubernetes/pkg/apis/scheduling.SystemCriticalPriority).
const systemCritical = 2_000_000_000

// sourceAnnotation tells static pods: it is set on them and is not "api"
// (the kubelet's ConfigSourceAnnotationKey).
const sourceAnnotation = "kubernetes.io/config.source"

// Critical says that a pod is never evicted, and admitted under any pressure:
// one of system priority, or a static one (the kubelet's IsCriticalPod).
func Critical(p *v1.Pod) bool {
	source, ok := p.Annotations[sourceAnnotation]
	return ok && source != "api" || corev1.PodPriority(p) >= systemCritical
}

// Rank sorts pods by who goes first when a signal is low: memory and disk by
// whether they use more than they requested, then by priority, then by how much
// more; processes by priority, then by number (the kubelet's rank*Pressure,
// pkg/kubelet/eviction/helpers.go). Split says that images and writable layers
// have a disk of their own. What could not be measured goes first.
func Rank(pods []Usage, s Signal, split bool) {
	used := func(u Usage) int64 { return used(u, s, split) }
	over := func(u Usage) int64 { return used(u) - request(u.Pod, s.Resource()) }
	slices.SortStableFunc(pods, func(a, b Usage) int {
		if !a.Known || !b.Known {
			return first(!a.Known, !b.Known)
		}
		priority := cmp.Compare(corev1.PodPriority(a.Pod), corev1.PodPriority(b.Pod))
		if s == PIDAvailable {
			return cmp.Or(priority, cmp.Compare(used(b), used(a)))
		}
		return cmp.Or(first(over(a) > 0, over(b) > 0), priority, cmp.Compare(over(b), over(a)))
	})
}

// first puts what is true before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// used is how much of what a signal is about a pod uses.
func used(u Usage, s Signal, split bool) int64 {
	switch s {
	case MemoryAvailable:
		return u.Memory
	case PIDAvailable:
		return u.Processes
	}
	images := s == ImageFSAvailable || s == ImageFSInodesFree
	var f Files
	for _, c := range u.Containers {
		if !split || images {
			f.add(c.Layer)
		}
		if !split || !images {
			f.add(c.Logs)
		}
	}
	for _, v := range u.Volumes {
		if !v.InMemory && (!split || !images) {
			f.add(v.Files)
		}
	}
	if s.Resource() == inodes {
		return f.Inodes
	}
	return f.Bytes
}

func (f *Files) add(g Files) { f.Bytes, f.Inodes = f.Bytes+g.Bytes, f.Inodes+g.Inodes }

// request is what a pod requested of a resource; nobody can request inodes.
func request(p *v1.Pod, r v1.ResourceName) int64 {
	q := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{})[r]
	return q.Value()
}

// Message is why a pod is evicted, in the kubelet's words (evictionMessage).
// Starved are the thresholds that are low, the one to be relieved first.
func Message(u Usage, starved []Threshold, o Observations) string {
	what := starved[0].Signal.Resource()
	text := fmt.Sprintf("The node was low on resource: %v. ", what)
	for _, t := range starved {
		if seen, ok := o[t.Signal]; ok && t.Signal.Resource() == what {
			limit := t.Value.of(seen.Capacity)
			text += fmt.Sprintf("Threshold quantity: %s, available: %s. ", limit.String(), amount(what, seen.Available))
			break
		}
	}
	for _, c := range u.Containers {
		for _, spec := range slices.Concat(u.Pod.Spec.Containers, u.Pod.Spec.InitContainers) {
			if spec.Name != c.Name {
				continue
			}
			var n int64
			switch what {
			case v1.ResourceMemory:
				n = c.Memory
			case v1.ResourceEphemeralStorage:
				n = c.Layer.Bytes + c.Logs.Bytes
			}
			if requested := spec.Resources.Requests[what]; requested.CmpInt64(n) < 0 {
				text += fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %v. ", c.Name, amount(what, n), requested.String(), what)
			}
		}
	}
	return text
}

// amount spells bytes in powers of two and counts in powers of ten, as the kubelet.
func amount(what v1.ResourceName, n int64) string {
	format := resource.BinarySI
	if what == inodes || what == pids {
		format = resource.DecimalSI
	}
	return resource.NewQuantity(n, format).String()
}

// OverLimit says why a pod that keeps more on disk than its own limits allow is
// evicted, in the kubelet's words (localStorageEviction); "" when it does not.
// Split says that writable layers have a disk of their own, which then does not
// count against a container's limit.
func OverLimit(u Usage, split bool) string {
	for _, v := range u.Pod.Spec.Volumes {
		if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		for _, seen := range u.Volumes {
			if seen.Name == v.Name && v.EmptyDir.SizeLimit.CmpInt64(seen.Bytes) < 0 {
				return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String())
			}
		}
	}
	limits := resourcehelper.PodLimits(u.Pod, resourcehelper.PodResourcesOptions{})
	if limit, ok := limits[v1.ResourceEphemeralStorage]; ok && limit.CmpInt64(u.Total) < 0 {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
	}
	for _, spec := range u.Pod.Spec.Containers {
		limit := spec.Resources.Limits.StorageEphemeral()
		for _, c := range u.Containers {
			n := c.Logs.Bytes
			if !split {
				n += c.Layer.Bytes
			}
			if c.Name == spec.Name && !limit.IsZero() && limit.CmpInt64(n) < 0 {
				return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())
			}
		}
	}
	return ""
}

// Limited says whether a pod has any limit that OverLimit looks at: others need
// not be measured for it.
func Limited(p *v1.Pod) bool {
	for _, v := range p.Spec.Volumes {
		if v.EmptyDir != nil && v.EmptyDir.SizeLimit != nil && v.EmptyDir.SizeLimit.Sign() > 0 {
			return true
		}
	}
	_, ok := resourcehelper.PodLimits(p, resourcehelper.PodResourcesOptions{})[v1.ResourceEphemeralStorage]
	return ok
}

// Refusal says why a node under these conditions takes no such pod, in the
// kubelet's words; "" when it does. Memory pressure alone keeps out only
// BestEffort pods that do not tolerate it (the eviction manager's Admit).
func Refusal(p *v1.Pod, conditions []v1.NodeConditionType) string {
	if len(conditions) == 0 || Critical(p) {
		return ""
	}
	if slices.Equal(conditions, []v1.NodeConditionType{v1.NodeMemoryPressure}) {
		taint := Taint(v1.NodeMemoryPressure)
		if qos.ComputePodQOS(p) != v1.PodQOSBestEffort || slices.ContainsFunc(p.Spec.Tolerations, func(t v1.Toleration) bool { return tolerates(t, taint) }) {
			return ""
		}
	}
	words := make([]string, len(conditions))
	for i, c := range conditions {
		words[i] = string(c)
	}
	return fmt.Sprintf("The node had condition: [%s]. ", strings.Join(words, " "))
}

// tolerates says whether a toleration covers a taint that has no value.
func tolerates(t v1.Toleration, taint v1.Taint) bool {
	return (t.Key == taint.Key || t.Key == "" && t.Operator == v1.TolerationOpExists) &&
		(t.Effect == "" || t.Effect == taint.Effect) &&
		(t.Operator == v1.TolerationOpExists || t.Value == "")
}

// Taint is what Kubernetes' node lifecycle controller puts on a node with a condition.
func Taint(c v1.NodeConditionType) v1.Taint {
	key := map[v1.NodeConditionType]string{
		v1.NodeMemoryPressure: v1.TaintNodeMemoryPressure, v1.NodeDiskPressure: v1.TaintNodeDiskPressure, v1.NodePIDPressure: v1.TaintNodePIDPressure,
	}[c]
	return v1.Taint{Key: key, Effect: v1.TaintEffectNoSchedule}
}
