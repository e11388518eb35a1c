package placement

import (
	"fmt"
	"math"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// maxPoints is what each score gives at most, before its weight.
const maxPoints = 100

// The scores, with the scheduler's names and default weights.
const (
	taintToleration = iota
	nodeAffinity
	podTopologySpread
	interPodAffinity
	resourcesFit
	balancedAllocation
	imageLocality
	kinds
)

var scores = [kinds]struct {
	name   string
	weight int64
}{
	taintToleration:    {"TaintToleration", 3},
	nodeAffinity:       {"NodeAffinity", 2},
	podTopologySpread:  {"PodTopologySpread", 2},
	interPodAffinity:   {"InterPodAffinity", 2},
	resourcesFit:       {"NodeResourcesFit", 1},
	balancedAllocation: {"NodeResourcesBalancedAllocation", 1},
	imageLocality:      {"ImageLocality", 1},
}

// Score is how good a node is for a pod, among those that fit.
type Score struct {
	Node   string
	points [kinds]int64 // with their weights
}

// Total is the sum of the weighted points: the most wins.
func (s Score) Total() int64 {
	var sum int64
	for _, n := range s.points {
		sum += n
	}
	return sum
}

// String is the score with its parts, for people.
func (s Score) String() string {
	var parts []string
	for kind, n := range s.points {
		if n != 0 {
			parts = append(parts, fmt.Sprintf("%s %d", scores[kind].name, n))
		}
	}
	return fmt.Sprintf("%s %d (%s)", s.Node, s.Total(), strings.Join(parts, ", "))
}

// Strategy is how the score NodeResourcesFit sees a node that is full.
type Strategy int

// The strategies. The zero value is the scheduler's default.
const (
	LeastAllocated Strategy = iota // spreads pods
	MostAllocated                  // packs them
)

// score gives each node that fits its points.
func (q *query) score() []Score {
	list := make([]Score, len(q.fits))
	for i, n := range q.fits {
		list[i].Node = n.Name
	}
	points := make([]int64, len(q.fits))
	for kind, by := range [kinds]func([]int64) bool{
		taintToleration: q.scoreTaints, nodeAffinity: q.scorePreference, podTopologySpread: q.scoreSpread, interPodAffinity: q.scoreNear,
		resourcesFit: q.scoreFit, balancedAllocation: q.scoreBalance, imageLocality: q.scoreImages,
	} {
		clear(points)
		if !by(points) {
			continue
		}
		for i, n := range points {
			list[i].points[kind] = n * scores[kind].weight
		}
	}
	return list
}

// normalize stretches points to the whole scale (DefaultNormalizeScore).
func normalize(points []int64, reverse bool) {
	var most int64
	for _, n := range points {
		most = max(most, n)
	}
	for i, n := range points {
		if most > 0 {
			n = maxPoints * n / most
		}
		if reverse {
			n = maxPoints - n
		}
		points[i] = n
	}
}

// scoreTaints prefers nodes with fewer taints that would rather not have the pod.
func (q *query) scoreTaints(points []int64) bool {
	for i, n := range q.fits {
		for k := range n.Spec.Taints {
			t := &n.Spec.Taints[k]
			if t.Effect == v1.TaintEffectPreferNoSchedule && !corev1.TolerationsTolerateTaint(klog.Logger{}, q.tolerations, t, false) {
				points[i]++
			}
		}
	}
	normalize(points, true)
	return true
}

// scorePreference prefers nodes that the pod's preferred node affinity names.
func (q *query) scorePreference(points []int64) bool {
	a := q.pod.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || len(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) == 0 {
		return false
	}
	terms, err := nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	if err != nil {
		return false // validation refuses such a pod
	}
	for i, n := range q.fits {
		points[i] = terms.Score(n.Node)
	}
	normalize(points, false)
	return true
}

// scoreFit prefers nodes by how much of them is taken.
func (q *query) scoreFit(points []int64) bool {
	rate := func(asked, capacity int64) int64 {
		if q.o.Strategy == MostAllocated {
			return min(asked, capacity) * maxPoints / capacity
		}
		return max(capacity-asked, 0) * maxPoints / capacity
	}
	for i, n := range q.fits {
		var sum, parts int64
		if n.allocatable.cpu > 0 {
			sum, parts = sum+rate(n.nonZero.cpu+q.nonZero.cpu, n.allocatable.cpu), parts+1
		}
		if n.allocatable.memory > 0 {
			sum, parts = sum+rate(n.nonZero.memory+q.nonZero.memory, n.allocatable.memory), parts+1
		}
		points[i] = sum / max(parts, 1)
	}
	return true
}

// scoreBalance prefers nodes on which the pod evens out processors and memory.
// One that requests neither evens out nothing.
func (q *query) scoreBalance(points []int64) bool {
	if q.requested.cpu == 0 && q.requested.memory == 0 {
		return false
	}
	for i, n := range q.fits {
		before := balance(n.requested.cpu, n.requested.memory, &n.allocatable)
		after := balance(n.requested.cpu+q.requested.cpu, n.requested.memory+q.requested.memory, &n.allocatable)
		points[i] = maxPoints/2 + (maxPoints/2+after-before)/2
	}
	return true
}

// balance is how evenly processors and memory are taken: one less the standard
// deviation of the two fractions, in points.
func balance(cpu, memory int64, of *resources) int64 {
	if of.cpu == 0 || of.memory == 0 {
		return maxPoints
	}
	a, b := min(float64(cpu)/float64(of.cpu), 1), min(float64(memory)/float64(of.memory), 1)
	return int64((1 - math.Abs((a-b)/2)) * maxPoints)
}

// Between these sizes a pod's images make a difference to where it runs.
const (
	leastImage = 23 << 20
	mostImage  = 1000 << 20 // for each container
)

// scoreImages prefers nodes that have the pod's images, less the fewer nodes
// have them: or all pods of an image would go to the first that pulled it.
func (q *query) scoreImages(points []int64) bool {
	if len(q.c.holders) == 0 {
		return true
	}
	var images []string
	for i := range q.pod.Spec.InitContainers {
		images = append(images, tagged(q.pod.Spec.InitContainers[i].Image))
	}
	for i := range q.pod.Spec.Containers {
		images = append(images, tagged(q.pod.Spec.Containers[i].Image))
	}
	containers := int64(len(images))
	for i := range q.pod.Spec.Volumes {
		if v := q.pod.Spec.Volumes[i].Image; v != nil {
			images = append(images, tagged(v.Reference))
		}
	}
	most := mostImage * containers
	for i, n := range q.fits {
		var sum int64
		for _, image := range images {
			if size, ok := n.images[image]; ok {
				sum += int64(float64(size) * (float64(q.c.holders[image]) / float64(len(q.c.nodes))))
			}
		}
		points[i] = maxPoints * (min(max(sum, leastImage), most) - leastImage) / (most - leastImage)
	}
	return true
}

// tagged is an image's name as nodes tell it: with the tag that it has when it
// has none and, what the scheduler leaves out, with the registry.
func tagged(name string) string {
	if strings.LastIndex(name, ":") <= strings.LastIndex(name, "/") {
		name += ":latest"
	}
	switch host, _, more := strings.Cut(name, "/"); {
	case !more:
		return "docker.io/library/" + name
	case !strings.ContainsAny(host, ".:") && host != "localhost":
		return "docker.io/" + name
	}
	return name
}
