package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// What people set of a node (labels, taints, cordon) is that node's to keep. While
// it is lost, who decides about it keeps what they set, in a status entry of the
// node's key in its own record. What was set last counts. The node takes it over
// when it is back and hears of it; then the other one lets go.

// keptWish is that entry's value.
type keptWish struct {
	Wish nodeWish `json:"wish"`
}

// wishes is what is to be done about what people set of nodes, as folds find it.
type wishes struct {
	take *nodeWish               // by this node, of itself
	drop map[record.Name]bool    // entries of this node's that have been taken over
	bare map[string]nodeWish     // what each node's own record says that people set of it
	kept map[string]record.Stamp // which nodes' are kept elsewhere, and since when
}

// keptElsewhere is what people set of a node while it was lost, if nothing was set
// on the node since.
func keptElsewhere(name string, e view.Entries) (n nodeWish, since record.Stamp) {
	by := ""
	for node, said := range e.Status {
		var k keptWish
		if node == name || said.Stamp <= e.Decisions[name].Stamp || json.Unmarshal(said.Value, &k) != nil {
			continue
		}
		if said.Stamp > since || said.Stamp == since && node > by {
			n, since, by = k.Wish, said.Stamp, node
		}
	}
	return n, since
}

// withKept is a node's own object with what people set of it while it was lost,
// and notes what is to be done about that.
func (d *Daemon) withKept(name string, e view.Entries, node *v1.Node) *v1.Node {
	w := &d.nodes.wishes
	entry := record.Name{Section: record.Status, Key: manifests.Key{Kind: workload.KindNode.Kind, Name: name}.String()}
	delete(w.drop, entry)
	delete(w.kept, name)
	if w.bare == nil {
		w.bare, w.drop, w.kept = make(map[string]nodeWish), make(map[record.Name]bool), make(map[string]record.Stamp)
	}
	var own nodeWish
	if value := e.Decisions[name].Value; value != nil {
		_ = json.Unmarshal(value, &own) // of a newer version's, nothing is known
	}
	w.bare[name] = own
	n, since := keptElsewhere(name, e)
	mine, is := e.Status[d.Config.Node]
	if is && name != d.Config.Node && mine.Stamp < max(since, e.Decisions[name].Stamp) {
		w.drop[entry] = true
	}
	if name == d.Config.Node {
		w.take = nil
	}
	if since == 0 {
		return node
	}
	w.kept[name] = since
	if name == d.Config.Node {
		n.Kept = since // or, the same as before, it would not be newer
		w.take = &n
		return node // as soon as it is its own
	}
	node = own.without(node)
	n.wish(node)
	return node
}

// without is a node's object without what people set of it.
func (n nodeWish) without(o *v1.Node) *v1.Node {
	o = o.DeepCopy()
	if o.Labels == nil {
		o.Labels = make(map[string]string)
	}
	for key, value := range n.Labels {
		if o.Labels[key] == value {
			delete(o.Labels, key)
		}
	}
	for key, value := range n.Annotations {
		if o.Annotations[key] == value {
			delete(o.Annotations, key)
		}
	}
	o.Spec.Unschedulable = false
	o.Spec.Taints = slices.DeleteFunc(o.Spec.Taints, func(t v1.Taint) bool {
		return t.MatchTaint(&cordonTaint) || slices.ContainsFunc(n.Taints, func(set v1.Taint) bool { return set.MatchTaint(&t) })
	})
	return o
}

// settleWishes carries out what folds have found.
func (d *Daemon) settleWishes() {
	w := &d.nodes.wishes
	values := make(map[record.Name]json.RawMessage)
	for name := range w.drop {
		values[name] = nil
	}
	clear(w.drop)
	if take, own := w.take, d.nodes.own[d.Config.Node]; take != nil && own != nil {
		w.take = nil
		node := w.bare[d.Config.Node].without(own)
		take.wish(node)
		for name, value := range map[record.Name]any{d.nodeWishName(): take, {Section: record.Status, Key: d.nodeKey().String()}: node} {
			text, err := json.Marshal(value)
			if err != nil {
				d.Log.Error("can't take over what was set of this node", "err", err)
				return
			}
			values[name] = text
		}
	}
	if len(values) > 0 {
		d.publish(values)
	}
}

// dropWishes lets go of what is kept of a node that is no more.
func (d *Daemon) dropWishes(name string) {
	w := &d.nodes.wishes
	entry := record.Name{Section: record.Status, Key: manifests.Key{Kind: workload.KindNode.Kind, Name: name}.String()}
	delete(w.bare, name)
	delete(w.kept, name)
	delete(w.drop, entry)
	if name != d.Config.Node && d.own(entry) != nil {
		w.drop[entry] = true
	}
}

// keepWish writes what a client set of a node that is lost.
func (d *Daemon) keepWish(key manifests.Key, obj, old view.Object, dryRun bool) error {
	own := d.nodes.own[key.Name]
	if own == nil || old == nil {
		return forbidden(key, "a node makes itself known, by its name in shoal.toml")
	}
	bare := d.nodes.wishes.bare[key.Name].without(own)
	next := obj.(*v1.Node).DeepCopy()
	verdict := d.nodes.words[key.Name].Verdict
	next.Spec.Taints = slices.DeleteFunc(next.Spec.Taints, func(t v1.Taint) bool {
		return slices.ContainsFunc(verdict.Taints, func(v v1.Taint) bool { return v.MatchTaint(&t) })
	})
	n, err := wishOf(next, old.(*v1.Node), bare, d.Now())
	if err != nil {
		return forbidden(key, err.Error())
	}
	maps.DeleteFunc(n.Annotations, func(key, value string) bool { return bare.Annotations[key] == value })
	n.Taints = slices.DeleteFunc(n.Taints, func(t v1.Taint) bool {
		return slices.ContainsFunc(bare.Spec.Taints, func(b v1.Taint) bool { return b.MatchTaint(&t) })
	})
	if dryRun {
		return nil
	}
	value, err := json.Marshal(keptWish{n})
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	d.publish(map[record.Name]json.RawMessage{{Section: record.Status, Key: key.String()}: value})
	return nil
}

// nodeHome is who carries out what people set of a node: that node, and while it
// is lost who decides about it.
func (d *Daemon) nodeHome(key manifests.Key) string {
	for _, m := range d.stewards.members {
		if m.Name == key.Name && m.Alive {
			return key.Name
		}
	}
	if key.Name == d.Config.Node {
		return key.Name
	}
	return d.nodeSteward(key)
}

// deleteNode forgets a node that is lost: there is nothing else to a Node object
// than its host's word. (Kubernetes' is made anew by a kubelet that runs.)
func (w writer) deleteNode(ctx context.Context, key manifests.Key, o api.DeleteOptions) (view.Object, error) {
	d := w.d
	old, exists := d.view.Get(key)
	if !exists {
		return nil, apierrors.NewNotFound(resourceOf(key), key.Name)
	}
	if uid := o.Preconditions.UID; uid != nil && *uid != old.GetUID() {
		return nil, changedSince(key, *uid)
	}
	var home string
	if err := d.do(ctx, func() { home = d.nodeHome(key) }); err != nil {
		return nil, err
	}
	if home == key.Name {
		return nil, forbidden(key, fmt.Sprintf("its host is there, and would make it anew: run `shoal leave` on %s, or stop its shoald, and delete it then", key.Name))
	}
	if o.DryRun {
		return old, nil
	}
	return old, d.ForgetMember(ctx, key.Name)
}

func changedSince(key manifests.Key, uid types.UID) error {
	return apierrors.NewConflict(resourceOf(key), key.Name, fmt.Errorf("the precondition does not hold: it is another one than %s by now", uid))
}
