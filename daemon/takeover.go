package daemon

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/steward"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// settled are the kinds whose objects stewards decide on: several nodes'
// records may have a decision on one key.
func settled(kind schema.GroupKind) bool {
	return kind == podKind || kind == workload.KindReplicaSet || kind == workload.KindControllerRevision
}

// controlled are the kinds whose controller, and so their steward, says what
// their status is.
func controlled(kind schema.GroupKind) bool {
	return kind == workload.KindDeployment || kind == workload.KindReplicaSet || kind == workload.KindDaemonSet || kind == workload.KindDisruptionBudget
}

// entries is what all records say of a key.
func (d *Daemon) entries(key manifests.Key) (e view.Entries, err error) {
	d.records.Read(func(records map[string]*record.Record) { e, err = view.Collect(records, key, d.readClaim) })
	return e, err
}

// alone says whether no other node's record is known here.
func (d *Daemon) alone() (alone bool) {
	d.records.Read(func(records map[string]*record.Record) { alone = len(records) == 1 })
	return alone
}

// contested are the keys on which nodes have decided, or say how a controller
// is.
func (d *Daemon) contested() (keys []manifests.Key) {
	d.records.Read(func(records map[string]*record.Record) {
		for _, r := range records {
			for name, e := range r.Entries {
				if e.Value == nil || name.Section == record.Claims {
					continue
				}
				if key, err := manifests.ParseKey(name.Key); err == nil && (settled(key.GroupKind()) || controlled(key.GroupKind())) {
					keys = append(keys, key)
				}
			}
		}
	})
	return keys
}

// takeOver has this node's record say of these keys what it is to say: what it
// has become the steward of, in a higher term than anybody else; and no more of
// what another has taken over.
func (d *Daemon) takeOver(keys []manifests.Key) {
	if len(keys) == 0 || d.alone() {
		return
	}
	values := make(map[record.Name]json.RawMessage)
	seen := make(map[manifests.Key]bool)
	for _, key := range keys {
		if seen[key] {
			continue
		}
		seen[key] = true
		if err := d.takeOverOne(values, key); err != nil {
			d.Log.Error("can't take over a decision", "key", key.String(), "err", err)
		}
	}
	if len(values) > 0 {
		d.publish(values)
	}
}

func (d *Daemon) takeOverOne(values map[record.Name]json.RawMessage, key manifests.Key) error {
	e := view.Entries{Status: d.said(record.Name{Section: record.Status, Key: key.String()})}
	if settled(key.GroupKind()) {
		name := record.Name{Section: record.Decisions, Key: key.String()}
		e.Decisions = d.said(name)
		decisions, admitted, err := e.Decided()
		if err != nil {
			d.Log.Warn("a decision that can't be read does not count", "key", key.String(), "err", err)
		}
		if err := d.repeat(values, name, key, e.Decisions, decisions, admitted); err != nil {
			return err
		}
	}
	if o, ok := d.view.Get(key); ok && controlled(key.GroupKind()) {
		told, err := e.Told(o.GetUID())
		if err != nil {
			d.Log.Warn("a status that can't be read does not count", "key", key.String(), "err", err)
		}
		return d.repeat(values, record.Name{Section: record.Status, Key: key.String()}, key, e.Status, told, nil)
	}
	return nil
}

// repeat carries out what steward.TakeOver says of one name.
func (d *Daemon) repeat(values map[record.Name]json.RawMessage, name record.Name, key manifests.Key,
	said map[string]view.Said, decisions []steward.Decision, admitted map[steward.Binding]bool) error {
	me := d.Config.Node
	counts, any := steward.Settle(decisions, admitted)
	switch {
	case !any:
		return nil
	case counts.UID == "" && !steward.Ended(me, decisions):
		if _, own := said[me]; own {
			values[name] = nil // nobody needs to be told any more that there is none
		}
		return nil
	}
	verb, next := steward.TakeOver(me, d.stewardOf(key), decisions, admitted)
	switch verb {
	case steward.Withdraw:
		values[name] = nil
	case steward.Republish:
		var value json.RawMessage
		if counts.UID != "" {
			value = said[counts.Steward].Value
		}
		value, err := view.InTerm(value, next.Term)
		if err != nil {
			return fmt.Errorf("repeat what %s says: %w", counts.Steward, err)
		}
		values[name] = value
	}
	return nil
}

// term is the term of what this node says next, given what all say: it goes on
// in its own, unless another is as high.
func term(me string, decisions []steward.Decision, first uint64) uint64 {
	own, others, mine := uint64(0), uint64(0), false
	contested := false
	for _, s := range decisions {
		if s.Steward == me {
			own, mine = s.Term, true
		} else {
			others, contested = max(others, s.Term), true
		}
	}
	switch {
	case mine && (!contested || own > others):
		return own
	case len(decisions) == 0:
		return first
	}
	return steward.Term(decisions)
}

// decideOn puts a decision on a key into values: an object as JSON, or nil for
// its end, which is said for as long as another record says otherwise.
func (d *Daemon) decideOn(values map[record.Name]json.RawMessage, key manifests.Key, value json.RawMessage) error {
	name := record.Name{Section: record.Decisions, Key: key.String()}
	decisions, _, err := view.Entries{Decisions: d.said(name)}.Decided()
	if err != nil {
		d.Log.Warn("a decision that can't be read does not count", "key", key.String(), "err", err)
	}
	if value == nil && !steward.Ended(d.Config.Node, decisions) {
		values[name] = nil
		return nil
	}
	value, err = view.InTerm(value, term(d.Config.Node, decisions, d.firstTerm()))
	values[name] = value
	return err
}

// tell puts what a controller says of its object's status into values.
func (d *Daemon) tell(values map[record.Name]json.RawMessage, key manifests.Key, uid types.UID, value json.RawMessage) error {
	name := record.Name{Section: record.Status, Key: key.String()}
	e := view.Entries{Status: d.said(name)}
	told, err := e.Told(uid)
	if err != nil {
		d.Log.Warn("a status that can't be read does not count", "key", key.String(), "err", err)
	}
	values[name], err = view.InTerm(value, term(d.Config.Node, told, 0))
	return err
}

// said is what each record has under a name.
func (d *Daemon) said(name record.Name) map[string]view.Said {
	all := make(map[string]view.Said)
	d.records.Read(func(records map[string]*record.Record) {
		for node, r := range records {
			if e := r.Entries[name]; e.Value != nil {
				all[node] = view.Said{Value: e.Value, Stamp: e.Stamp}
			}
		}
	})
	return all
}

// firstTerm is the term of the first decision on a key: 1, or, while none of the
// others is in sight, 0, as in records of versions without terms. What a host
// with a new disk makes up while it is cut off does not overturn what the others
// have decided long ago.
func (d *Daemon) firstTerm() uint64 {
	if len(d.stewards.members) < 2 && !d.fleet.wanted {
		return 1
	}
	for _, m := range d.stewards.members {
		if m.Name != d.Config.Node && m.Alive {
			return 1
		}
	}
	return 0
}
