package plan

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/placement"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/workload"
)

// place finds nodes for the pods that have none, the most important first, and
// says whether anything came of it.
func (s *world) place() (any bool) {
	if !s.room {
		return false
	}
	s.room = false
	var pods []*v1.Pod
	for _, p := range s.pods() {
		if p.Spec.NodeName == "" && p.DeletionTimestamp == nil && active(p) {
			pods = append(pods, p)
		}
	}
	placement.Sort(pods)
	c := s.placementSees()
	for _, p := range pods {
		if len(p.Spec.SchedulingGates) > 0 {
			s.waiting[p.UID] = pod.SchedulingGated
			continue
		}
		out := c.Place(p, s.options(p))
		switch {
		case out.Node != "":
			delete(s.waiting, p.UID)
			p = s.started(p, out.Node)
			c.Add(p)
			any = true
		case out.Preemption != nil:
			for _, v := range out.Preemption.Victims {
				s.victims = append(s.victims, victim{v, "makes room for one of " + s.group(p), s.Now})
				s.end(v)
			}
			return true
		default:
			s.waiting[p.UID] = out.Message()
		}
	}
	return any
}

// started puts a pod onto its node, where it runs, and is ready unless none of
// its kind is.
func (s *world) started(p *v1.Pod, node string) *v1.Pod {
	p = p.DeepCopy()
	p.Spec.NodeName = node
	is := v1.ConditionTrue
	if s.ill[s.group(p)] {
		is = v1.ConditionFalse
	}
	now := metav1.NewTime(s.Now)
	p.Status.Phase, p.Status.StartTime = v1.PodRunning, &now
	p.Status.Conditions = []v1.PodCondition{
		{Type: v1.PodScheduled, Status: v1.ConditionTrue, LastTransitionTime: now},
		{Type: v1.PodReady, Status: is, LastTransitionTime: now},
	}
	i := slices.IndexFunc(s.made, func(m *made) bool { return m.pod.UID == p.UID })
	if i < 0 {
		i, s.made = len(s.made), append(s.made, &made{before: true})
	}
	s.made[i].pod, s.made[i].at = p, s.Now
	s.put(podKey(p), p)
	return p
}

func (s *world) options(p *v1.Pod) placement.Options {
	return placement.Options{
		Strategy: s.Strategy, Siblings: workload.Siblings(s, p), Budgets: all[*policy.PodDisruptionBudget](s, workload.KindDisruptionBudget),
	}
}

// placementSees is the cluster as pods are placed on it.
func (s *world) placementSees() *placement.Cluster {
	var nodes []*v1.Node
	for _, n := range all[*v1.Node](s, workload.KindNode) {
		nodes = append(nodes, s.reachable(n))
	}
	namespaces := make(map[string]map[string]string)
	for _, ns := range all[*v1.Namespace](s, workload.KindNamespace) {
		namespaces[ns.Name] = ns.Labels
	}
	pods := slices.DeleteFunc(s.pods(), func(p *v1.Pod) bool { return p.Spec.NodeName == "" })
	return placement.New(nodes, pods, namespaces)
}

// reachable is a node as pods are placed on it.
func (s *world) reachable(n *v1.Node) *v1.Node {
	if s.inSight(n.Name) {
		return n
	}
	return placement.OutOfSight(n)
}

func active(p *v1.Pod) bool {
	return p.Status.Phase != v1.PodSucceeded && p.Status.Phase != v1.PodFailed
}
