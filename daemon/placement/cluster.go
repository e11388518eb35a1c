// Package placement decides on which node a pod runs: it filters and scores the
// nodes as the kube-scheduler of Kubernetes 1.36 does with its default plugins
// and weights (pkg/scheduler/framework/plugins), and says why a pod has no
// place in the scheduler's words. Admit is the other half: whether a node takes
// a pod in that was placed on it.
//
// Everything here is a function of what is passed in. Where several nodes are
// equally good, a hash of the pod's UID and the node's name decides, so that
// whoever asks with the same view gets the same node.
//
// Not here, because nothing of it runs yet: volumes' topology, dynamic resource
// allocation, extenders, other profiles than the default one.
package placement

import (
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Cluster is what pods are placed on: nodes, and the pods that are on them
// already. Placing changes nothing in it; Add and Remove follow the world, or
// the caller's own decisions. It is not safe for concurrent use.
type Cluster struct {
	nodes      []*node // by name
	byName     map[string]*node
	namespaces map[string]labels.Set // their labels, by name
	holders    map[string]int        // how many nodes have an image, by its name
	nominated  map[types.UID]nomination
	tallies    map[string]*tally
}

// node is one node with what is on it.
type node struct {
	*v1.Node
	index        int // among the cluster's
	allocatable  resources
	requested    resources
	nonZero      scored // the same, with what a container without requests counts for in scores
	pods         []*placed
	withAffinity int // pods with terms of affinity or anti-affinity
	withAnti     int // pods with required anti-affinity
	images       map[string]int64
}

// placed is a pod on a node, with what the filters ask of it at hand.
type placed struct {
	*v1.Pod
	terms     affinity
	ports     []hostPort
	requested resources
	nonZero   scored
}

// New is a cluster of these nodes, of the pods that were placed on them and have
// not ended, and of the namespaces' labels. The objects are kept, not copied.
func New(nodes []*v1.Node, pods []*v1.Pod, namespaces map[string]map[string]string) *Cluster {
	c := &Cluster{byName: make(map[string]*node, len(nodes)), namespaces: make(map[string]labels.Set), holders: make(map[string]int)}
	for name, set := range namespaces {
		c.namespaces[name] = set
	}
	for _, one := range nodes {
		n := &node{Node: one, allocatable: amounts(one.Status.Allocatable), images: make(map[string]int64)}
		for _, image := range one.Status.Images {
			for _, name := range image.Names {
				if _, again := n.images[name]; !again {
					c.holders[name]++
				}
				n.images[name] = image.SizeBytes
			}
		}
		c.nodes = append(c.nodes, n)
		c.byName[one.Name] = n
	}
	slices.SortFunc(c.nodes, func(a, b *node) int { return strings.Compare(a.Name, b.Name) })
	for i, n := range c.nodes {
		n.index = i
	}
	for _, p := range pods {
		c.Add(p)
	}
	return c
}

// Add puts a pod on its node (spec.nodeName). One that has ended, or whose node
// is none of the cluster's, counts for nothing.
func (c *Cluster) Add(p *v1.Pod) {
	delete(c.nominated, p.UID)
	n := c.byName[p.Spec.NodeName]
	if n == nil || p.Status.Phase == v1.PodSucceeded || p.Status.Phase == v1.PodFailed {
		return
	}
	one := place(p)
	n.add(one)
	for _, t := range c.tallies {
		t.on[n.index] += count(t.counts(one))
	}
}

func place(p *v1.Pod) *placed {
	return &placed{Pod: p, terms: affinityOf(p), ports: hostPorts(p), requested: requests(p), nonZero: nonZeroRequests(p)}
}

// Remove takes the pod with p's UID off its node.
func (c *Cluster) Remove(p *v1.Pod) {
	n := c.byName[p.Spec.NodeName]
	if n == nil {
		return
	}
	n.remove(func(other *placed) bool {
		if other.UID != p.UID {
			return false
		}
		for _, t := range c.tallies {
			t.on[n.index] -= count(t.counts(other))
		}
		return true
	})
}

func (n *node) add(p *placed) {
	n.pods = append(n.pods, p)
	n.requested.add(&p.requested, 1)
	n.nonZero.add(p.nonZero, 1)
	n.withAffinity += count(p.terms.any())
	n.withAnti += count(len(p.terms.anti) > 0)
}

func (n *node) remove(gone func(*placed) bool) {
	n.pods = slices.DeleteFunc(slices.Clone(n.pods), func(p *placed) bool {
		if !gone(p) {
			return false
		}
		n.requested.add(&p.requested, -1)
		n.nonZero.add(p.nonZero, -1)
		n.withAffinity -= count(p.terms.any())
		n.withAnti -= count(len(p.terms.anti) > 0)
		return true
	})
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// without is the cluster as it would be if those of a node's pods were gone.
func (c *Cluster) without(n *node, gone func(*placed) bool) (*Cluster, *node) {
	other, less := c.changing(n)
	less.remove(gone)
	return other, less
}

// with is the cluster as it would be with these pods on the node as well.
func (c *Cluster) with(n *node, pods []*placed) (*Cluster, *node) {
	other, more := c.changing(n)
	more.pods = slices.Clone(more.pods)
	for _, p := range pods {
		more.add(p)
	}
	return other, more
}

// changing is the cluster with a copy of the node in its place.
func (c *Cluster) changing(n *node) (*Cluster, *node) {
	copied := *n
	copied.requested = n.requested.clone()
	other := *c
	other.nodes = slices.Clone(c.nodes)
	other.nodes[slices.IndexFunc(c.nodes, func(o *node) bool { return o.Name == n.Name })] = &copied
	return &other, &copied
}

// OutOfSight is a node that is not in sight, or on its way out: only pods are
// placed there that would stay if it is lost. (Kubernetes' node lifecycle
// controller taints it so, NoExecute after a while.)
func OutOfSight(n *v1.Node) *v1.Node {
	n = n.DeepCopy()
	for _, effect := range []v1.TaintEffect{v1.TaintEffectNoSchedule, v1.TaintEffectNoExecute} {
		taint := v1.Taint{Key: v1.TaintNodeUnreachable, Effect: effect}
		if !slices.ContainsFunc(n.Spec.Taints, func(t v1.Taint) bool { return t.MatchTaint(&taint) }) {
			n.Spec.Taints = append(n.Spec.Taints, taint)
		}
	}
	return n
}
