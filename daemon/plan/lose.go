package plan

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/shoal-project/shoal/daemon/nodelife"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// noticed is how long it takes until somebody suspects a host that is silent: each
// other one probes one member a second, at random (docs/fleet.md).
const noticed = 1500 * time.Millisecond

// LoseNodes is what would happen if these nodes lost their power now.
func LoseNodes(w World, nodes ...string) (Outcome, error) {
	if err := w.check(nodes); err != nil {
		return Outcome{}, err
	}
	s := newWorld(w)
	out := s.outcome(Lose, nodes)
	before, least := s.count(nil), s.count(nodes)
	concerned := s.on(nodes)
	for _, m := range w.Members {
		if slices.Contains(nodes, m.Name) && m.State != nodelife.Alive {
			out.Notes = append(out.Notes, "node "+m.Name+" is not in sight now")
		}
	}
	for _, name := range nodes {
		s.lost[name] = s.start.Add(noticed + s.Suspicion)
	}
	s.life = s.start
	s.follow()
	out.Frozen = s.frozen
	for _, p := range concerned {
		out.Pods = append(out.Pods, s.fateOfLost(p))
	}
	s.conclude(&out, concerned, before, least)
	return out, nil
}

// on are the pods on these nodes that run, or are to.
func (s *world) on(nodes []string) (list []*v1.Pod) {
	for _, p := range s.pods() {
		if slices.Contains(nodes, p.Spec.NodeName) && p.DeletionTimestamp == nil && active(p) {
			list = append(list, p)
		}
	}
	return list
}

// notReady has the pods of a lost node count as not ready.
func (s *world) notReady(node string) {
	for _, p := range s.on([]string{node}) {
		p = p.DeepCopy()
		if nodelife.NotReady(&p.Status, s.Now) {
			s.put(podKey(p), p)
		}
	}
}

// inSight says whether a member is alive, as far as the others know.
func (s *world) inSight(name string) bool {
	if at, lost := s.lost[name]; lost && !at.After(s.Now) || s.Leaving[name] {
		return false
	}
	i := slices.IndexFunc(s.Members, func(m nodelife.Node) bool { return m.Name == name })
	return i >= 0 && s.Members[i].State == nodelife.Alive
}

// lookAtNodes decides about the nodes, and puts what is decided in force.
func (s *world) lookAtNodes() {
	if s.life.IsZero() || s.life.After(s.Now) {
		return
	}
	in := nodelife.Input{Now: s.Now, Config: s.Config, Memory: s.Memory}
	due := time.Time{} // when one that is silent is found out
	for _, m := range s.Members {
		m.Was = s.verdict[m.Name]
		switch at, lost := s.lost[m.Name]; {
		case lost && !at.After(s.Now) && m.State == nodelife.Alive:
			m.State, m.Since, m.Heard = nodelife.Failed, at, at.Add(-s.Suspicion)
		case lost && at.After(s.Now) && (due.IsZero() || at.Before(due)):
			due = at
		}
		in.Nodes = append(in.Nodes, m)
	}
	out := nodelife.Decide(in)
	s.Memory, s.life = out.Memory, due
	if !out.Again.IsZero() && (due.IsZero() || out.Again.Before(due)) {
		s.life = out.Again
	}
	for _, m := range in.Nodes {
		s.verdict[m.Name] = out.Verdicts[m.Name]
		s.apply(m.Name, out.Verdicts[m.Name])
	}
	if due.IsZero() {
		s.frozen = out.Frozen
	}
}

// apply lays a verdict over a node.
func (s *world) apply(name string, v nodelife.Verdict) {
	key := manifests.Key{Kind: workload.KindNode.Kind, Name: name}
	old, ok := s.Get(key)
	if !ok || s.own[name] == nil {
		return
	}
	node := v.Apply(s.own[name])
	if equality.Semantic.DeepEqual(node, old) {
		return
	}
	s.put(key, node)
	if slices.ContainsFunc(v.Conditions, func(c v1.NodeCondition) bool { return c.Type == v1.NodeReady && c.Status == v1.ConditionUnknown }) {
		s.notReady(name)
	}
}
