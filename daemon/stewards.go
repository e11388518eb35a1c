package daemon

import (
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/steward"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// stewards is who decides, as long as the members are these.
type stewards struct {
	members []steward.Member
	only    string            // the one member that can decide, where there is just one
	of      map[string]string // by key, of those that were asked for
}

// follow takes the members as they are now, and says whether that may have
// changed who decides.
func (s *stewards) follow(members []steward.Member) (changed bool) {
	if s.of != nil && slices.Equal(members, s.members) {
		return false
	}
	*s = stewards{members: slices.Clone(members), of: make(map[string]string)}
	for _, m := range members {
		switch {
		case !m.CanDecide():
		case s.only != "":
			s.only = ""
			return true
		default:
			s.only = m.Name
		}
	}
	return true
}

// steward is who decides about a key, "" where nobody can.
func (s *stewards) steward(key string) string {
	if s.only != "" {
		return s.only
	}
	name, known := s.of[key]
	if !known {
		name = steward.Steward(key, s.members)
		s.of[key] = name
	}
	return name
}

// stewardOf is the node that decides about an object; "" where none can now. A
// static pod is its node's own.
func (d *Daemon) stewardOf(key manifests.Key) string {
	if key.GroupKind() == podKind {
		if _, is := d.static.pods[key]; is {
			return d.Config.Node
		}
		if o, ok := d.view.Get(key); ok && workload.Static(o.(*v1.Pod)) {
			return o.(*v1.Pod).Spec.NodeName
		}
	}
	if d.stewards.only != "" {
		return d.stewards.only
	}
	return d.stewards.steward(workload.Top(d.view, key).String())
}

// decides says whether this node decides about an object.
func (d *Daemon) decides(key manifests.Key) bool { return d.stewardOf(key) == d.Config.Node }

// followMembers has this node look at everything again where the members have
// changed, and take over what has become its own to decide.
func (d *Daemon) followMembers() {
	if !d.stewards.follow(d.members()) {
		return
	}
	d.nodes.look = true // who decides about a node may be another one, though nothing happened to that node
	var keys []manifests.Key
	for _, kind := range d.view.Kinds() {
		if _, is := workload.Reconciled(kind); !is {
			continue
		}
		list, _ := d.view.List(kind, "")
		for _, o := range list {
			keys = append(keys, manifests.Key{Group: kind.Group, Kind: kind.Kind, Namespace: o.GetNamespace(), Name: o.GetName()})
		}
	}
	d.takeOver(d.contested())
	d.look(keys...)
	d.declarations.decideOn(slices.Collect(maps.Keys(d.declared))...)
	d.waiting.look = true
}

// named is an object in words.
func named(key manifests.Key) string {
	if key.Namespace == "" {
		return key.Kind + " " + key.Name
	}
	return key.Kind + " " + key.Namespace + "/" + key.Name
}

// hearsAll says whether the record of each member in sight is known here: what
// none of these says, nobody says.
func (d *Daemon) hearsAll() (all bool) {
	d.records.Read(func(records map[string]*record.Record) {
		all = !slices.ContainsFunc(d.stewards.members, func(m steward.Member) bool { return m.Alive && records[m.Name] == nil })
	})
	return all
}

// mayDecide refuses what changes a decision where another node decides.
func (d *Daemon) mayDecide(key manifests.Key) error {
	switch node := d.stewardOf(key); node {
	case d.Config.Node:
		return nil
	case "":
		return apierrors.NewServiceUnavailable(fmt.Sprintf("no node decides about %s yet: this one is still hearing from its peers; try again", named(key)))
	default:
		return apierrors.NewServiceUnavailable(fmt.Sprintf("node %s decides about %s: ask there", node, named(key)))
	}
}

// isDecided says whether an object exists because a node decided so, and not
// because a file declares it: a write changes the decision then. A file would
// bring back what its controller ends.
func (d *Daemon) isDecided(key manifests.Key) bool {
	e, err := d.entries(key)
	if err != nil || len(e.Decisions) == 0 || key.GroupKind() == workload.KindNode {
		return false
	}
	return key.GroupKind() != podKind || len(record.Counting(e.Claims)) == 0
}

// follow has this node decide about what other nodes' records say anew. What
// changes in the view brings its looks of itself.
func (d *Daemon) follow(names []record.Name) {
	for _, name := range names {
		key, err := manifests.ParseKey(name.Key)
		switch {
		case err != nil:
		case key.GroupKind() == workload.KindNode: // pods that its shutdown ended may go on
			d.declarations.decideOn(slices.Collect(maps.Keys(d.declared))...)
		case key.GroupKind() != podKind:
		case name.Section != record.Status:
			d.declarations.decideOn(key)
		default:
			if o, ok := d.view.Get(key); ok && o.GetDeletionTimestamp() != nil {
				d.look(key) // its node may say that nothing of it is left
				d.declarations.decideOn(key)
			}
		}
	}
}

// mayHaveOwner says of an object whose controller is not known here whether the
// record of a member that has not come may tell of it. Else nobody owns it.
func (d *Daemon) mayHaveOwner(key manifests.Key, o view.Object) bool {
	ref := metav1.GetControllerOf(o)
	if ref == nil || d.alone() && len(d.stewards.members) < 2 || d.hearsAll() {
		return false
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return false
	}
	_, known := d.view.Get(manifests.Key{Group: gv.Group, Kind: ref.Kind, Namespace: key.Namespace, Name: ref.Name})
	return !known
}
