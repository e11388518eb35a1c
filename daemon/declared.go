package daemon

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// declarations is what claims of all nodes come to, beside the objects in the
// view.
type declarations struct {
	pods  map[manifests.Key]json.RawMessage // the content in force of each pod
	look  map[manifests.Key]bool            // pods to decide about
	filed map[manifests.Key]bool            // objects that some node's files declare, other than those the API wrote
	// The UIDs that objects had on hosts that did not know them to be older.
	former map[manifests.Key][]types.UID
}

func (s *declarations) decideOn(keys ...manifests.Key) {
	if s.look == nil {
		s.look = make(map[manifests.Key]bool)
	}
	for _, key := range keys {
		s.look[key] = true
	}
}

// foldOne is what the records say of a key. It notes what is declared.
func (d *Daemon) foldOne(key manifests.Key) (view.Object, error) {
	e, err := d.entries(key)
	if err != nil {
		return nil, err
	}
	d.noteFiled(key, e.Claims)
	d.noteFormer(key, e.Claims)
	if key.GroupKind() == podKind {
		if err := d.noteDeclared(key, e.Claims); err != nil {
			return nil, err
		}
	}
	o, err := view.Fold(key, e)
	switch {
	case err != nil:
		return nil, err
	case key.GroupKind() == workload.KindNode:
		return d.foldNode(key.Name, e, o), nil
	case key.GroupKind() == podKind && o != nil:
		d.foldLost(o.(*v1.Pod))
	}
	return o, nil
}

func (d *Daemon) noteFiled(key manifests.Key, claims map[string]record.Claim) {
	delete(d.declarations.filed, key)
	if len(claims) == 0 {
		return
	}
	api := d.apiFile(key)
	for _, c := range record.Counting(claims) {
		if c.Written || c.File == api && c.Filed == "" { // by a version that did not say so
			continue
		}
		if d.declarations.filed == nil {
			d.declarations.filed = make(map[manifests.Key]bool)
		}
		d.declarations.filed[key] = true
	}
}

// noteFormer keeps which UIDs an object had before hosts that had declared it met.
func (d *Daemon) noteFormer(key manifests.Key, claims map[string]record.Claim) {
	delete(d.declarations.former, key)
	for _, born := range record.Births(claims) {
		if d.declarations.former == nil {
			d.declarations.former = make(map[manifests.Key][]types.UID)
		}
		d.declarations.former[key] = append(d.declarations.former[key], view.UID(key, born))
	}
}

// noteDeclared keeps which pod the nodes' claims of a key declare. A static pod
// is none of them.
func (d *Daemon) noteDeclared(key manifests.Key, claims map[string]record.Claim) error {
	if _, is := d.static.pods[key]; is {
		return nil
	}
	node, winner := record.Winner(claims)
	if node == "" {
		if d.declared[key] != nil {
			delete(d.declared, key)
			delete(d.declarations.pods, key)
			d.declarations.decideOn(key)
		}
		return nil
	}
	if d.declared[key] != nil && bytes.Equal(d.declarations.pods[key], winner.Declared) {
		return nil
	}
	o, err := view.Declared(key, claims)
	if err != nil {
		return err
	}
	if d.declarations.pods == nil {
		d.declarations.pods = make(map[manifests.Key]json.RawMessage)
	}
	d.declarations.pods[key] = winner.Declared
	d.declared[key] = workload.WithoutMarks(o.(*v1.Pod))
	d.declarations.decideOn(key)
	return nil
}

// decideDeclared decides about the pods whose declaration has changed, or that
// have become this node's to decide about.
func (d *Daemon) decideDeclared() {
	if len(d.declarations.look) == 0 {
		return
	}
	keys := slices.Collect(maps.Keys(d.declarations.look))
	clear(d.declarations.look)
	d.decidePods(keys)
}
