package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/gossip"
	"github.com/shoal-project/shoal/daemon/peer"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/steward"
)

// The tags that a host has in gossip. They share 512 bytes.
const (
	tagCluster = "c" // the cluster's id
	tagSettled = "s" // "1": it is settled
	tagMinted  = "m" // when it was minted
	tagPeer    = "p" // the port for peers
	tagVersion = "v"
	tagReady   = "r" // "1": it has its peers' records, and decides
	tagLeaving = "l" // "1": it shuts down
	tagLease   = "w" // see leaseTag
)

// fleet is this host among others. On a host without a cluster key and without
// others to join, nothing of it runs.
type fleet struct {
	wanted bool // it runs, or is to as soon as it can

	wantedAtStart bool // the same, when the daemon started; it does not change

	id  atomic.Pointer[cluster.ID]
	met atomic.Int64 // when the first peer of this cluster was heard, in Unix ms; 0: none yet

	gossip  atomic.Pointer[gossip.Gossip]
	peers   atomic.Pointer[peer.Endpoint]
	problem atomic.Pointer[string] // why it does not run
	twin    atomic.Pointer[string] // which other host is this node, so that its pods are held back here
	proven  atomic.Bool            // in this run
	end     atomic.Pointer[context.CancelCauseFunc]
	began   time.Time        // since when gossip runs; the loop's
	list    []steward.Member // the loop's

	done    sync.WaitGroup
	run     func()        // starts it
	rekey   chan struct{} // holds one: read the key file
	again   chan struct{} // holds one: try now
	left    atomic.Bool   // somebody had this host leave
	hearing atomic.Bool   // the first publication is on its way
	news    news

	ring     atomic.Pointer[cluster.Keyring] // in force; nil: this host is with no others
	turn     sync.Mutex                      // held by whoever changes the key file
	rotating sync.Mutex                      // held by the rotation that this node leads

	troubles map[string]string // those that were told of, by the goroutine that watches the members

	mu     sync.Mutex
	extra  []string         // hosts to join that no file names
	failed map[string]error // why the last exchange with a node failed
}

var errAddress = errors.New("this host's address has changed")

// openFleet says whether this host is to be one of several, and whether it may
// have peers that know more of it than itself.
func (d *Daemon) openFleet(records map[string]*record.Record) (alone bool) {
	d.fleet.wanted = d.hasKey() || len(d.Config.Join) > 0
	d.fleet.wantedAtStart = d.fleet.wanted
	d.fleet.rekey = make(chan struct{}, 1)
	d.fleet.again, d.fleet.failed = make(chan struct{}, 1), make(map[string]error)
	d.fleet.news = newNews()
	known := len(records)
	if records[d.Config.Node] != nil {
		known--
	}
	d.openTwin()
	return !d.fleet.wanted || len(d.Config.Join) == 0 && known == 0
}

// hasKey says whether there is a file for the cluster's key, good or not.
func (d *Daemon) hasKey() bool {
	_, err := os.Stat(d.path(d.Config.Cluster.KeyFile))
	return d.Config.Cluster.KeyFile != "" && !errors.Is(err, fs.ErrNotExist)
}

// openToOthers begins to look for others, if that has not begun.
func (d *Daemon) openToOthers() {
	if !d.fleet.wanted {
		d.fleet.wanted = true
		d.fleet.run()
	}
}

// reloadFleet puts another join list, and the keys that the key file holds now,
// in force.
func (d *Daemon) reloadFleet(join []string) {
	d.fleet.mu.Lock()
	d.Config.Join = join
	d.fleet.mu.Unlock()
	if d.hasKey() || len(join) > 0 {
		d.openToOthers()
	}
	if g := d.fleet.gossip.Load(); g != nil {
		if err := g.Join(d.joinList()); err != nil {
			d.Log.Error("can't look for the hosts of join", "err", err)
		}
	}
	wake(d.fleet.rekey)
	if !d.fleet.left.Load() {
		wake(d.fleet.again)
	}
}

// followKeys uses what the key file holds when it was told to look. Every host
// must trust a key before one uses it: docs/configuration.md.
func (d *Daemon) followKeys(ctx context.Context, ring cluster.Keyring, g *gossip.Gossip, e *peer.Endpoint) {
	for {
		select {
		case <-d.fleet.rekey:
		case <-ctx.Done():
			return
		}
		next, err := cluster.ReadKeyring(d.path(d.Config.Cluster.KeyFile))
		if err == nil && next.Equal(ring) {
			continue
		}
		if err == nil {
			err = errors.Join(e.Use(next), g.Use(next.Gossip()))
		}
		if err == nil {
			err = d.do(ctx, func() { d.useKeys(next) })
		}
		if err != nil {
			d.Log.Error("the cluster's keys stay as they were", "err", err)
			_ = d.do(ctx, func() { d.events.Warning(d.nodeReference(), "InvalidConfiguration", "%v", err) })
			continue
		}
		ring = next
		d.fleet.ring.Store(&next)
		d.Log.Info("the cluster's keys were read again", "keys", len(ring.Gossip()))
	}
}

// runFleet makes this host a member, again and again, until ctx ends. Nothing
// on the host waits for it.
func (d *Daemon) runFleet(ctx context.Context) {
	for ctx.Err() == nil {
		err := d.beMember(ctx)
		d.fleet.gossip.Store(nil)
		d.fleet.peers.Store(nil)
		if ctx.Err() != nil {
			return
		}
		pause := 10 * time.Second
		switch {
		case errors.Is(err, errAddress):
			pause = 0
		case d.fleet.left.Load():
			pause = 24 * time.Hour // until somebody has it join
			_ = d.do(ctx, d.lookAround)
		default:
			d.notMember(ctx, err)
		}
		select {
		case <-time.After(pause):
		case <-d.fleet.again:
		case <-ctx.Done():
		}
	}
}

// notMember says, once, why the host is by itself.
func (d *Daemon) notMember(ctx context.Context, err error) {
	text := err.Error()
	if old := d.fleet.problem.Swap(&text); old != nil && *old == text {
		return
	}
	d.Log.Error("this host is not with the others of its cluster; its pods run on, and it tries again", "err", err)
	_ = d.do(ctx, func() {
		d.events.Warning(d.nodeReference(), "NotInCluster", "%v", err)
		d.lookAround()
	})
}

// errNoKey is what is said where there are hosts to join and no key.
func errNoKey(path string) error {
	return fmt.Errorf("join is set, and there is no cluster key: make one with `shoal keygen --out %s` on one host, "+
		"and copy that file to the others (mode 0600)", path)
}

// beMember runs gossip and the peers' streams until one of them ends.
func (d *Daemon) beMember(ctx context.Context) error {
	c := d.Config.Cluster
	ring, err := cluster.ReadKeyring(d.path(c.KeyFile))
	if errors.Is(err, cluster.ErrNoKey) {
		return errNoKey(c.KeyFile)
	}
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop(nil)
	d.fleet.end.Store(&stop)
	endpoint, err := peer.New(peer.Config{
		Node: d.Config.Node, Key: d.key, Keyring: ring, Pins: d.pins, Set: d.records,
		Cluster: d.clusterID, Met: d.metPeer, Yield: func(to cluster.ID, node string) { go d.yield(ctx, to, node) },
		Company: func() bool { return len(others{d}.Others()) > 0 },
		Heard:   func() { d.heardPeers(ctx) }, Turned: d.turned, Find: d.findPeer, Log: d.Log, Now: d.Now, Dial: d.dial(),
	})
	if err != nil {
		return err
	}
	defer endpoint.Close()
	endpoint.Answer(http.HandlerFunc(d.answerPeers))
	l, err := d.listenForPeers()
	if err != nil {
		return fmt.Errorf("listen for peers: %w", err)
	}
	running.Go(func() { stop(endpoint.Serve(ctx, l)) })
	g, err := gossip.Start(d.gossipConfig(ring))
	if err != nil {
		return err
	}
	defer g.Shutdown()
	d.fleet.peers.Store(endpoint)
	_ = d.do(ctx, func() {
		d.fleet.began = d.Now()
		d.fleet.gossip.Store(g)
		d.fleet.problem.Store(nil)
		d.sayStays()
		d.useKeys(ring)
		d.lookAround()
		wake(d.host.ways.dirty)
	})
	d.fleet.ring.Store(&ring)
	defer d.fleet.ring.Store(nil)
	d.Log.Info("this host is open to the others of its cluster", "address", g.Address().String(), "cluster", d.clusterID().ID)
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	running.Go(func() { endpoint.Run(ctx, func() []peer.Peer { return peersOf(g, d.Config.Node) }, random) })
	running.Go(func() { d.watchMembers(ctx, g, stop) })
	running.Go(func() { d.watchTwin(ctx, g, endpoint) })
	running.Go(func() { d.followKeys(ctx, ring, g, endpoint) })
	running.Go(func() { d.finishKeys(ctx) })
	running.Go(func() { d.hearNews(ctx, g, endpoint) })
	running.Go(func() { d.tellNews(ctx, g, endpoint) })
	<-ctx.Done()
	return context.Cause(ctx)
}

func (d *Daemon) gossipConfig(ring cluster.Keyring) gossip.Config {
	c := d.Config.Cluster
	config := gossip.Config{
		Name: d.Config.Node, Keys: ring.Gossip(), Join: d.joinList(), Tags: d.tags(), Snapshot: d.path("var/lib/shoal/members.json"),
		Admit: d.admit, Now: d.Now, Log: d.Log,
	}
	if d.Wire != nil {
		config.Transport, config.Snapshot = d.Wire.Gossip, ""
	}
	if c.BindAddr.IsValid() {
		config.Bind = netip.AddrPortFrom(c.BindAddr, uint16(c.GossipPort))
	}
	config.Advertise = netip.AddrPortFrom(c.AdvertiseAddr, uint16(c.GossipPort))
	return config
}

// joinList is whom to look for: the file's, and those that somebody named.
func (d *Daemon) joinList() []string {
	d.fleet.mu.Lock()
	defer d.fleet.mu.Unlock()
	return slices.Concat(d.Config.Join, d.fleet.extra)
}

// admit lets in whoever is in this cluster or will be.
func (d *Daemon) admit(m gossip.Member) error {
	theirs := idOf(m)
	if theirs.ID == "" {
		return nil // an early moment, or a version to come: the stream decides
	}
	if mine := d.clusterID(); cluster.Meet(mine, theirs) == cluster.Refuse {
		return fmt.Errorf("two clusters have met: this host is in %s, %s in %s; they stay apart", mine.ID, m.Name, theirs.ID)
	}
	return nil
}

func idOf(m gossip.Member) cluster.ID {
	minted, _ := strconv.ParseInt(m.Tags[tagMinted], 36, 64)
	return cluster.ID{ID: m.Tags[tagCluster], Settled: m.Tags[tagSettled] != "", Minted: minted}
}

// tags are what others see of this host.
func (d *Daemon) tags() map[string]string {
	id := d.clusterID()
	tags := map[string]string{
		tagCluster: id.ID, tagMinted: strconv.FormatInt(id.Minted, 36),
		tagPeer: strconv.Itoa(d.Config.Cluster.PeerPort), tagVersion: d.Version,
	}
	for tag, is := range map[string]bool{tagSettled: id.Settled, tagReady: d.records.Published(), tagLeaving: d.shuttingDown()} {
		if is {
			tags[tag] = "1"
		}
	}
	if text := d.leaseTag(); text != "" {
		tags[tagLease] = text
	}
	return tags
}

// peersOf are the members that can be called.
func peersOf(g *gossip.Gossip, me string) []peer.Peer {
	var list []peer.Peer
	for _, m := range g.Members() {
		if p, ok := peerOf(m); ok && m.Name != me {
			list = append(list, p)
		}
	}
	return list
}

func peerOf(m gossip.Member) (peer.Peer, bool) {
	port, err := strconv.ParseUint(m.Tags[tagPeer], 10, 16)
	if err != nil || port == 0 || m.Status != gossip.Alive && m.Status != gossip.Leaving {
		return peer.Peer{}, false
	}
	return peer.Peer{Node: m.Name, Address: netip.AddrPortFrom(m.Addr.Addr(), uint16(port)).String()}, true
}

// findPeer is where a node listens for peers, "" where that is not known.
func (d *Daemon) findPeer(node string) (address string) {
	g := d.fleet.gossip.Load()
	if g == nil {
		return ""
	}
	for _, p := range peersOf(g, d.Config.Node) {
		if p.Node == node {
			return p.Address
		}
	}
	return ""
}

// watchMembers has the loop know who is there, and the others what is so of
// this host.
func (d *Daemon) watchMembers(ctx context.Context, g *gossip.Gossip, stop context.CancelCauseFunc) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	grace := time.NewTimer(membersGrace)
	defer grace.Stop()
	early := time.NewTimer(triedGrace)
	defer early.Stop()
	tried := g.Tried()
	said := d.tags()
	for {
		d.settleWith(ctx, g.Members())
		if err := d.do(ctx, d.lookAround); err != nil {
			return
		}
		d.dropForgotten(g)
		if now := d.tags(); !sameTags(now, said) {
			if err := g.SetTags(now); err != nil {
				d.Log.Error("the others don't hear how this host is", "err", err)
			}
			said = now
		}
		select {
		case <-g.Changes():
		case <-tried:
			tried = nil
		case <-early.C:
		case <-grace.C:
		case <-d.fleet.news.tags:
		case <-tick.C:
			d.sayTroubles(ctx, g)
			if d.moved(g) {
				stop(errAddress)
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func sameTags(a, b map[string]string) bool {
	for _, tag := range []string{tagCluster, tagSettled, tagMinted, tagPeer, tagVersion, tagReady, tagLeaving, tagLease} {
		if a[tag] != b[tag] {
			return false
		}
	}
	return true
}

// moved says whether this host has another address than the others think.
func (d *Daemon) moved(g *gossip.Gossip) bool {
	c := d.Config.Cluster
	if c.AdvertiseAddr.IsValid() || c.BindAddr.IsValid() && !c.BindAddr.IsUnspecified() {
		return false
	}
	now, err := gossip.Routed()
	if err != nil || now.Unmap() == g.Address().Addr() {
		return false // without a route, the one it had is the best guess
	}
	d.Log.Warn("this host's address has changed", "was", g.Address().String(), "address", now.String())
	return true
}

// sayTroubles says what keeps hosts apart, when it begins.
func (d *Daemon) sayTroubles(ctx context.Context, g *gossip.Gossip) {
	now := make(map[string]string) // the event's reason, by its text
	for _, c := range d.records.Clones() {
		now[clonedText(c.A.Node)] = reasonNodeCloned
	}
	if err := d.records.Twin(); err != nil {
		now[err.Error()] = reasonNodeCloned
	}
	for _, c := range g.Conflicts() {
		now[c.String()] = "NameConflict"
	}
	for _, r := range g.Refused() {
		now[r.Reason] = "HostRefused"
	}
	said := d.fleet.troubles
	d.fleet.troubles = now
	for text, reason := range now {
		if said[text] == "" {
			_ = d.do(ctx, func() { d.events.Warning(d.nodeReference(), reason, "%s", text) })
		}
	}
}

// turned keeps how exchanges went, for people.
func (d *Daemon) turned(node string, err error) {
	d.fleet.mu.Lock()
	defer d.fleet.mu.Unlock()
	if err == nil {
		delete(d.fleet.failed, node)
		return
	}
	d.fleet.failed[node] = err
}

// heardPeers begins to publish, in the loop.
func (d *Daemon) heardPeers(ctx context.Context) {
	if d.fleet.hearing.Swap(true) {
		return
	}
	go func() {
		defer d.fleet.hearing.Store(false)
		_ = d.do(ctx, d.publishFirst)
	}()
}

// publishFirst tells the others of this host, with what it has taken back. What
// runs on the host is newer than that.
func (d *Daemon) publishFirst() {
	if d.records.Published() {
		return
	}
	d.records.PublishFirst()
	if d.takeIn() {
		values, err := d.adopted()
		if err != nil {
			d.Log.Error("can't find what runs on this host", "err", err)
		}
		d.publish(values)
	}
	d.publishNode()
	d.runPods()
	d.agent.Retell() // the statuses that were taken back are older
	d.lookAround()
	d.Log.Info("this host has its peers' records", "nodes", len(d.members()))
	wake(d.fleet.news.tags)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
