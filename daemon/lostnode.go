package daemon

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/nodelife"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/steward"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// returned is how long a node that was given up must be in sight again before
// its pods count: until then its record may say what was so before it was lost.
const returned = 2 * time.Second

// nodes is what this host knows of the nodes, and decides about those that are
// lost. It belongs to the loop.
type nodes struct {
	members []nodelife.Node      // as gossip has them, by name
	own     map[string]*v1.Node  // what each node says of itself
	words   map[string]word      // what the others say of it
	since   map[string]time.Time // when a node was first heard to be given up
	wishes  wishes
	memory  nodelife.Memory
	frozen  string
	look    bool
	again   time.Time // look again then; zero: when something changes
}

// word is what the others' records say of a node.
type word struct {
	nodelife.Verdict
	mine   bool // this node's record says something
	newest bool // and that is what counts
	others bool // so does another one's
	at     record.Stamp
}

// nodeVerdict is the value of a decision on a node in the record of another one.
type nodeVerdict struct {
	Verdict nodelife.Verdict `json:"verdict"`
	// Over is the stamp of the word that this one was said against. Without it, who
	// says again what it had said before a host that was cut off contradicted would
	// have said nothing new: a record's entry keeps the stamp of its value.
	Over record.Stamp `json:"over,omitempty"`
}

// wordOn settles what records other than the node's own say of it: the newest
// word counts, and one that was said against another is newer than that.
func (d *Daemon) wordOn(name string, decisions map[string]view.Said) (w word) {
	var by string
	var value nodeVerdict
	for node, said := range decisions {
		var v nodeVerdict
		if node == name || json.Unmarshal(said.Value, &v) != nil {
			continue
		}
		w.mine = w.mine || node == d.Config.Node
		w.others = w.others || node != d.Config.Node
		at := said.Stamp
		if v.Over >= at { // the clock of whom it was said against is ahead
			at = v.Over + 1
		}
		if by == "" || at > w.at || at == w.at && node > by {
			by, value, w.at = node, v, at
		}
	}
	w.Verdict, w.newest = value.Verdict, by == d.Config.Node
	return w
}

// foldNode is the node that everybody sees, and notes who says what of it. A host
// sees itself as it is: nobody may be left who could take a word on it back.
func (d *Daemon) foldNode(name string, e view.Entries, o view.Object) view.Object {
	d.nodes.look = true
	node, is := o.(*v1.Node)
	if !is {
		delete(d.nodes.own, name)
		delete(d.nodes.words, name)
		delete(d.nodes.since, name)
		d.dropWishes(name)
		return o
	}
	node = d.withKept(name, e, node)
	if d.nodes.own == nil {
		d.nodes.own, d.nodes.words, d.nodes.since = make(map[string]*v1.Node), make(map[string]word), make(map[string]time.Time)
	}
	w := d.wordOn(name, e.Decisions)
	d.nodes.own[name], d.nodes.words[name] = o.(*v1.Node), w
	if name == d.Config.Node {
		return node
	}
	applied := w.Apply(node)
	if !workload.Unreachable(applied) {
		delete(d.nodes.since, name)
		return applied
	}
	if d.nodes.since[name].IsZero() {
		d.nodes.since[name] = d.Now()
	}
	heard := metav1.NewTime(d.nodes.since[name])
	for i, t := range applied.Spec.Taints {
		if t.TimeAdded != nil && t.TimeAdded.After(heard.Time) { // by a host whose clock is ahead
			applied.Spec.Taints[i].TimeAdded = &heard
		}
	}
	return applied
}

// foldLost makes a pod of a lost node one that is not ready, and says why.
func (d *Daemon) foldLost(p *v1.Pod) {
	if p.Spec.NodeName == "" || p.Spec.NodeName == d.Config.Node {
		return
	}
	if since, lost := lostSince(d.seenNode(p.Spec.NodeName)); lost {
		nodelife.NotReady(&p.Status, since)
		p.Status.Reason, p.Status.Message = reasonNodeLost, "Node "+p.Spec.NodeName+" which was running pod "+p.Name+" is unresponsive"
	}
}

// seenNode is a node as the view has it, nil for none.
func (d *Daemon) seenNode(name string) *v1.Node {
	o, _ := d.view.Get(manifests.Key{Kind: workload.KindNode.Kind, Name: name})
	node, _ := o.(*v1.Node)
	return node
}

// lostSince says whether nobody knows how a node is, and since when.
func lostSince(node *v1.Node) (since time.Time, lost bool) {
	if node == nil {
		return since, false
	}
	for _, c := range node.Status.Conditions {
		if c.Type == v1.NodeReady {
			return c.LastTransitionTime.Time, c.Status == v1.ConditionUnknown
		}
	}
	return since, false
}

// refold are the pods that look otherwise when a node is lost, or found.
func (d *Daemon) refold(key manifests.Key, old, now view.Object) (pods []manifests.Key) {
	if key.GroupKind() != workload.KindNode {
		return nil
	}
	was, _ := old.(*v1.Node)
	is, _ := now.(*v1.Node)
	since, lost := lostSince(was)
	after, still := lostSince(is)
	if lost == still && (!lost || since.Equal(after)) {
		return nil
	}
	list, _ := d.view.List(podKind, "")
	for _, o := range list {
		if p := o.(*v1.Pod); p.Spec.NodeName == key.Name {
			pods = append(pods, podKey(p))
		}
	}
	return pods
}

// life is the members as nodelife sees them.
func (s sight) life(started time.Time) []nodelife.Node {
	list := []nodelife.Node{{Name: s.me, State: nodelife.Alive, Since: started}}
	named := map[string]bool{s.me: true}
	for _, m := range s.seen {
		if named[m.Name] {
			continue
		}
		named[m.Name] = true
		n := nodelife.Node{Name: m.Name, State: nodelife.Alive, Since: m.Since}
		switch {
		case m.Status == gossip.Left || m.Status == gossip.Failed && m.Tags[tagLeaving] != "":
			n.State = nodelife.Left
		case m.Status == gossip.Failed:
			n.State, n.Heard = nodelife.Failed, m.Since.Add(-suspicion(len(s.seen)+1)) // what is suspected was silent
		}
		list = append(list, n)
	}
	for _, name := range s.known {
		if !named[name] {
			named[name] = true
			n := nodelife.Node{Name: name, State: nodelife.Unseen, Since: started}
			if s.left[name] {
				n.State = nodelife.Left
			}
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b nodelife.Node) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// back is since when a node's host is in sight, zero while it is not.
func (n *nodes) back(name string) (since time.Time) {
	i := slices.IndexFunc(n.members, func(m nodelife.Node) bool { return m.Name == name && m.State == nodelife.Alive })
	if i >= 0 {
		since = n.members[i].Since
	}
	return since
}

// lookAtNodes decides what becomes of nodes that are lost, when something has
// changed or is due. A host by itself has nothing to look at.
func (d *Daemon) lookAtNodes() {
	now := d.Now()
	if again := d.nodes.again; !d.nodes.look && (again.IsZero() || again.After(now)) {
		return
	}
	d.nodes.look, d.nodes.again = false, time.Time{}
	d.settleWishes()
	if len(d.nodes.members) < 2 {
		return
	}
	in := nodelife.Input{Now: now, Config: d.Config.Eviction.Config, Memory: d.nodes.memory}
	for _, n := range d.nodes.members {
		n.Object, n.Was = d.nodes.own[n.Name], d.nodes.words[n.Name].Verdict
		if n.Name == d.Config.Node {
			n.Was = nodelife.Verdict{}
		}
		in.Nodes = append(in.Nodes, n)
	}
	out := nodelife.Decide(in)
	d.nodes.memory, d.nodes.again = out.Memory, out.Again
	if len(out.Verdicts) == 0 {
		out.Frozen = "" // nobody would be evicted
	}
	d.sayFrozen(out.Frozen)
	values := make(map[record.Name]json.RawMessage)
	for _, n := range in.Nodes {
		d.sayVerdict(values, n, out.Verdicts[n.Name])
	}
	if len(values) > 0 {
		d.publish(values)
	}
}

// sayVerdict publishes what is decided of a node, where that is this node's to
// say and is not said already; and takes back what another says now.
func (d *Daemon) sayVerdict(values map[record.Name]json.RawMessage, n nodelife.Node, want nodelife.Verdict) {
	w := d.nodes.words[n.Name]
	if n.Name == d.Config.Node || n.Object == nil || empty(want) && empty(w.Verdict) && !w.mine {
		return
	}
	key := manifests.Key{Kind: workload.KindNode.Kind, Name: n.Name}
	name := record.Name{Section: record.Decisions, Key: key.String()}
	if d.nodeSteward(key) != d.Config.Node {
		if w.mine && !w.newest {
			values[name] = nil
		}
		return
	}
	if back := n.Since.Add(returned); n.State == nodelife.Alive && empty(want) && workload.Unreachable(w.Apply(n.Object)) && back.After(d.Now()) {
		if d.nodes.again.IsZero() || back.Before(d.nodes.again) {
			d.nodes.again = back
		}
		return
	}
	switch {
	case empty(want) && !w.others:
		values[name] = nil
	case !equality.Semantic.DeepEqual(want, w.Verdict):
		said := nodeVerdict{Verdict: want}
		if !w.newest {
			said.Over = w.at
		}
		value, err := json.Marshal(said)
		if err != nil {
			d.Log.Error("can't write what is decided of a node", "node", n.Name, "err", err)
			return
		}
		values[name] = value
	}
	d.reportLost(n, w.Verdict, want)
}

func empty(v nodelife.Verdict) bool { return len(v.Conditions)+len(v.Taints) == 0 }

// nodeSteward is who decides about a node: never that one itself.
func (d *Daemon) nodeSteward(key manifests.Key) string {
	return steward.Steward(key.String(), slices.DeleteFunc(slices.Clone(d.stewards.members), func(m steward.Member) bool { return m.Name == key.Name }))
}

// reportLost says what is new of a node.
func (d *Daemon) reportLost(n nodelife.Node, was, is nodelife.Verdict) {
	about := v1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.Object.UID}
	before, after := workload.Unreachable(was.Apply(n.Object)), workload.Unreachable(is.Apply(n.Object))
	_, lostBefore := lostSince(was.Apply(n.Object))
	_, lost := lostSince(is.Apply(n.Object))
	if lost != lostBefore {
		reason := reasonReady
		if lost {
			reason = reasonNotReady
		}
		d.events.Normal(about, reason, "Node %s status is now: %s", n.Name, reason)
	}
	if before != after {
		d.Log.Warn("what ran on a node goes elsewhere, or need not any more", "node", n.Name, "given_up", after)
	}
}

// sayFrozen says, once, that nobody is evicted, and why.
func (d *Daemon) sayFrozen(why string) {
	if why == d.nodes.frozen {
		return
	}
	if why != "" {
		d.events.Warning(d.nodeReference(), reasonEvictsNobody, "Pods of lost nodes stay where they are: %s", why)
	} else {
		d.events.Normal(d.nodeReference(), reasonEvicts, "Pods of lost nodes go elsewhere again")
	}
	d.nodes.frozen = why
}

const (
	// reasonNodeLost is upstream's pkg/util/node NodeUnreachablePodReason.
	reasonNodeLost = "NodeLost"

	reasonEvictsNobody = "EvictsNobody"
	reasonEvicts       = "Evicts"
)

// isLost says whether a pod that a file declares is to be replaced although its
// node has not said that it is gone: that node is unreachable and given up, and
// the pod may be elsewhere.
func (d *Daemon) isLost(p *v1.Pod) bool {
	node := d.seenNode(p.Spec.NodeName)
	return node != nil && workload.Unreachable(node) && !d.isDeclaredThere(p)
}

// isDeclaredThere says whether the file that declares a pod names its node.
func (d *Daemon) isDeclaredThere(p *v1.Pod) bool {
	declared := d.declared[podKey(p)]
	return declared != nil && declared.Spec.NodeName != ""
}

// tolerateLoss gives a new pod the default tolerations.
func (d *Daemon) tolerateLoss(p *v1.Pod) {
	nodelife.Tolerate(&p.Spec, d.Config.Eviction.PodEvictionTimeout)
}

// complete fills in what a new pod that a file declares has from elsewhere.
func (d *Daemon) complete(p *v1.Pod) error {
	if p.Annotations[manifests.AnnotationConfigHash] == "" { // no admission stands before static pods
		d.tolerateLoss(p)
	}
	return d.prioritize(p)
}

// replaceLost has pods that files declare, and that were just ended on lost
// nodes, made anew.
func (d *Daemon) replaceLost(changes []workload.Change) {
	var keys []manifests.Key
	for _, c := range changes {
		if p, is := c.Object.(*v1.Pod); is && c.Verb == workload.Delete && d.declared[podKey(p)] != nil && d.isLost(p) {
			keys = append(keys, podKey(p))
		}
	}
	if len(keys) > 0 {
		d.decidePods(keys)
	}
}
