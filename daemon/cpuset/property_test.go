package cpuset

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// machines are made up, of all the shapes that matter: sockets, memory nodes a
// socket, cores a node, threads a core.
var machines = map[string]Topology{
	"one CPU":         grid(1, 1, 1, 1),
	"two cores":       grid(1, 1, 2, 1),
	"SMT":             grid(1, 1, 4, 2),
	"two sockets":     grid(2, 1, 4, 2),
	"nodes in socket": grid(1, 4, 2, 2),
	"large":           grid(2, 2, 6, 2),
	"four threads":    grid(1, 1, 4, 4),
	"hybrid": {
		{0, 0, 0, 0}, {1, 0, 0, 0}, {2, 2, 0, 0}, {3, 2, 0, 0},
		{4, 4, 0, 0}, {5, 5, 0, 0}, {6, 6, 0, 0}, {7, 7, 0, 0},
	},
}

func grid(sockets, nodes, cores, threads int) Topology {
	var t Topology
	all := sockets * nodes * cores
	for thread := range threads { // siblings are numbered after all first threads
		for c := range all {
			t = append(t, CPU{ID: thread*all + c, Core: c, Socket: c / (nodes * cores), NUMA: c / cores})
		}
	}
	return t
}

// TestLawsHoldWhateverPodsComeAndGo: no CPU is held twice at one time, none that
// is reserved, full cores are whole, what is not held is shared, nobody who
// stays is moved, and what was freed can be had again.
func TestLawsHoldWhateverPodsComeAndGo(t *testing.T) {
	for name, machine := range machines {
		for seed := range uint64(12) {
			chance := rand.New(rand.NewPCG(seed, 1))
			p := Policy{Static: true, FullCoresOnly: chance.IntN(2) == 0, Strict: chance.IntN(3) == 0}
			if machine.CPUs().Size() > 2 && chance.IntN(2) == 0 {
				p.Reserved = one(machine[chance.IntN(len(machine))].ID)
			}
			node, err := NewNode(machine, p)
			if err != nil {
				continue // the one CPU there is, reserved
			}
			held, needs := Held{}, map[string][]Need{}
			for step := range 40 {
				pod := fmt.Sprintf("p%d", chance.IntN(6))
				before := Held{}
				for k, v := range held {
					before[k] = v
				}
				if chance.IntN(3) == 0 {
					delete(held, pod)
					delete(needs, pod)
				} else {
					n := randomNeeds(chance)
					holding, err := node.Place(held, pod, n)
					if again, _ := node.Place(held, pod, n); err == nil && !sameCPUs(holding, again) {
						t.Fatalf("%s, seed %d: not the same twice", name, seed)
					}
					if err == nil {
						held[pod], needs[pod] = holding, n
						if settled, err := node.Place(held, pod, n); err != nil || !sameCPUs(settled, holding) {
							t.Fatalf("%s, seed %d: placing its own outcome changes it: %v, then %v (%v)", name, seed, holding, settled, err)
						}
					}
				}
				for other := range before {
					if other != pod && !sameCPUs(before[other], held[other]) {
						t.Fatalf("%s, seed %d: %s was moved", name, seed, other)
					}
				}
				if err := valid(node, held, needs); err != nil {
					t.Fatalf("%s, seed %d, step %d: %v\n%s", name, seed, step, err, held)
				}
			}
			if next := node.Replan(held, needs); next.String() != held.String() {
				t.Fatalf("%s, seed %d: the same policy again moves pods:\n%s\n%s", name, seed, held, next)
			}
			p.FullCoresOnly = !p.FullCoresOnly
			p.Reserved = one(machine[chance.IntN(len(machine))].ID)
			if changed, err := NewNode(machine, p); err == nil {
				if err := valid(changed, changed.Replan(held, needs), needs); err != nil {
					t.Fatalf("%s, seed %d, after a change of the policy: %v", name, seed, err)
				}
			}
			whole := node.Allocatable().Size()
			if p := node.Policy; p.Strict {
				whole -= machine.ThreadsPerCore() // for those who share
			}
			if whole > 0 {
				if _, err := node.Place(Held{}, "all", []Need{{"c", whole / machine.ThreadsPerCore() * machine.ThreadsPerCore(), App}}); err != nil {
					t.Fatalf("%s, seed %d: what was freed can't be had: %v", name, seed, err)
				}
			}
		}
	}
}

func randomNeeds(chance *rand.Rand) []Need {
	var needs []Need
	for i := range 1 + chance.IntN(3) {
		needs = append(needs, Need{fmt.Sprintf("c%d", i), 1 + chance.IntN(5), Kind(chance.IntN(3))})
	}
	return needs
}

// valid is written apart from what it checks.
func valid(n Node, held Held, needs map[string][]Need) error {
	owner := map[int]string{}
	for pod, holding := range held {
		side := map[int]string{} // by containers that run side by side
		for _, need := range needs[pod] {
			set, ok := holding[need.Container]
			if !ok || set.Size() != need.CPUs {
				return fmt.Errorf("%s/%s holds %s, needs %d", pod, need.Container, set, need.CPUs)
			}
			for _, id := range set.List() {
				if other, taken := owner[id]; taken && other != pod {
					return fmt.Errorf("CPU %d is held by %s and %s", id, other, pod)
				}
				owner[id] = pod
				if n.Policy.Reserved.Contains(id) {
					return fmt.Errorf("%s holds reserved CPU %d", pod, id)
				}
				if need.Kind == Init {
					continue
				}
				if other, taken := side[id]; taken {
					return fmt.Errorf("CPU %d is held by containers %s and %s", id, other, need.Container)
				}
				side[id] = need.Container
			}
		}
		for _, need := range needs[pod] {
			for _, id := range holding[need.Container].List() {
				for _, sidecar := range needs[pod] {
					if need.Kind == Init && sidecar.Kind == Sidecar && holding[sidecar.Container].Contains(id) {
						return fmt.Errorf("init container %s uses CPU %d of sidecar %s", need.Container, id, sidecar.Container)
					}
				}
			}
		}
	}
	if n.Policy.FullCoresOnly {
		for _, c := range n.Topology {
			for _, d := range n.Topology {
				if c.Core == d.Core && owner[c.ID] != owner[d.ID] {
					return fmt.Errorf("core %d is split between %q and %q", c.Core, owner[c.ID], owner[d.ID])
				}
			}
		}
	}
	shared := n.Shared(held)
	for _, c := range n.Topology {
		_, taken := owner[c.ID]
		free := !taken && !(n.Policy.Strict && n.Policy.Reserved.Contains(c.ID))
		if shared.Contains(c.ID) != free {
			return fmt.Errorf("CPU %d is shared: %v, want %v", c.ID, !free, free)
		}
	}
	if shared.IsEmpty() {
		return errors.New("nothing is left to share")
	}
	return nil
}
