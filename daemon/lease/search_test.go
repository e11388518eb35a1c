package lease

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// finding is a world that must not be, and how to get there.
type finding struct {
	what  string
	steps []string
}

func (f finding) String() string { return f.what + ":\n  " + strings.Join(f.steps, "\n  ") }

// search goes through all worlds that follow from w, nearest first, until one
// violates what must hold or there are more than most. It answers how many it
// saw, and whether those were all.
func (m *model) search(w world, most int, each func(world)) (found *finding, seen int, all bool) {
	type origin struct {
		from int32
		step uint16
	}
	var (
		known   = map[world]bool{w: true}
		origins = []origin{{from: -1}}
		queue   = []world{w}
		first   = w
	)
	trace := func(n int32) []string {
		var steps []uint16
		for ; origins[n].from >= 0; n = origins[n].from {
			steps = append(steps, origins[n].step)
		}
		slices.Reverse(steps)
		var names []string
		for w := first; len(steps) > 0; steps = steps[1:] {
			a := m.next(w)[steps[0]]
			name := fmt.Sprintf("%2d %s", w.t, a.name)
			if a.host >= 0 {
				name += fmt.Sprintf(" (host %d)", a.host)
			}
			names, w = append(names, name), a.to
		}
		return names
	}
	for i := int32(0); len(queue) > 0; i++ {
		w, queue = queue[0], queue[1:]
		if each != nil {
			each(w)
		}
		for step, a := range m.next(w) {
			if known[a.to] {
				continue
			}
			known[a.to] = true
			origins = append(origins, origin{i, uint16(step)})
			if what := m.violation(&a.to); what != "" {
				return &finding{what, trace(int32(len(origins) - 1))}, len(known), false
			}
			if len(known) >= most {
				return nil, len(known), false
			}
			queue = append(queue, a.to)
		}
	}
	return nil, len(known), true
}

// fair runs on from w as things go when nothing fails: what can happen happens
// at once, each message comes once, and then time passes. It answers the world
// in which a pod may write, or the last one.
func (m *model) fair(w world, ticks int8, hosts ...int) (world, bool) {
	m.bounds.ticks = w.t + ticks
	w.left = bounds{}
	for _, i := range hosts {
		h := *w.hosts[i]
		h.sends, h.claims, h.stop = 100, 100, false
		w.hosts[i] = m.canonHost(h)
	}
	good := []string{"wake", "resume", "shut", "lead", "commit", "propose", "due", "started", "start at once", "stopped", "send", "claim", "take over"}
	came := make(map[packet]bool)
	claimed := map[int]int8{0: -1, 1: -1}
	for !w.writing() {
		if !m.fairStep(&w, good, came, claimed) {
			return w, false
		}
	}
	return w, true
}

func (m *model) fairStep(w *world, good []string, came map[packet]bool, claimed map[int]int8) bool {
	all := m.next(*w)
	for _, name := range good {
		for _, a := range all {
			if a.name != name || name == "claim" && claimed[a.host] == w.t {
				continue
			}
			if name == "claim" {
				claimed[a.host] = w.t
			}
			*w = a.to
			return true
		}
	}
	for _, p := range *w.net {
		if came[p] {
			continue
		}
		came[p] = true
		if p.to >= 0 {
			m.hear(w, p)
		} else if w.procs[w.leader].l != nil {
			m.ask(w, p, int(w.leader))
		}
		for i := range w.hosts {
			m.settle(w, i)
		}
		return true
	}
	for _, a := range all {
		if a.name == "tick" {
			*w = a.to
			return true
		}
	}
	return false
}

// granted is w once host 0 has the claim, and has not started its pod.
func (m *model) granted(t *testing.T, w world) world {
	t.Helper()
	b := m.bounds
	limit := func(w *world, i int, sends, claims int8) {
		h := *w.hosts[i]
		h.sends, h.claims = sends, claims
		w.hosts[i] = m.canonHost(h)
	}
	limit(&w, 0, 1, 1)
	limit(&w, 1, 0, 0)
	came, claims := make(map[packet]bool), map[int]int8{0: -1, 1: -1}
	for w.hosts[0].know.Token == 0 {
		if !m.fairStep(&w, []string{"lead", "shut", "commit", "send", "claim"}, came, claims) {
			t.Fatal("nobody got the claim in a fair run")
		}
	}
	w.net = m.canonNet(nil)
	m.bounds = b
	m.bounds.ticks += w.t
	w.left = m.bounds
	for i := range w.hosts {
		limit(&w, i, b.sends[i], b.claims[i])
	}
	return w
}
