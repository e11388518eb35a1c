package daemon

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/placement"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/pressure"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/shutdown"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// waiting is the pods without a node, and whether to look for one again.
type waiting struct {
	pods  map[manifests.Key]bool
	look  bool      // something has changed that may make room
	again time.Time // look again then; zero: when something changes
}

// notice follows the view.
func (w *waiting) notice(key manifests.Key, old, now view.Object) {
	switch key.GroupKind() {
	case workload.KindNode, namespaceKind:
		w.look = true
	case podKind:
		if w.pods == nil {
			w.pods = make(map[manifests.Key]bool)
		}
		delete(w.pods, key)
		is, _ := now.(*v1.Pod)
		if is != nil && is.Spec.NodeName == "" && is.DeletionTimestamp == nil {
			w.pods[key] = true
		}
		was, _ := old.(*v1.Pod)
		w.look = w.look || placement.Matters(was, is) || was.Status.NominatedNodeName != is.Status.NominatedNodeName
	}
}

// placePods looks for a node for each of the pods that this node decided on and
// that have none, the most important first, and says whether it found any, or
// made room.
// Asked again when nothing has changed, it does nothing.
func (d *Daemon) placePods() (placed bool) {
	d.waiting.look, d.waiting.again = false, time.Time{}
	d.agent.RetryResizes()
	if len(d.waiting.pods) == 0 {
		return false
	}
	placed = d.giveWay()
	var pods []*v1.Pod
	for key := range d.waiting.pods {
		o, ok := d.view.Get(key)
		if ok && d.decides(key) {
			pods = append(pods, d.withPriority(o.(*v1.Pod)))
		}
	}
	placement.Sort(pods)
	c := d.placementSees()
	values := make(map[record.Name]json.RawMessage)
	var say []func()
	for _, p := range pods {
		if len(p.Spec.SchedulingGates) > 0 {
			d.unscheduled(values, p, pod.SchedulingGated, placement.Outcome{})
			continue
		}
		except := d.refusals.of(p.UID, d.Now())
		if len(except) > 0 {
			d.waiting.again = d.Now().Add(refusedFor)
		}
		out := c.Place(p, d.placementOptions(p, except))
		if out.Node == "" {
			if why := out.Message(); d.unscheduled(values, p, why, out) {
				say = append(say, func() { d.events.Warning(objectReference(p), "FailedScheduling", "%s", why) })
			}
			c.Follow(p, out)
			if out.Preemption != nil {
				say, placed = append(say, d.preempt(values, c, p, out.Preemption)...), true
			}
			continue
		}
		p.Spec.NodeName = out.Node
		c.Add(p)
		d.bind(values, p, out.Node)
		placed = true
		say = append(say, func() {
			d.events.Normal(objectReference(p), "Scheduled", "Successfully assigned %s/%s to %s", p.Namespace, p.Name, out.Node)
		})
	}
	d.publish(values)
	for _, f := range say {
		f()
	}
	return placed
}

// bind decides on a pod's node. What was said of it before it had one goes.
func (d *Daemon) bind(values map[record.Name]json.RawMessage, p *v1.Pod, node string) {
	o, _ := d.view.Get(podKey(p))
	p = o.(*v1.Pod).DeepCopy()
	p.Spec.NodeName = node
	p.Status = v1.PodStatus{Phase: v1.PodPending, QOSClass: p.Status.QOSClass}
	d.decided(values, workload.Decision{Verb: workload.Update, Key: podKey(p), Pod: p})
	status := record.Name{Section: record.Status, Key: podKey(p).String()}
	if d.own(status) != nil {
		values[status] = nil
	}
}

// unscheduled puts why a pod has no node into its status, which one is kept for
// it and who has to make room there, and says whether that is new.
func (d *Daemon) unscheduled(values map[record.Name]json.RawMessage, p *v1.Pod, why string, out placement.Outcome) (isNew bool) {
	s := pod.Unscheduled(p, why, d.Now())
	s.NominatedNodeName = out.Nominated
	if equality.Semantic.DeepEqual(s, p.Status) {
		return false
	}
	making := victims(out.Preemption)
	if out.Preemption == nil && out.Nominated != "" { // room is being made: not all may have heard yet
		making = d.asked(podKey(p), p)
	}
	value, err := json.Marshal(view.PodStatus{UID: p.UID, Status: s, Preempts: making})
	if err != nil {
		d.Log.Error("can't write a status", "key", podKey(p).String(), "err", err)
		return false
	}
	values[record.Name{Section: record.Status, Key: podKey(p).String()}] = value
	return !slices.ContainsFunc(p.Status.Conditions, func(c v1.PodCondition) bool { return c.Type == v1.PodScheduled && c.Message == why })
}

// placementSees is the cluster as pods are placed on it.
func (d *Daemon) placementSees() *placement.Cluster {
	var nodes []*v1.Node
	list, _ := d.view.List(workload.KindNode, "")
	for _, o := range list {
		nodes = append(nodes, d.reachable(o.(*v1.Node)))
	}
	var pods, nominated []*v1.Pod
	list, _ = d.view.List(podKind, "")
	for _, o := range list {
		switch p := o.(*v1.Pod); {
		case p.Spec.NodeName != "":
			pods = append(pods, p)
		case p.Status.NominatedNodeName != "" && p.DeletionTimestamp == nil:
			nominated = append(nominated, d.withPriority(p))
		}
	}
	namespaces := make(map[string]map[string]string)
	list, _ = d.view.List(namespaceKind, "")
	for _, o := range list {
		namespaces[o.GetName()] = o.GetLabels()
	}
	c := placement.New(nodes, pods, namespaces)
	for _, p := range nominated {
		c.Nominate(p, p.Status.NominatedNodeName)
	}
	return c
}

// reachable is a node as pods are placed on it.
func (d *Daemon) reachable(n *v1.Node) *v1.Node {
	for _, m := range d.stewards.members {
		if m.Name == n.Name && m.Alive && !m.Leaving {
			return n
		}
	}
	return placement.OutOfSight(n)
}

// rooms is which pods the node has taken in. It is safe for concurrent use:
// pods ask for themselves, and one place is not to be given to two.
type rooms struct {
	mu    sync.Mutex
	taken map[types.UID]bool    // besides those whose status says so
	given map[types.UID]*v1.Pod // what an edit has changed since, with the resources that it was given
}

func (r *rooms) take(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(uid)
}

func (r *rooms) set(uid types.UID) {
	if r.taken == nil {
		r.taken = make(map[types.UID]bool)
	}
	r.taken[uid] = true
}

// has says whether a pod was taken in.
func (r *rooms) has(uid types.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken[uid]
}

func (r *rooms) leave(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.taken, uid)
	delete(r.given, uid)
}

// refuse says why the node, as it is now, does not take in a pod that was placed
// on it; else the pod has its room. Who was taken in once is never asked again.
func (d *Daemon) refuse(p *v1.Pod) *pod.Rejection {
	if d.shuttingDown() {
		return &pod.Rejection{Reason: shutdown.NotAdmittedReason, Message: shutdown.NotAdmittedMessage}
	}
	if why := pressure.Refusal(d.withPriority(p), d.pressure.Load().conditions); why != "" {
		return &pod.Rejection{Reason: reasonEvicted, Message: why}
	}
	o, ok := d.view.Get(d.nodeKey())
	if !ok {
		return nil // tests: a node is in the view before its pods are looked at
	}
	d.rooms.mu.Lock()
	defer d.rooms.mu.Unlock()
	others := slices.DeleteFunc(append(d.pods(), d.leftovers.list()...), func(other *v1.Pod) bool {
		return other.UID == p.UID || !d.rooms.holds(other)
	})
	_, static := p.Annotations[manifests.AnnotationConfigHash]
	if r := placement.Admit(p, o.(*v1.Node), others, static); r != nil {
		return &pod.Rejection{Reason: r.Reason, Message: r.Message}
	}
	d.rooms.set(p.UID)
	return nil
}
