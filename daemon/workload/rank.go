package workload

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
)

// active says whether a pod runs or is going to.
func active(p *v1.Pod) bool {
	return p.Status.Phase != v1.PodSucceeded && p.Status.Phase != v1.PodFailed && p.DeletionTimestamp == nil
}

// terminating says whether a pod is being deleted and has not ended yet.
func terminating(p *v1.Pod) bool {
	return p.Status.Phase != v1.PodSucceeded && p.Status.Phase != v1.PodFailed && p.DeletionTimestamp != nil
}

func (c Cluster) available(p *v1.Pod, minReadySeconds int32) bool {
	return podutil.IsPodAvailable(p, minReadySeconds, metav1.NewTime(c.Now))
}

// availableAt is when a ready pod counts as available.
func availableAt(p *v1.Pod, minReadySeconds int32) time.Time {
	since := podutil.GetPodReadyCondition(p.Status)
	return since.LastTransitionTime.Add(time.Duration(minReadySeconds) * time.Second)
}

// expendable sorts pods so that those to delete first come first, by the rules
// of upstream's ActivePodsWithRanks, and what is alike by UID. Related are the
// pods of all replica sets of the same owner: of two, the one with more of them
// on its node goes first.
func (c Cluster) expendable(pods, related []*v1.Pod) {
	onNode := make(map[string]int)
	for _, p := range related {
		if active(p) {
			onNode[p.Spec.NodeName]++
		}
	}
	slices.SortFunc(pods, func(a, b *v1.Pod) int {
		readyA, readyB := podutil.IsPodReady(a), podutil.IsPodReady(b)
		order := cmp.Or(
			falseFirst(a.Spec.NodeName != "", b.Spec.NodeName != ""),
			cmp.Compare(progress(a), progress(b)),
			falseFirst(readyA, readyB),
			cmp.Compare(deletionCost(a), deletionCost(b)),
			-cmp.Compare(onNode[a.Spec.NodeName], onNode[b.Spec.NodeName]))
		if order == 0 && readyA && readyB {
			order = c.youngerFirst(readySince(a), readySince(b))
		}
		return cmp.Or(order, -compareRestarts(a, b),
			c.youngerFirst(a.CreationTimestamp.Time, b.CreationTimestamp.Time),
			cmp.Compare(a.UID, b.UID), cmp.Compare(a.Name, b.Name))
	})
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// progress is how far a pod's phase is.
func progress(p *v1.Pod) int {
	return slices.Index([]v1.PodPhase{v1.PodPending, v1.PodUnknown, v1.PodRunning}, p.Status.Phase)
}

// deletionCost is a pod's controller.kubernetes.io/pod-deletion-cost; one that
// is no number counts as none.
func deletionCost(p *v1.Pod) int64 {
	cost, err := strconv.ParseInt(p.Annotations["controller.kubernetes.io/pod-deletion-cost"], 10, 32)
	if err != nil {
		return 0
	}
	return cost
}

func readySince(p *v1.Pod) time.Time {
	return podutil.GetPodReadyCondition(p.Status).LastTransitionTime.Time
}

// youngerFirst compares two moments by the logarithm of how long ago they are,
// so that scaling down takes about any of the young (KEP-2185,
// LogarithmicScaleDown). Upstream has the UID decide at once within one power
// of two, but not between equal moments: by that rule a can go before b, b
// before c and c before a.
func (c Cluster) youngerFirst(a, b time.Time) int {
	return cmp.Compare(magnitude(c.Now.Sub(a)), magnitude(c.Now.Sub(b)))
}

func magnitude(d time.Duration) int {
	if d <= 0 {
		return -1
	}
	return int(math.Log2(float64(d)))
}

// compareRestarts compares the most restarts of any container, then those of
// sidecars.
func compareRestarts(a, b *v1.Pod) int {
	mainA, sideA := restarts(a)
	mainB, sideB := restarts(b)
	return cmp.Or(cmp.Compare(mainA, mainB), cmp.Compare(sideA, sideB))
}

func restarts(p *v1.Pod) (containers, sidecars int32) {
	for _, s := range p.Status.ContainerStatuses {
		containers = max(containers, s.RestartCount)
	}
	for _, s := range p.Status.InitContainerStatuses {
		for _, i := range p.Spec.InitContainers {
			if i.Name == s.Name && i.RestartPolicy != nil && *i.RestartPolicy == v1.ContainerRestartPolicyAlways {
				sidecars = max(sidecars, s.RestartCount)
			}
		}
	}
	return containers, sidecars
}
