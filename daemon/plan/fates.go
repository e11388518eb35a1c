package plan

import (
	"cmp"
	"slices"
	"strings"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/shoal-project/shoal/daemon/nodelife"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// outcome is one that says as yet only what is asked.
func (s *world) outcome(action string, nodes []string) Outcome {
	out := Outcome{Action: action, Nodes: slices.Sorted(slices.Values(nodes)), Pods: []Pod{}}
	for _, m := range s.Members {
		if m.State == nodelife.Left {
			continue
		}
		out.Members++
		if m.State == nodelife.Alive && !(action == Lose && slices.Contains(nodes, m.Name)) {
			out.Left++
		}
	}
	return out
}

// counts is how many pods are ready, by group, and healthy, by budget.
type counts struct {
	ready   map[string]int
	healthy map[manifests.Key]int
	desired map[string]int // how many there are to be, by group
}

// count counts; pods of silent nodes count as not ready.
func (s *world) count(silent []string) counts {
	c := counts{make(map[string]int), make(map[manifests.Key]int), make(map[string]int)}
	var well []*v1.Pod
	for _, p := range s.pods() {
		if group, owner := s.group(p), s.owner(p); owner != "" && c.desired[group] == 0 {
			c.desired[group] = s.desired(p.Namespace, owner)
		}
		if ready(p) && active(p) && !slices.Contains(silent, p.Spec.NodeName) {
			well = append(well, p)
			c.ready[s.group(p)]++
		}
	}
	for _, b := range all[*policy.PodDisruptionBudget](s, workload.KindDisruptionBudget) {
		for _, p := range well {
			if about(b, p) {
				c.healthy[budgetKey(b)]++
			}
		}
	}
	return c
}

func budgetKey(b *policy.PodDisruptionBudget) manifests.Key {
	return manifests.Key{Group: policy.GroupName, Kind: workload.KindDisruptionBudget.Kind, Namespace: b.Namespace, Name: b.Name}
}

// about says whether a budget is about a pod.
func about(b *policy.PodDisruptionBudget, p *v1.Pod) bool {
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return err == nil && b.Namespace == p.Namespace && selector.Matches(labels.Set(p.Labels))
}

func (s *world) about(p *v1.Pod, fate string) Pod {
	return Pod{Namespace: p.Namespace, Name: p.Name, Owner: s.owner(p), Node: p.Spec.NodeName, Fate: fate}
}

// fateOfLost is what has become of a pod of a lost node, but for its replacement,
// which conclude finds: until then it is surplus.
func (s *world) fateOfLost(p *v1.Pod) Pod {
	f := s.about(p, Down)
	now, _ := s.Get(podKey(p))
	node, _ := s.Get(manifests.Key{Kind: workload.KindNode.Kind, Name: p.Spec.NodeName})
	ref := metav1.GetControllerOf(p)
	there := now != nil && now.GetUID() == p.UID
	switch {
	case workload.Static(p):
		f.Natural, f.Why = true, "a static pod of that host"
	case ref != nil && ref.Kind == workload.KindDaemonSet.Kind:
		f.Natural, f.Why = true, "its daemon set has one on each node"
	case s.bound(p):
		f.Why = "whoever declared it named its node (spec.nodeName)"
	case there:
		if given, _ := workload.GivenUp(p, node.(*v1.Node), s.Now); !given {
			f.Why = s.remains(p, node.(*v1.Node))
		} else if s.namesNode(p) {
			f.Why = "the template of its replica set names its node (spec.nodeName)"
		} else {
			f.Fate, f.Why = Surplus, "those that are left are enough"
		}
	case ref != nil:
		f.Fate, f.Why = Surplus, "those that are left are enough"
	default:
		f.Fate, f.Why = Ends, "nothing makes it anew: neither a file nor a controller"
	}
	return f
}

// namesNode says whether the template of a pod's replica set names a node.
func (s *world) namesNode(p *v1.Pod) bool {
	ref := metav1.GetControllerOf(p)
	if ref == nil {
		return false
	}
	o, _ := s.Get(manifests.Key{Group: apps.GroupName, Kind: ref.Kind, Namespace: p.Namespace, Name: ref.Name})
	rs, is := o.(*apps.ReplicaSet)
	return is && rs.Spec.Template.Spec.NodeName != ""
}

// remains is why a pod of a lost node is not driven out.
func (s *world) remains(p *v1.Pod, node *v1.Node) string {
	given := slices.ContainsFunc(node.Spec.Taints, func(t v1.Taint) bool {
		return t.Key == v1.TaintNodeUnreachable && t.Effect == v1.TaintEffectNoExecute
	})
	at, goes := workload.DrivenOutAt(p, node.Spec.Taints)
	switch {
	case s.frozen != "":
		return "nobody is evicted: " + s.frozen
	case !given:
		return "its node is not given up within " + horizon.String() + ": see the rates in [eviction]"
	case goes:
		return "it tolerates the loss of its node for " + at.Sub(s.start).Round(time.Second).String()
	}
	return "it tolerates the loss of its node for ever"
}

// conclude adds the pods that make room for others, finds who replaces whom, and
// sums up.
func (s *world) conclude(out *Outcome, concerned []*v1.Pod, before, least counts) {
	for _, v := range s.victims {
		if slices.ContainsFunc(concerned, func(p *v1.Pod) bool { return p.UID == v.pod.UID }) || s.isMade(v.pod) {
			continue
		}
		f := s.about(v.pod, Surplus)
		if metav1.GetControllerOf(v.pod) == nil {
			f.Fate = Ends
		}
		f.Why, f.After = v.why, s.after(v.at)
		out.Pods, concerned = append(out.Pods, f), append(concerned, v.pod)
	}
	s.pair(out, concerned)
	for i := range out.Pods {
		if f := &out.Pods[i]; out.Frozen != "" && f.Fate == Surplus {
			f.Why = "one too many, since pods of nodes that were given up before count again: " + out.Frozen
		}
	}
	s.workloads(out, concerned, before, least)
	s.budgets(out, concerned, before, least)
	out.OK = !slices.ContainsFunc(out.Pods, func(p Pod) bool {
		return p.Fate == Pending || p.Fate == Blocked || p.Fate == Returns || p.Fate == Ends || p.Fate == Down && !p.Natural
	})
	slices.SortStableFunc(out.Pods, func(a, b Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Name, b.Name))
	})
}

func (s *world) isMade(p *v1.Pod) bool {
	return slices.ContainsFunc(s.made, func(m *made) bool { return m.pod.UID == p.UID })
}

// after is a time as seconds after the beginning; of a drain nobody knows it.
func (s *world) after(at time.Time) *float64 {
	if len(s.lost) == 0 {
		return nil
	}
	seconds := at.Sub(s.start).Round(100 * time.Millisecond).Seconds()
	return &seconds
}

// pair finds the pods that were made in the place of others: of one group, each
// for one.
func (s *world) pair(out *Outcome, concerned []*v1.Pod) {
	fresh := make(map[string][]*made)
	for _, m := range s.made {
		if now, ok := s.Get(podKey(m.pod)); ok && now.GetUID() == m.pod.UID && !m.before {
			fresh[s.group(m.pod)] = append(fresh[s.group(m.pod)], m)
		}
	}
	for i, p := range concerned {
		f := &out.Pods[i]
		list := fresh[s.group(p)]
		if f.Fate != Surplus && f.Fate != Ends || len(list) == 0 {
			continue
		}
		m := list[0]
		fresh[s.group(p)] = list[1:]
		room := f.Why
		if !slices.ContainsFunc(s.victims, func(v victim) bool { return v.pod.UID == p.UID }) {
			room = ""
		}
		if m.at.IsZero() {
			f.Fate, f.After = Pending, nil
			f.Why = joined(room, s.unplaced(m.pod))
			continue
		}
		f.Fate, f.To, f.After, f.Why = Moves, m.pod.Spec.NodeName, s.after(m.at), room
		if slices.Contains(out.Nodes, f.To) {
			f.Fate, f.Why = Returns, joined(room, "it tolerates that its host is cordoned, or lost")
		}
		if s.ill[s.group(p)] {
			f.Why = joined(room, "no pod of its kind is ready now")
		}
	}
}

func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// unplaced is why a pod has no place.
func (s *world) unplaced(p *v1.Pod) string {
	why := s.waiting[p.UID]
	wanted := nodeaffinity.GetRequiredNodeAffinity(p)
	for _, n := range all[*v1.Node](s, workload.KindNode) {
		if match, err := wanted.Match(n); s.inSight(n.Name) && err == nil && match {
			return why
		}
	}
	return "bound to its host: no other node has the labels that it asks for; " + why
}

// workloads says how the controllers of these pods come off.
func (s *world) workloads(out *Outcome, concerned []*v1.Pod, before, least counts) {
	now := s.count(nil)
	done := make(map[string]bool)
	for _, p := range concerned {
		group, owner := s.group(p), s.owner(p)
		if done[group] || owner == "" {
			continue
		}
		done[group] = true
		out.Workloads = append(out.Workloads, Workload{p.Namespace, owner, before.desired[group], before.ready[group], least.ready[group], now.ready[group]})
	}
	slices.SortFunc(out.Workloads, func(a, b Workload) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

// desired is how many pods a controller is to have.
func (s *world) desired(namespace, owner string) int {
	kind, name, _ := strings.Cut(owner, "/")
	o, _ := s.Get(manifests.Key{Group: apps.GroupName, Kind: kind, Namespace: namespace, Name: name})
	switch o := o.(type) {
	case *apps.Deployment:
		return int(*o.Spec.Replicas)
	case *apps.ReplicaSet:
		return int(*o.Spec.Replicas)
	case *apps.DaemonSet:
		return int(o.Status.DesiredNumberScheduled)
	}
	return 0
}

// budgets says how the budgets about these pods come off.
func (s *world) budgets(out *Outcome, concerned []*v1.Pod, before, least counts) {
	now := s.count(nil)
	for _, b := range all[*policy.PodDisruptionBudget](s, workload.KindDisruptionBudget) {
		if !slices.ContainsFunc(concerned, func(p *v1.Pod) bool { return about(b, p) }) {
			continue
		}
		key := budgetKey(b)
		out.Budgets = append(out.Budgets, Budget{b.Namespace, b.Name, s.wants(key), before.healthy[key], least.healthy[key], now.healthy[key]})
	}
}

// wants is how many healthy pods a budget asks for.
func (s *world) wants(key manifests.Key) int {
	for _, c := range workload.Reconcile(key, s.cluster()).Changes {
		if b, is := c.Object.(*policy.PodDisruptionBudget); is {
			return int(b.Status.DesiredHealthy)
		}
	}
	return 0
}
