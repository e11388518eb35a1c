package daemon

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/nodelife"
	"github.com/shoal-project/shoal/daemon/placement"
	"github.com/shoal-project/shoal/daemon/plan"
	"github.com/shoal-project/shoal/daemon/podsecurity"
	"github.com/shoal-project/shoal/daemon/view"
)

// Plan says what would happen, from a copy of what this node knows. Who decides
// is not held up by it; there is one plan at a time.
func (d *Daemon) Plan(ctx context.Context, q api.PlanRequest) (list api.PlanList, err error) {
	if !d.planning.TryLock() {
		return list, apierrors.NewTooManyRequests("another plan is being made: try again", 1)
	}
	defer d.planning.Unlock()
	var w plan.World
	if err := d.do(ctx, func() { w = d.planWorld() }); err != nil {
		return list, err
	}
	var one plan.Outcome
	switch {
	case q.Action == plan.Drain:
		one, err = plan.DrainNodes(w, q.Nodes...)
	case len(q.Nodes) == 0:
		list.Plans, err = plan.LoseEach(ctx, w)
		return list, err
	default:
		one, err = plan.LoseNodes(w, q.Nodes...)
	}
	list.Plans = []plan.Outcome{one}
	return list, err
}

// planWorld is what this node knows. The loop reads it; nobody changes what the
// copy points to.
func (d *Daemon) planWorld() plan.World {
	w := plan.World{
		Now: d.Now(), Objects: make(map[schema.GroupKind][]view.Object), Leaving: make(map[string]bool),
		Memory: d.nodes.memory, Config: d.Config.Eviction.Config, Suspicion: suspicion(len(d.members())),
		Declared: maps.Clone(d.declared), Filed: maps.Clone(d.declarations.filed),
		Refuse: func(namespace map[string]string, p *v1.Pod) string {
			v, err := podsecurity.Pod(namespace, p)
			if err != nil {
				return ""
			}
			return v.Refused
		},
	}
	if d.Config.Scheduler.Scoring == config.MostAllocated {
		w.Strategy = placement.MostAllocated
	}
	for _, kind := range d.view.Kinds() {
		if kind.Kind != "Event" {
			w.Objects[kind], _ = d.view.List(kind, "")
		}
	}
	for _, m := range d.members() {
		w.Leaving[m.Name] = m.Alive && m.Leaving
	}
	members := slices.Clone(d.nodes.members)
	if len(members) == 0 {
		members = []nodelife.Node{{Name: d.Config.Node, State: nodelife.Alive, Since: d.started}}
	}
	for i, m := range members {
		members[i].Object = d.nodes.own[m.Name]
		if m.Name != d.Config.Node {
			members[i].Was = d.nodes.words[m.Name].Verdict
		}
	}
	w.Members = members
	return w
}

// suspicion is how long Serf suspects a member before it has failed, at least, by
// the number of members (memberlist's suspicionTimeout; Serf's LAN defaults).
func suspicion(members int) time.Duration {
	return time.Duration(4 * max(1, math.Log10(float64(members))) * float64(time.Second))
}
