package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/peer"
	"github.com/shoal-project/shoal/daemon/record"
)

// askTime is how long members may take to say what they have.
const askTime = 2 * time.Second

// Members is the cluster as this node sees it, and what its members say they
// have.
func (d *Daemon) Members(ctx context.Context) (list api.MemberList, err error) {
	var seen []gossip.Member
	var s sight
	err = d.do(ctx, func() {
		s = d.sight()
		if g := d.fleet.gossip.Load(); g != nil {
			seen = g.Members()
		}
	})
	if err != nil {
		return list, err
	}
	id := d.clusterID()
	list = api.MemberList{Cluster: id.ID, Settled: id.Settled, Fleet: s.running, Problems: d.fleetProblems()}
	named := make(map[string]bool)
	for _, m := range seen {
		named[m.Name] = true
		list.Members = append(list.Members, api.Member{
			Name: m.Name, Status: m.Status.String(), Since: m.Since, Address: m.Addr.String(), Version: m.Tags[tagVersion], Ready: m.Tags[tagReady] != "",
		})
	}
	for _, name := range append(s.known, d.Config.Node) {
		switch {
		case named[name]:
			continue
		case name == d.Config.Node:
			list.Members = append(list.Members, api.Member{Name: name, Status: gossip.Alive.String(), Since: d.started, Version: d.Version, Ready: true})
		case s.left[name]:
			list.Members = append(list.Members, api.Member{Name: name, Status: gossip.Left.String()})
		default:
			list.Members = append(list.Members, api.Member{Name: name, Status: "unseen"})
		}
		named[name] = true
	}
	slices.SortFunc(list.Members, func(a, b api.Member) int { return strings.Compare(a.Name, b.Name) })
	d.askMembers(ctx, list.Members)
	return list, nil
}

// askMembers finds how far the members' records are behind, here and there.
func (d *Daemon) askMembers(ctx context.Context, members []api.Member) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	slots := make(chan struct{}, 16)
	for i := range members {
		m := &members[i]
		h := d.records.Head(m.Name)
		m.Incarnation, m.Seq, m.Self = h.Incarnation, h.Seq, m.Name == d.Config.Node
		e, address := d.fleet.peers.Load(), d.findPeer(m.Name)
		if m.Self || e == nil || address == "" {
			continue
		}
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			heads, err := e.Ask(ctx, peer.Peer{Node: m.Name, Address: address})
			if err != nil {
				return // problems tell of it
			}
			m.Behind = behind(h, heads)
			m.Lags = behindOf(heads, d.records.Head(d.Config.Node))
		})
	}
}

// behind is how many changes of a node's record are in the heads and not here.
func behind(here record.Head, heads []peer.Summary) *uint64 {
	var n uint64
	for _, s := range heads {
		switch {
		case s.Node != here.Node:
		case s.Incarnation > here.Incarnation:
			n = s.Seq // of an incarnation that is not known here
		case s.Incarnation == here.Incarnation && s.Seq > here.Seq:
			n = s.Seq - here.Seq
		}
	}
	return &n
}

// behindOf is how many changes of a record the heads lack.
func behindOf(heads []peer.Summary, here record.Head) *uint64 {
	n := here.Seq
	for _, s := range heads {
		if s.Node == here.Node && s.Incarnation == here.Incarnation {
			n = here.Seq - min(s.Seq, here.Seq)
		}
	}
	return &n
}

// fleetProblems is what keeps hosts apart, in words.
func (d *Daemon) fleetProblems() (list []string) {
	if why := d.fleet.problem.Load(); why != nil {
		list = append(list, *why)
	}
	if d.fleet.left.Load() {
		list = append(list, "this host has left the cluster: `shoal join`, or a restart of shoald, brings it back")
	}
	if why := d.fleet.twin.Load(); why != nil {
		list = append(list, *why)
	}
	if err := d.records.Twin(); err != nil {
		list = append(list, err.Error())
	}
	for _, c := range d.records.Clones() {
		list = append(list, clonedText(c.A.Node))
	}
	g := d.fleet.gossip.Load()
	if g == nil {
		return list
	}
	for _, c := range g.Conflicts() {
		list = append(list, c.String())
	}
	for _, r := range g.Refused() {
		list = append(list, r.Reason)
	}
	peers := peersOf(g, d.Config.Node)
	others := slices.DeleteFunc(peers, func(p peer.Peer) bool { return p.Node == d.Config.Node })
	list = append(list, d.failures(others)...)
	if join := d.joinList(); len(others) == 0 && len(join) > 0 && d.Now().Sub(d.started) > membersGrace {
		list = append(list, fmt.Sprintf("no other host answers at %s, port %d: none is up, something is in between, or their cluster key is another one",
			strings.Join(join, ", "), d.Config.Cluster.GossipPort))
	}
	if !d.records.Published() && len(others) > 0 {
		list = append(list, "this host has not exchanged records with its peers since shoald started: they do not know of its changes")
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func clonedText(node string) string {
	return fmt.Sprintf("two hosts are node %s, with one key: set one of them up anew under another name, and run `shoal node forget %s`", node, node)
}

// failures are the last exchanges with peers in sight that went wrong.
func (d *Daemon) failures(peers []peer.Peer) (list []string) {
	d.fleet.mu.Lock()
	defer d.fleet.mu.Unlock()
	for _, p := range peers {
		err := d.fleet.failed[p.Node]
		var pin *cluster.PinError
		switch {
		case err == nil:
		case errors.As(err, &pin):
			list = append(list, pin.Error())
		default:
			list = append(list, err.Error())
		}
	}
	return list
}

// Join looks for hosts that the configuration does not name.
func (d *Daemon) Join(ctx context.Context, hosts []string) error {
	if !d.hasKey() {
		return apierrors.NewBadRequest(fmt.Sprintf("this host has no cluster key: copy that of the cluster to %s, mode 0600", d.Config.Cluster.KeyFile))
	}
	if err := gossip.CheckJoin(hosts); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	if err := d.do(ctx, d.openToOthers); err != nil {
		return err
	}
	d.fleet.mu.Lock()
	for _, h := range hosts {
		if !slices.Contains(d.fleet.extra, h) {
			d.fleet.extra = append(d.fleet.extra, h)
		}
	}
	d.fleet.mu.Unlock()
	d.fleet.left.Store(false)
	wake(d.fleet.again)
	if g := d.fleet.gossip.Load(); g != nil {
		return badRequest(g.Join(d.joinList()))
	}
	if why := d.fleet.problem.Load(); why != nil {
		return apierrors.NewServiceUnavailable(*why)
	}
	return nil
}

// errLeft says that somebody had this host leave.
var errLeft = errors.New("this host has left the cluster")

// Leave tells the others that this host goes. Its pods stay.
func (d *Daemon) Leave(ctx context.Context) error {
	g, end := d.fleet.gossip.Load(), d.fleet.end.Load()
	if g == nil || end == nil {
		return apierrors.NewBadRequest("this host is with no others")
	}
	d.leaveSeat(ctx)
	d.fleet.left.Store(true)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := errors.Join(d.sayLeft(ctx), g.Leave(ctx))
	(*end)(errLeft)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("this host has left, but the others may take it for one that failed: %w", err))
	}
	return nil
}

// forgotten is the value of an entry that has a node forgotten.
type forgotten struct {
	Incarnation uint64 `json:"incarnation"` // and all before
}

// ForgetMember has the whole cluster forget a node.
func (d *Daemon) ForgetMember(ctx context.Context, name string) (err error) {
	resource := schema.GroupResource{Resource: "nodes"}
	if name == d.Config.Node {
		return apierrors.NewBadRequest("a host does not forget itself: do it on another one, after `shoal leave` here")
	}
	head := d.records.Head(name)
	g := d.fleet.gossip.Load()
	known, alive := head.Incarnation > 0 || d.pins.Key(name) != nil, false
	d.records.Read(func(records map[string]*record.Record) { known = known || records[name] != nil })
	if g != nil {
		for _, m := range g.Members() {
			if m.Name != name {
				continue
			}
			known = true
			alive = m.Status == gossip.Alive || m.Status == gossip.Leaving
			if alive && !d.isAnother(name) {
				return apierrors.NewConflict(resource, name, fmt.Errorf("it is %s, at %s: run `shoal leave` there first, or stop its shoald", m.Status, m.Addr))
			}
		}
	}
	if !known {
		return apierrors.NewNotFound(resource, name)
	}
	if err := d.forgetLease(ctx, name); err != nil {
		d.Log.Warn("the witnesses have not forgotten the node: what it holds pinned stays its own", "node", name, "err", err)
	}
	value, err := json.Marshal(forgotten{max(head.Incarnation, uint64(max(d.Now().UnixMilli(), 0)))})
	if err != nil {
		return err
	}
	err = d.do(ctx, func() {
		d.publish(map[record.Name]json.RawMessage{{Section: record.Forgotten, Key: name}: value})
		d.honour()
		d.takeIn()
		d.lookAround()
	})
	if err != nil || g == nil || alive {
		return err
	}
	if err := g.ForceLeave(name); err != nil {
		d.Log.Debug("a forgotten node stays in gossip's list for a while", "node", name, "err", err)
	}
	return nil
}

// isAnother says whether who is there under a node's name is another host than
// the one that is known by it, or there are two.
func (d *Daemon) isAnother(name string) bool {
	d.fleet.mu.Lock()
	defer d.fleet.mu.Unlock()
	var pin *cluster.PinError
	if errors.As(d.fleet.failed[name], &pin) && pin.Node == name {
		return true
	}
	return slices.ContainsFunc(d.records.Clones(), func(c peer.Clone) bool { return c.A.Node == name })
}

// honour forgets the nodes that any node's record says are to be forgotten.
func (d *Daemon) honour() {
	all := make(map[string]uint64)
	d.records.Read(func(records map[string]*record.Record) {
		for _, r := range records {
			for name, e := range r.Entries {
				var f forgotten
				if name.Section == record.Forgotten && e.Value != nil && json.Unmarshal(e.Value, &f) == nil {
					all[name.Key] = max(all[name.Key], f.Incarnation)
				}
			}
		}
	})
	d.records.Honour(all)
}

// dropForgotten takes forgotten nodes out of gossip's list too. Whoever forgets
// one tells the others so by gossip, once: who was cut off then, or lost the
// packet, hears of it in the records.
func (d *Daemon) dropForgotten(g *gossip.Gossip) {
	for _, m := range g.Members() {
		if m.Status != gossip.Failed && m.Status != gossip.Left || !d.records.Forgotten(m.Name) {
			continue
		}
		if err := g.ForceLeave(m.Name); err != nil {
			d.Log.Debug("a forgotten node stays in gossip's list for a while", "node", m.Name, "err", err)
		}
	}
}

// statusCluster is the cluster at a glance, nil for a host that is alone.
func (d *Daemon) statusCluster() *api.StatusCluster {
	if !d.fleet.wanted {
		return nil
	}
	s := &api.StatusCluster{ID: d.clusterID().ID, Problems: d.fleetProblems()}
	for _, m := range d.members() {
		s.Members++
		if m.Alive {
			s.Alive++
		}
	}
	return s
}
