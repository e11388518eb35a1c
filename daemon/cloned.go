package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/peer"
	"github.com/shoal-project/shoal/daemon/workload"
)

// A host that was cloned, disk and all, has another one's name, key and record.
// The cluster keeps the first that it met. The other one is by itself, as in a
// dead network, where it would go on with all that its record has on that node:
// everything would run twice. What tells the two cases apart is proof: who has the
// name shows this host's own key (peer.HasTwin). Then only static pods run here,
// which are each host's own, until the other one has lost the name.

// metaTwin is, in the store, that there was such a proof, and of whom.
const metaTwin = "twin"

// twinPeriod is how often a host that is kept out asks who has its name.
const twinPeriod = 2 * time.Second

// twinText is what people are told.
func twinText(node, at string) string {
	return fmt.Sprintf("the host at %s is node %s, with this host's own key: this one is a copy of it, or that one of this. "+
		"Only static pods run here, what else node %s has runs there. Set this host up anew under another name "+
		"(stop shoald, remove /var/lib/shoal, set node in shoal.toml), or switch the other one off", at, node, node)
}

// heldBack says whether the pods of this node run on another host that is it.
func (d *Daemon) heldBack() bool { return d.fleet.twin.Load() != nil }

// openTwin holds pods back at the start of a host that was last seen to be a copy,
// until it has looked.
func (d *Daemon) openTwin() {
	if text := d.store.Meta(metaTwin); text != "" && d.fleet.wanted {
		d.fleet.twin.Store(&text)
	}
}

// unprovenTwin lets the pods of such a host run where nothing was proved in time:
// losing every peer stops no pod.
func (d *Daemon) unprovenTwin(ctx context.Context) {
	if !d.heldBack() {
		return
	}
	select {
	case <-time.After(membersGrace):
	case <-ctx.Done():
		return
	}
	_ = d.do(ctx, func() {
		if !d.fleet.proven.Load() {
			d.twinGone()
		}
	})
}

// watchTwin looks who has this host's name while it is kept out of the cluster.
func (d *Daemon) watchTwin(ctx context.Context, g *gossip.Gossip, e *peer.Endpoint) {
	tick := time.NewTicker(twinPeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		list := g.Conflicts()
		i := slices.IndexFunc(list, func(c gossip.Conflict) bool { return c.Here })
		switch {
		case i < 0 && d.heldBack() && d.fleet.proven.Load() && len(others{d}.Others()) > 0 && d.records.Published():
			_ = d.do(ctx, d.twinGone) // the name is this host's
		case i >= 0:
			at := netip.AddrPortFrom(list[i].Holder.Addr(), uint16(d.Config.Cluster.PeerPort)).String()
			is, err := e.HasTwin(ctx, at)
			if err != nil {
				d.Log.Debug("can't tell whether the host that has this one's name is a copy of it", "address", at, "err", err)
			}
			if is {
				_ = d.do(ctx, func() { d.twinFound(at) })
			}
		}
	}
}

// twinFound ends what runs on that other host as well.
func (d *Daemon) twinFound(at string) {
	text := twinText(d.Config.Node, at)
	d.fleet.proven.Store(true)
	if old := d.fleet.twin.Swap(&text); old != nil && *old == text {
		return
	}
	d.store.SaveMeta(metaTwin, text)
	d.events.Warning(d.nodeReference(), reasonNodeCloned, "%s", text)
	d.Log.Error("this host is a copy of another one: its pods end", "node", d.Config.Node, "address", at)
	d.runPods()
}

// twinGone has this node's pods run here again.
func (d *Daemon) twinGone() {
	d.fleet.proven.Store(false)
	if d.fleet.twin.Swap(nil) == nil {
		return
	}
	d.store.SaveMeta(metaTwin, "")
	d.Log.Warn("no other host is seen to be this node any more: its pods run here", "node", d.Config.Node)
	d.runPods()
}

// here are those of this node's pods that are to run on this host.
func (d *Daemon) here(pods []*v1.Pod) []*v1.Pod {
	if !d.heldBack() {
		return pods
	}
	return slices.DeleteFunc(pods, func(p *v1.Pod) bool { return !workload.Static(p) })
}

// reasonNodeCloned is the event on a node of which there are two hosts, and on
// pods that end on one of them.
const reasonNodeCloned = "NodeCloned"
