package cpuset

// Use is where processes run at this moment, at most. It lags behind what was
// decided: cgroups are changed one after the other, and daemons die in between.
type Use struct {
	Pool Set            // pods that have no cpuset of their own
	Pods map[string]Set // those that have, by pod
}

// besides is where the processes of all pods but one run.
func (u Use) besides(pod string) Set {
	all := u.Pool
	for uid, set := range u.Pods {
		if uid != pod {
			all = all.Union(set)
		}
	}
	return all
}

// Grant is what a pod may use now.
type Grant struct {
	Shared Set     // for its containers that hold none; empty: whatever there is (policy none)
	Own    Holding // what it holds and nobody else is on any more
	Ready  bool    // Own is all that it holds
}

// Scope is what all processes of the pod may use; empty: whatever there is.
func (g Grant) Scope() Set { return g.Shared.Union(g.Own.CPUs()) }

// Container is what one container may use, and whether it has that to itself.
// A container runs with the others until what it holds is free.
func (g Grant) Container(name string) (set Set, own bool) {
	if set := g.Own[name]; !set.IsEmpty() {
		return set, true
	}
	return g.Shared, false
}

// Grant is what a pod may use while others still leave what they must. Nobody
// waits to leave: so whatever was decided comes true, in the end.
func (n Node) Grant(held Held, use Use, pod string) Grant {
	g := Grant{Own: make(Holding), Ready: true}
	if !n.Policy.Static {
		return g
	}
	g.Shared = n.Shared(held)
	busy := use.besides(pod)
	for name, set := range held[pod] {
		free := set.Difference(busy)
		if !free.Equals(set) {
			g.Ready = false
		}
		if !free.IsEmpty() {
			g.Own[name] = free
		}
	}
	return g
}
