package daemon

import (
	"context"
	"encoding/json"
	"time"

	"github.com/shoal-project/shoal/daemon/record"
)

// leftName is where a host's record says that it has left on purpose: gossip
// forgets that when the others restart, and a host that left is not one that is
// missing. It is taken back when the host joins again.
var leftName = record.Name{Section: record.Status, Key: "left"}

// sayLeft says so, and has another host take a copy: nobody can ask afterwards.
func (d *Daemon) sayLeft(ctx context.Context) error {
	before := d.records.Head(d.Config.Node).Seq
	value, err := json.Marshal(struct {
		At time.Time `json:"at"`
	}{d.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	if err := d.do(ctx, func() { d.publish(map[record.Name]json.RawMessage{leftName: value}) }); err != nil {
		return err
	}
	d.copyOut(ctx, before)
	return nil
}

// sayStays takes it back.
func (d *Daemon) sayStays() {
	if d.own(leftName) != nil {
		d.publish(map[record.Name]json.RawMessage{leftName: nil})
	}
}

// forgottenFor is how long an entry stays at least that has a node forgotten.
// Another host that was forgotten may come back with that node's record, and is
// not waited for.
const forgottenFor = 30 * 24 * time.Hour

// tidyForgotten takes the entries out of this node's record that have a node
// forgotten, once no host that is known has that node's record: all are in sight,
// and have honoured it.
func (d *Daemon) tidyForgotten() {
	values := make(map[record.Name]json.RawMessage)
	d.records.Read(func(records map[string]*record.Record) {
		for name, e := range records[d.Config.Node].Entries {
			if name.Section == record.Forgotten && e.Value != nil && d.Now().Sub(e.Stamp.Time()) >= forgottenFor {
				values[name] = nil
			}
		}
	})
	if len(values) == 0 || !d.hearsAll() || !d.records.Published() {
		return
	}
	for _, m := range d.members() {
		if !m.Alive || !m.Ready {
			return
		}
	}
	d.publish(values)
	d.honour()
}
