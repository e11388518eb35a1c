package daemon

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/agent"
	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/peer"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/steward"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// Hostless is shoald without a host, for simulations of many in one process
// (daemon/sim). Its files, records, gossip, streams, view and all that it decides
// are those of Run; the pods that its agent would run are a list.
//
// Left out, besides what touches the kernel: the store (see Memory), the API's
// socket, watching files (see Rescan) and pressure on the node.
type Hostless struct {
	d       *Daemon
	options HostlessOptions
	end     context.CancelFunc
	done    sync.WaitGroup

	running map[types.UID]*v1.Pod // what the host runs; the loop's
	started func(*v1.Pod)
}

// HostlessOptions is how a Hostless begins. Root holds its manifests and the
// cluster's key; Wire is required.
type HostlessOptions struct {
	Options
	Disk        *Memory         // of an earlier one, or a new one
	Found       []*v1.Pod       // runs already
	Allocatable v1.ResourceList // what pods may take of the node
	// Sees are the members that are there, where neither a key nor others to join
	// are configured, so that there is no gossip. Nil: nobody.
	Sees func() []gossip.Member
	// Started is told of each pod when the host begins to run it, by the loop. It
	// must not wait. Nil: nobody is.
	Started func(*v1.Pod)
}

// StartHostless returns when the daemon has read its files and looks for others.
func StartHostless(ctx context.Context, o HostlessOptions) (*Hostless, error) {
	d := newDaemon(o.Options)
	d.store = o.Disk
	d.goBare()
	h := &Hostless{d: d, options: o, running: make(map[types.UID]*v1.Pod), started: o.Started}
	if h.started == nil {
		h.started = func(*v1.Pod) {}
	}
	d.about, d.sees = h.about, o.Sees
	if err := d.openRecords(); err != nil {
		return nil, err
	}
	ctx, h.end = context.WithCancel(ctx)
	if err := h.start(ctx); err != nil {
		h.end()
		return nil, err
	}
	h.done.Go(func() { h.loop(ctx) })
	h.done.Go(func() { d.readFiles(ctx) })
	d.fleet.run = func() { d.fleet.done.Go(func() { d.runFleet(ctx) }) }
	if d.fleet.wanted {
		d.fleet.run()
	}
	return h, nil
}

// goBare gives a daemon what its decisions need of a host: no pod of its own
// reaches the agent.
func (d *Daemon) goBare() {
	d.tokens = &tokens{}
	d.host = &host{d: d, network: newNetwork(), ways: newWays(), dirtyQoS: make(chan []*v1.Pod, 1)}
	d.pressure.Store(&nodePressure{})
	d.agent = agent.New(context.Background(), agent.Config{Logger: slog.New(slog.DiscardHandler), Node: func() pod.Node { return pod.Node{Name: "-"} }})
}

// start is Daemon.start without a host.
func (h *Hostless) start(ctx context.Context) error {
	d := h.d
	values, err := d.adoptFound(h.options.Found)
	if err != nil {
		return err
	}
	for _, p := range h.options.Found {
		h.running[p.UID] = p
	}
	d.say(values)
	d.foldAll()
	d.reader = manifests.NewReader(manifests.StandardSources(d.Root))
	d.statics = d.openStatic()
	d.lookAround()
	d.publishNode()
	d.accept(d.reader.Scan(), d.statics.Scan())
	d.runPods()
	return nil
}

// loop is Daemon.loop without a host.
func (h *Hostless) loop(ctx context.Context) {
	d := h.d
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	node := time.NewTicker(d.Config.Eviction.NodeStatusUpdateFrequency)
	defer node.Stop()
	defer d.looks.timer.Stop()
	for {
		select {
		case f := <-d.calls:
			f()
		case <-d.arrived.wake:
			d.takeIn()
		case <-d.unsettled:
			d.unsettled = nil
			d.rescan()
		case <-tick.C:
			d.heal()
		case <-node.C:
			d.publishNode()
		case <-d.looks.timer.C:
		case <-ctx.Done():
			return
		}
		d.reconcile()
		for h.runGiven() {
			d.reconcile()
		}
	}
}

// about is the node as it says that it is.
func (h *Hostless) about() *v1.Node {
	d := h.d
	n := &v1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}}
	n.Name, n.UID, n.CreationTimestamp = d.Config.Node, d.nodeReference().UID, metav1.NewTime(d.started)
	n.Labels = nodeLabels(d.Config.Node, "amd64", d.Config.Labels)
	n.Status = v1.NodeStatus{Capacity: h.options.Allocatable, Allocatable: h.options.Allocatable, Conditions: []v1.NodeCondition{d.ready()}}
	return n
}

// runGiven has the host do what an agent would be given to do, and says whether
// it did anything.
func (h *Hostless) runGiven() (did bool) {
	given := h.d.leftovers.all()
	for _, uid := range slices.Sorted(maps.Keys(given)) {
		if p := given[uid]; h.running[uid] != p {
			did = true
			h.runOne(p)
		}
	}
	return did
}

func (h *Hostless) runOne(p *v1.Pod) {
	d := h.d
	old, runs := h.running[p.UID]
	switch {
	case p.DeletionTimestamp != nil:
		delete(h.running, p.UID)
		d.takeStatus(p, v1.PodStatus{}, true)
	case !runs || old.Status.Phase == v1.PodFailed:
		if r := d.refuse(p); r != nil {
			h.running[p.UID] = p
			d.takeStatus(p, v1.PodStatus{Phase: v1.PodFailed, Reason: r.Reason, Message: r.Message}, false)
			return
		}
		h.running[p.UID] = p
		h.started(p)
		d.takeStatus(p, readySince(d.Now()), false)
	default:
		h.running[p.UID] = p
		if p.Status.Phase != v1.PodRunning {
			d.takeStatus(p, readySince(d.Now()), false)
		}
	}
}

// readySince is the status of a pod that has been running and ready since then.
func readySince(t time.Time) v1.PodStatus {
	at := metav1.NewTime(t)
	return v1.PodStatus{Phase: v1.PodRunning, StartTime: &at, Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue, LastTransitionTime: at}}}
}

// all is what the agent is to be given, by UID.
func (l *leftovers) all() map[types.UID]*v1.Pod {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := maps.Clone(l.given)
	if all == nil {
		all = make(map[types.UID]*v1.Pod)
	}
	maps.Copy(all, l.pods)
	return all
}

// Stop ends the daemon as a kill would, without a word to the others, and leaves
// its disk as it is then.
func (h *Hostless) Stop() {
	h.end()
	h.d.fleet.done.Wait()
	h.done.Wait()
	h.options.Disk.leave(h.d.records)
}

// Running are the pods that the host runs. Call it after Stop, or in Do.
func (h *Hostless) Running() []*v1.Pod { return slices.Collect(maps.Values(h.running)) }

// Do runs f in the loop, where everything of the daemon stands still, and waits
// for it. After Stop it returns at once.
func (h *Hostless) Do(ctx context.Context, f func()) error { return h.d.do(ctx, f) }

// Rescan has the files looked at, as inotify does.
func (h *Hostless) Rescan() { h.d.rescan() }

// View is what this node knows, as objects.
func (h *Hostless) View() *view.View { return h.d.view }

// Records calls f with all records by node, until it returns.
func (h *Hostless) Records(f func(map[string]*record.Record)) { h.d.records.Read(f) }

// Gossip is the daemon's membership, nil while it is not a member.
func (h *Hostless) Gossip() *gossip.Gossip { return h.d.fleet.gossip.Load() }

// Forget has the whole cluster forget a node, as `shoal node forget` does.
func (h *Hostless) Forget(ctx context.Context, node string) error { return h.d.ForgetMember(ctx, node) }

// Members is who is there to the daemon's decisions. Call it in Do.
func (h *Hostless) Members() []steward.Member { return h.d.members() }

// Merge takes in what a peer would bring.
func (h *Hostless) Merge(a peer.Answer) (changed bool, err error) { return h.d.records.Merge(a) }

// Cluster is the cluster's id.
func (h *Hostless) Cluster() string { return h.d.clusterID().ID }

// Digest is a hash over all records: two nodes with equal ones know the same.
func (h *Hostless) Digest() record.Hash { return h.d.records.Digest() }
