package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/gossip"
)

// The small values in the store that are about the cluster.
const (
	metaCluster = "cluster"     // its id
	metaID      = "cluster-id"  // the same with what else belongs to it
	metaMet     = "cluster-met" // when its first peer was heard, in Unix milliseconds
)

// settleAfter is how long a host must have had peers for its cluster to count as
// one that does not go over to another. Hosts that are set up at once find each
// other in pairs first; they look for all of their join list once a minute.
const settleAfter = 2 * time.Minute

// openID reads the cluster's id, or mints one.
func (d *Daemon) openID() error {
	id := cluster.ID{ID: d.store.Meta(metaCluster), Minted: d.Now().UnixMilli()}
	if text := d.store.Meta(metaID); text != "" {
		var known cluster.ID
		if err := json.Unmarshal([]byte(text), &known); err == nil && known.ID == id.ID {
			id = known
		}
	}
	if id.ID == "" {
		id.ID = uuid.NewString()
	}
	var met int64
	if _, err := fmt.Sscan(d.store.Meta(metaMet), &met); err == nil {
		d.fleet.met.Store(met)
	}
	return d.setID(id)
}

// setID is durable when it returns.
func (d *Daemon) setID(id cluster.ID) error {
	text, err := json.Marshal(id)
	if err != nil {
		return err
	}
	for name, value := range map[string]string{metaCluster: id.ID, metaID: string(text)} {
		if d.store.Meta(name) == value {
			continue
		}
		if err := d.store.SetMeta(name, value); err != nil {
			return fmt.Errorf("write the cluster's id: %w", err)
		}
	}
	d.cluster = id.ID
	d.fleet.id.Store(&id)
	return nil
}

// clusterID is the cluster that this host believes to be in.
func (d *Daemon) clusterID() cluster.ID { return *d.fleet.id.Load() }

// metPeer notes when the first peer of this cluster was heard.
func (d *Daemon) metPeer(string) {
	if d.fleet.met.Load() != 0 {
		return
	}
	now := d.Now().UnixMilli()
	if d.fleet.met.CompareAndSwap(0, now) {
		d.store.SaveMeta(metaMet, fmt.Sprint(now))
	}
}

// hasSettled says whether a cluster that a host has had peers in since then is one
// that stays, or a member says that it is.
func hasSettled(id cluster.ID, met int64, now time.Time, members []gossip.Member) bool {
	if id.Settled {
		return true
	}
	for _, m := range members {
		if theirs := idOf(m); m.Status == gossip.Alive && theirs.ID == id.ID && theirs.Settled {
			return true
		}
	}
	return met != 0 && now.Sub(time.UnixMilli(met)) >= settleAfter
}

// settleWith makes the id settled when it is time.
func (d *Daemon) settleWith(ctx context.Context, members []gossip.Member) {
	id := d.clusterID()
	if id.Settled || !hasSettled(id, d.fleet.met.Load(), d.Now(), members) {
		return
	}
	f := func() {
		if now := d.clusterID(); now != id {
			return
		}
		id.Settled = true
		if err := d.setID(id); err != nil {
			d.Log.Error("the cluster can't be noted as settled", "err", err)
		}
	}
	if d.do(ctx, f) == nil {
		d.Log.Info("the cluster is settled", "cluster", id.ID)
	}
}

// yield takes this host into another's cluster. Its pods run on.
func (d *Daemon) yield(ctx context.Context, to cluster.ID, node string) {
	_ = d.do(ctx, func() {
		mine := d.clusterID()
		if cluster.Meet(mine, to) != cluster.Yield {
			return // it did so already
		}
		d.Log.Warn("this host goes over to the cluster of another", "node", node, "cluster", to.ID, "was", mine.ID)
		d.records.Yield(to.ID)
		d.fleet.met.Store(0)
		d.store.SaveMeta(metaMet, "0")
		if err := d.setID(cluster.ID{ID: to.ID, Minted: to.Minted}); err != nil {
			d.Log.Error("the other cluster's id can't be kept: this host asks for it again after a restart", "err", err)
		}
		d.refoldImplied()
		wake(d.fleet.news.tags)
	})
}
