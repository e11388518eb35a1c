// Package shutdown decides in which order pods end when the host shuts down, and
// how long each may take (the kubelet's graceful node shutdown, KEP-2000 and
// KEP-2712).
package shutdown

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1"
)

// What is said of pods and of the node; the kubelet's
// (pkg/kubelet/nodeshutdown/nodeshutdown_manager.go).
const (
	Reason             = "Terminated" // of a pod that was ended
	Message            = "Pod was terminated in response to imminent node shutdown."
	NotAdmittedReason  = "NodeShutdown" // of a pod that came too late
	NotAdmittedMessage = "Pod was rejected as the node is shutting down."
	NodeReason         = "KubeletNotReady" // of the node's condition Ready
	NodeMessage        = "node is shutting down"
)

// systemCritical is the priority from which on a pod is the system's
// (k8s.io/kubernetes/pkg/apis/scheduling.SystemCriticalPriority).
const systemCritical = 2_000_000_000

// Period is how long pods may take that have a priority, or a higher one up to
// that of the next period.
type Period struct {
	Priority int32
	Grace    time.Duration
}

// Split is a total of which critical pods have the last part to themselves
// (the kubelet's migrateConfig); without a total nothing is waited for.
func Split(total, critical time.Duration) []Period {
	if total <= 0 {
		return nil
	}
	return []Period{{0, total - critical}, {systemCritical, critical}}
}

// Sorted puts the periods in the order in which they pass.
func Sorted(periods []Period) []Period {
	return slices.SortedFunc(slices.Values(periods), func(a, b Period) int { return cmp.Compare(a.Priority, b.Priority) })
}

// Total is how long a shutdown may take.
func Total(periods []Period) (sum time.Duration) {
	for _, p := range periods {
		sum += p.Grace
	}
	return sum
}

// Group is pods that end together. The next group's turn comes when all have
// ended, or when the grace is over.
type Group struct {
	Period
	Pods []*v1.Pod
}

// Groups is who ends when: periods are sorted, and those that nobody is in are
// left out, for nobody waits for them. A pod whose priority lies below all
// periods is in the first.
func Groups(periods []Period, pods []*v1.Pod) []Group {
	groups := make([]Group, len(periods))
	for i, p := range periods {
		groups[i].Period = p
	}
	if len(groups) == 0 {
		return nil
	}
	for _, p := range pods {
		index, exact := slices.BinarySearchFunc(periods, corev1.PodPriority(p), func(period Period, n int32) int { return cmp.Compare(period.Priority, n) })
		if !exact {
			index = max(index-1, 0)
		}
		groups[index].Pods = append(groups[index].Pods, p)
	}
	return slices.DeleteFunc(groups, func(g Group) bool { return len(g.Pods) == 0 })
}

// String is a group in one line.
func (g Group) String() string {
	names := make([]string, len(g.Pods))
	for i, p := range g.Pods {
		names[i] = p.Namespace + "/" + p.Name
	}
	slices.Sort(names)
	return fmt.Sprintf("from %d within %s: %s", g.Priority, g.Grace, strings.Join(names, " "))
}

// Over says whether the node's shutdown ended a pod, or refused it, that would
// have been started again by itself had the power failed instead.
func Over(p *v1.Pod) bool {
	return p.Status.Phase == v1.PodFailed && p.Spec.RestartPolicy != v1.RestartPolicyNever &&
		(p.Status.Reason == Reason && p.Status.Message == Message || p.Status.Reason == NotAdmittedReason)
}
