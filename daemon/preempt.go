package daemon

import (
	"encoding/json"

	v1 "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-helpers/scheduling/corev1"

	"github.com/shoal-project/shoal/daemon/config"
	"github.com/shoal-project/shoal/daemon/placement"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

const reasonPreempted = "Preempted"

// placementOptions is how a pod is placed, and on which nodes not now.
func (d *Daemon) placementOptions(p *v1.Pod, except map[string]string) placement.Options {
	o := placement.Options{Siblings: workload.Siblings(d.view, p), Except: except}
	if d.Config.Scheduler.Scoring == config.MostAllocated {
		o.Strategy = placement.MostAllocated
	}
	list, _ := d.view.List(schema.GroupKind{Group: policy.GroupName, Kind: "PodDisruptionBudget"}, "")
	for _, b := range list {
		o.Budgets = append(o.Budgets, b.(*policy.PodDisruptionBudget))
	}
	return o
}

// preempt has the pods end that have to make room for another, as far as this
// node decides about them. It returns the events to make of that, and notes in c
// that they are going.
func (d *Daemon) preempt(values map[record.Name]json.RawMessage, c *placement.Cluster, incoming *v1.Pod, room *placement.Preemption) (say []func()) {
	for _, victim := range room.Victims {
		if victim.DeletionTimestamp != nil {
			continue
		}
		p := d.displaced(victim, incoming)
		c.Remove(victim)
		c.Add(p)
		if d.decides(podKey(p)) {
			say = append(say, d.displace(values, p, incoming))
		}
	}
	return say
}

// displaced is a pod that makes room for another, with its own grace.
func (d *Daemon) displaced(victim, incoming *v1.Pod) *v1.Pod {
	return workload.Displaced(victim, v1.PodReasonPreemptionByScheduler,
		incoming.Spec.SchedulerName+": preempting to accommodate a higher priority pod", d.Now())
}

func (d *Daemon) displace(values map[record.Name]json.RawMessage, p, incoming *v1.Pod) (say func()) {
	d.carryOut(values, workload.Change{Verb: workload.Delete, Object: p})
	return func() {
		d.events.Normal(objectReference(p), reasonPreempted, "Preempted by pod %s on node %s", incoming.UID, p.Spec.NodeName)
	}
}

// victims are who has to make room, for those who decide about them.
func victims(room *placement.Preemption) (list []view.Victim) {
	if room == nil {
		return nil
	}
	for _, v := range room.Victims {
		list = append(list, view.Victim{Namespace: v.Namespace, Name: v.Name, UID: v.UID})
	}
	return list
}

// giveWay ends the pods, of those that this node decides about, that have to make
// room for pods about which other nodes decide, and says whether there were any.
func (d *Daemon) giveWay() (any bool) {
	values := make(map[record.Name]json.RawMessage)
	var say []func()
	for key := range d.waiting.pods {
		o, ok := d.view.Get(key)
		if !ok || o.(*v1.Pod).Status.NominatedNodeName == "" || d.decides(key) {
			continue
		}
		incoming := d.withPriority(o.(*v1.Pod))
		for _, v := range d.asked(key, incoming) {
			p, ok := d.view.Get(manifests.Key{Kind: podKind.Kind, Namespace: v.Namespace, Name: v.Name})
			if !ok || p.GetUID() != v.UID || p.GetDeletionTimestamp() != nil || !d.decides(podKey(p.(*v1.Pod))) {
				continue
			}
			victim := p.(*v1.Pod)
			if victim.Spec.NodeName == incoming.Status.NominatedNodeName && corev1.PodPriority(victim) < corev1.PodPriority(incoming) {
				say = append(say, d.displace(values, d.displaced(victim, incoming), incoming))
			}
		}
	}
	if len(say) == 0 {
		return false
	}
	d.publish(values)
	for _, f := range say {
		f()
	}
	return true
}

// asked is whom the steward of a pod without a node asks to make room for it.
func (d *Daemon) asked(key manifests.Key, p *v1.Pod) []view.Victim {
	e, err := d.entries(key)
	if err != nil {
		return nil // said when the key was folded
	}
	var s view.PodStatus
	if json.Unmarshal(e.Status[d.stewardOf(key)].Value, &s) != nil || s.UID != p.UID {
		return nil
	}
	return s.Preempts
}
