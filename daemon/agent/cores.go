package agent

import (
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/cpuset"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/scope"
)

// cores is who holds which processors of the host, decided for all pods
// together. What a pod holds is also in its state file.
type cores struct {
	log     *slog.Logger
	changed func() // what was decided, or where somebody runs, has changed

	mu    sync.Mutex
	node  cpuset.Node
	held  cpuset.Held
	needs map[string][]cpuset.Need // of all pods that may run
	names map[string]string        // of those, for people
	use   cpuset.Use
}

func newCores(node cpuset.Node, log *slog.Logger, changed func()) *cores {
	// Where an earlier daemon's pods run is not known before it is set again.
	return &cores{
		log: log, changed: changed, node: node,
		held: make(cpuset.Held), needs: make(map[string][]cpuset.Need), names: make(map[string]string),
		use: cpuset.Use{Pool: node.Topology.CPUs(), Pods: make(map[string]cpuset.Set)},
	}
}

// restore takes up what pods held when an earlier daemon ended, and decides
// again: the policy or the host may have changed since.
//
// Where pods run is not known before it is set again, but for this: nobody else
// is where a container was put to be alone. So it stays so.
func (c *cores) restore(states []*state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := cpuset.Set{}
	for _, s := range states {
		taken = taken.Union(alone(s))
	}
	all := c.node.Topology.CPUs()
	c.use.Pool = all.Difference(taken)
	for _, s := range states {
		uid := string(s.Pod.UID)
		c.needs[uid], c.names[uid] = needs(s.Pod, mainStarted(s)), s.Pod.Namespace+"/"+s.Pod.Name
		if holding := parseHolding(s.Held); len(holding) > 0 {
			c.held[uid] = holding
		}
		if scope.QOS(s.Pod) == v1.PodQOSGuaranteed { // the others' cpuset is their slice's
			c.use.Pods[uid] = all.Difference(taken.Difference(alone(s)))
		}
	}
	c.held = c.node.Replan(c.held, c.needs)
}

// alone is where a pod's containers were put to be alone, of what it holds. One
// that was given back meanwhile may be anybody's.
func alone(s *state) cpuset.Set {
	set := cpuset.Set{}
	for name, held := range parseHolding(s.Held) {
		cs := s.Containers[name]
		if cs == nil || cs.Current == nil || !cs.Current.CPUs.Own {
			continue
		}
		if in, err := cpuset.Parse(cs.Current.CPUs.Set); err == nil {
			set = set.Union(held.Intersection(in))
		}
	}
	return set
}

// set puts another policy, or another topology, in force.
func (c *cores) set(node cpuset.Node) {
	c.mu.Lock()
	before := c.held
	c.node, c.held = node, node.Replan(c.held, c.needs)
	c.log.Info("processors handed out anew", "before", oneLine(before.String()), "after", oneLine(c.held.String()))
	c.mu.Unlock()
	c.changed()
}

// admit gives a pod what it needs, or says with a *cpuset.Refusal why not: then
// it holds what it did before. It may be called again with the same.
func (c *cores) admit(p *v1.Pod, wants []cpuset.Need) error {
	c.mu.Lock()
	uid := string(p.UID)
	before := c.held[uid]
	holding, err := c.node.Place(c.held, uid, wants)
	if err == nil {
		c.needs[uid], c.names[uid] = wants, p.Namespace+"/"+p.Name
		delete(c.held, uid)
		if len(holding) > 0 {
			c.held[uid] = holding
		}
	}
	changed := err == nil && !maps.EqualFunc(before, holding, cpuset.Set.Equals)
	c.mu.Unlock()
	if changed {
		c.changed()
	}
	return err
}

// holds is what a pod holds.
func (c *cores) holds(uid string) cpuset.Holding {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held[uid]
}

// grant is what a pod may use now.
func (c *cores) grant(uid string) cpuset.Grant {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.node.Grant(c.held, c.use, uid)
}

// begin is grant, for a pod that has a cpuset of its own and is about to be put
// there: until end it is taken to be in both places.
func (c *cores) begin(uid string) cpuset.Grant {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.node.Grant(c.held, c.use, uid)
	c.use.Pods[uid] = c.use.Pods[uid].Union(c.places(g.Scope()))
	return g
}

// end notes that the pod's processes run nowhere but there.
func (c *cores) end(uid string, there cpuset.Set) {
	c.mu.Lock()
	was := c.use.Pods[uid]
	c.use.Pods[uid] = c.places(there)
	left := !was.IsSubsetOf(c.use.Pods[uid])
	c.mu.Unlock()
	if left {
		c.changed()
	}
}

// places is a cpuset in force: an empty one restricts nothing.
func (c *cores) places(set cpuset.Set) cpuset.Set {
	if set.IsEmpty() {
		return c.node.Topology.CPUs()
	}
	return set
}

// stopped notes that no process of the pod is left.
func (c *cores) stopped(uid string) {
	c.mu.Lock()
	_, ran := c.use.Pods[uid]
	delete(c.use.Pods, uid)
	c.mu.Unlock()
	if ran {
		c.changed()
	}
}

// release gives back all that a pod holds. It will not run again.
func (c *cores) release(uid string) {
	c.mu.Lock()
	_, held := c.held[uid]
	delete(c.held, uid)
	delete(c.needs, uid)
	delete(c.names, uid)
	c.mu.Unlock()
	if held {
		c.changed()
	}
}

// beginPool is the shared processors, for the slices that are about to be put
// there: until endPool they are taken to be in both places.
func (c *cores) beginPool() (pool cpuset.Set, static bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pool = c.node.Shared(c.held)
	c.use.Pool = c.use.Pool.Union(pool)
	return pool, c.node.Policy.Static
}

// endPool notes that the slices' processes run nowhere but there.
func (c *cores) endPool(pool cpuset.Set) {
	c.mu.Lock()
	left := !c.use.Pool.IsSubsetOf(pool)
	c.use.Pool = pool
	c.mu.Unlock()
	if left {
		c.changed()
	}
}

// pinning says whether pods may hold processors.
func (c *cores) pinning() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.node.Policy.Static
}

// concerned are the pods for which it matters what others hold.
func (c *cores) concerned() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := maps.Clone(c.names)
	for uid := range c.use.Pods {
		all[uid] = ""
	}
	return slices.Collect(maps.Keys(all))
}

// String says who holds what, in one line for people.
func (c *cores) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.node.Policy.Static {
		return ""
	}
	var parts []string
	for uid, holding := range c.held {
		for name, set := range holding {
			parts = append(parts, fmt.Sprintf("%s/%s %s", c.names[uid], name, set))
		}
	}
	slices.Sort(parts)
	return strings.Join(append(parts, "shared "+c.node.Shared(c.held).String(), "reserved "+c.node.Policy.Reserved.String()), "; ")
}

func oneLine(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "\n", ", ") }

// needs are what a pod's containers are to hold from now on: once a main
// container runs, init containers are over.
func needs(p *v1.Pod, mainStarted bool) []cpuset.Need {
	all := cpuset.Needs(p)
	if mainStarted {
		all = slices.DeleteFunc(all, func(n cpuset.Need) bool { return n.Kind == cpuset.Init })
	}
	return all
}

// mainStarted says whether a main container was started in the pod's sandbox.
func mainStarted(s *state) bool {
	return slices.ContainsFunc(s.Pod.Spec.Containers, func(c v1.Container) bool {
		cs := s.Containers[c.Name]
		return cs != nil && cs.Current != nil && !cs.Current.OldSandbox
	})
}

// parseHolding reads what formatHolding wrote. What can't be read is not held.
func parseHolding(text map[string]string) cpuset.Holding {
	holding := make(cpuset.Holding)
	for name, s := range text {
		if set, err := cpuset.Parse(s); err == nil && !set.IsEmpty() {
			holding[name] = set
		}
	}
	return holding
}

func formatHolding(holding cpuset.Holding) map[string]string {
	if len(holding) == 0 {
		return nil
	}
	text := make(map[string]string, len(holding))
	for name, set := range holding {
		text[name] = set.String()
	}
	return text
}

// SetCPUs puts another policy, or another topology of the host, in force:
// running pods are moved, none is restarted.
func (a *Agent) SetCPUs(node cpuset.Node) { a.cores.set(node) }

// CPUs says in one line who holds which processors; "" without the static policy.
func (a *Agent) CPUs() string { return a.cores.String() }

// BeginPool and EndPool frame the moving of pods without a cpuset of their own
// to the processors that nobody holds.
func (a *Agent) BeginPool() (pool cpuset.Set, static bool) { return a.cores.beginPool() }

// EndPool says that they run nowhere but there now.
func (a *Agent) EndPool(pool cpuset.Set) { a.cores.endPool(pool) }

// coresChanged has everybody look whom that may concern.
func (a *Agent) coresChanged() {
	for _, uid := range a.cores.concerned() {
		a.poke(types.UID(uid))
	}
	if a.cfg.CPUsChanged != nil {
		a.cfg.CPUsChanged()
	}
}

// restoreCores reads what the pods that are known hold.
func (a *Agent) restoreCores(pods []*v1.Pod) {
	var states []*state
	for _, p := range pods {
		if s, err := readState(filepath.Join(a.cfg.Run, string(p.UID))); err == nil {
			states = append(states, s)
		}
	}
	a.cores.restore(states)
}

// cpus is a grant to one container as the deciders see it.
func cpus(g cpuset.Grant, name string) pod.CPUs {
	set, own := g.Container(name)
	if len(g.Own) == 0 && !own {
		return pod.CPUs{} // the scope says it all
	}
	return pod.CPUs{Set: set.String(), Own: own}
}
