package daemon

import (
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/steward"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// leftovers are pods that run here and are no longer to: another pod of that
// name counts, or the same one at another node. They end with their grace. Safe
// for concurrent use.
type leftovers struct {
	mu    sync.Mutex
	given map[types.UID]*v1.Pod // what the agent was given and has not said to be gone
	pods  map[types.UID]*v1.Pod // those that end
}

// replace is what the agent is to be given, where wanted are the node's pods as
// the view has them. A pod that comes back to this node while it ends here waits
// for that.
func (l *leftovers) replace(wanted []*v1.Pod, end func(*v1.Pod) *v1.Pod) (give []*v1.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	is := make(map[types.UID]bool)
	for _, p := range wanted {
		is[p.UID] = true
	}
	for uid, p := range l.given {
		if !is[uid] && l.pods[uid] == nil {
			l.add(end(p))
		}
	}
	given := make(map[types.UID]*v1.Pod, len(wanted))
	for _, p := range wanted {
		if l.pods[p.UID] == nil {
			give = append(give, p)
			given[p.UID] = p
		}
	}
	for _, p := range l.pods {
		give = append(give, p)
	}
	l.given = given
	return give
}

func (l *leftovers) add(p *v1.Pod) {
	if l.pods == nil {
		l.pods = make(map[types.UID]*v1.Pod)
	}
	l.pods[p.UID] = p
}

// has says whether a pod is one of them.
func (l *leftovers) has(uid types.UID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pods[uid] != nil
}

// gone forgets a pod of which nothing is left here.
func (l *leftovers) gone(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.given, uid)
	delete(l.pods, uid)
}

// list is all of them: they hold what they were given until they have ended.
func (l *leftovers) list() (pods []*v1.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pods {
		pods = append(pods, p)
	}
	return pods
}

// runPods has the agent follow what is decided.
func (d *Daemon) runPods() {
	var wanted []*v1.Pod
	for _, p := range d.here(d.pods()) {
		if p.DeletionTimestamp == nil { // a steward of a higher term had not heard of its deletion: it begins anew
			delete(d.gone, p.UID)
		}
		if !d.gone[p.UID] { // else its steward has yet to forget it
			wanted = append(wanted, d.byThisClock(p))
		}
	}
	d.agent.Sync(d.leftovers.replace(wanted, d.ended))
	d.host.podsDecided(wanted)
}

// isOthers says whether another node's decision counts for the name of a pod that
// an earlier daemon left running. If that is about another pod, or another node,
// this one ends.
func (d *Daemon) isOthers(key manifests.Key, p *v1.Pod) bool {
	e := view.Entries{Decisions: d.said(record.Name{Section: record.Decisions, Key: key.String()})}
	if _, own := e.Decisions[d.Config.Node]; len(e.Decisions) == 0 || own && len(e.Decisions) == 1 {
		return false
	}
	e.Status = d.said(record.Name{Section: record.Status, Key: key.String()})
	decisions, admitted, _ := e.Decided() // what can't be read does not count
	counts, any := steward.Settle(decisions, admitted)
	if !any || counts.Steward == d.Config.Node {
		return false
	}
	if counts.UID != string(p.UID) || counts.Node != d.Config.Node {
		d.leftovers.mu.Lock()
		defer d.leftovers.mu.Unlock()
		d.leftovers.add(d.ended(p))
	}
	return true
}

// ended is a pod that another counts for: its steward has not deleted it.
func (d *Daemon) ended(p *v1.Pod) *v1.Pod {
	p = p.DeepCopy()
	grace := int64(v1.DefaultTerminationGracePeriodSeconds)
	if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = *s
	}
	workload.MarkDeleted(p, grace, d.Now())
	switch {
	case !d.rooms.has(p.UID): // it never ran here
	case d.heldBack():
		d.events.Warning(objectReference(p), reasonNodeCloned, "Stopping: another host is node %s, with the same key, and runs it", d.Config.Node)
	default:
		d.events.Normal(objectReference(p), reasonSuperseded, "Stopping: another node's decision counts, by which this pod is not to run here")
	}
	return p
}

// reasonSuperseded is the event on a pod that runs on a node where it is no
// longer to.
const reasonSuperseded = "Superseded"
