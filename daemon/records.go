package daemon

import (
	"encoding/json"
	"errors"
	"sync"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/identity"
	"github.com/shoal-project/shoal/daemon/peer"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/manifests"
)

// metaPins is the nodes' keys in the store.
const metaPins = "pins"

// openRecords takes all nodes' records, and who they are of, from the store.
func (d *Daemon) openRecords() error {
	records, err := d.store.Load()
	if err != nil {
		return err
	}
	if err := d.openID(); err != nil {
		return err
	}
	if err := d.keepName(); err != nil {
		return err
	}
	if d.key, err = identity.Open(d.path("var/lib/shoal/identity")); err != nil {
		return err
	}
	return d.openSet(records)
}

// openSet has this node's own record and the others' be known.
func (d *Daemon) openSet(records map[string]*record.Record) (err error) {
	save := func(text string) { d.store.SaveMeta(metaPins, text) }
	if d.pins, err = cluster.OpenPins(d.store.Meta(metaPins), save); err != nil {
		d.Log.Error("what was known of the other nodes' keys is lost: each is known by the next one that is seen", "err", err)
		if d.pins, err = cluster.OpenPins("", save); err != nil {
			return err
		}
	}
	for _, r := range records {
		for _, e := range r.Entries {
			d.clock.Observe(e.Stamp)
		}
	}
	d.openKeys()
	d.records = peer.NewSet(peer.SetConfig{
		Node: d.Config.Node, Cluster: d.cluster, Key: d.key, Pins: d.pins, Records: records,
		Alone: d.openFleet(records), Now: d.Now, Store: d.store, Changed: d.arrived.add,
	})
	d.honour()
	return nil
}

// own is what this node's record says under a name, nil for nothing.
func (d *Daemon) own(name record.Name) json.RawMessage { return d.records.Own(name) }

// ownKeys are the keys in a section of this node's record.
func (d *Daemon) ownKeys(section record.Section) []string { return d.records.OwnKeys(section) }

// say puts values into this node's record and returns what is new.
func (d *Daemon) say(values map[record.Name]json.RawMessage) record.Delta {
	delta, err := d.records.Publish(d.clock.Now(), values)
	if err != nil && !errors.Is(err, peer.ErrTwin) { // which is told elsewhere
		d.Log.Error("can't publish", "err", err)
	}
	return delta
}

// arrivals are deltas on their way to the loop. They come with the records
// locked, so whoever brings one never waits.
type arrivals struct {
	wake chan struct{} // holds one

	mu   sync.Mutex
	list []arrival
}

type arrival struct {
	delta record.Delta
	names []record.Name // those that have another value
}

func newArrivals() *arrivals { return &arrivals{wake: make(chan struct{}, 1)} }

func (a *arrivals) add(delta record.Delta, names []record.Name) {
	if len(names) == 0 {
		return
	}
	a.mu.Lock()
	a.list = append(a.list, arrival{delta, names})
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *arrivals) take() []arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.list
	a.list = nil
	return list
}

// takeIn has the view follow what other nodes' records say now, and says whether
// this node's own is another one.
func (d *Daemon) takeIn() (own bool) {
	var keys, claimed []manifests.Key
	var names []record.Name
	pods, honour := false, false
	for _, a := range d.arrived.take() {
		own = own || a.delta.Node == d.Config.Node
		for _, e := range a.delta.Entries {
			d.clock.Observe(e.Stamp)
		}
		for _, name := range a.names {
			honour = honour || name.Section == record.Forgotten
			key, err := manifests.ParseKey(name.Key)
			if err != nil {
				continue // a newer version's
			}
			keys, names = append(keys, key), append(names, name)
			if name.Section == record.Claims {
				claimed = append(claimed, key)
			}
			pods = pods || key.GroupKind() == podKind && name.Section != record.Status
		}
	}
	if honour {
		d.honour()
	}
	if len(keys) == 0 {
		return own
	}
	d.heard(claimed)
	d.fold(keys)
	d.takeOver(keys)
	d.follow(names)
	if pods {
		d.runPods()
	}
	return own
}
