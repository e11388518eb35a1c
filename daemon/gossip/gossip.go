// Package gossip tells a host which other hosts there are, and carries small
// news between them: Serf (SWIM with Lifeguard), encrypted with the cluster's
// key.
//
// What it says is a hint. A member that is alive here may be gone, news may
// never arrive, and whoever holds the cluster's key may say anything: records
// are fetched, and who a peer is gets proved, over daemon/peer's streams.
//
// A packet that was recorded and is sent again (AES-GCM knows no sender and no
// time) is not told from the first. Incarnations and Lamport clocks make it
// harmless: at worst a member is suspected and says that it lives.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// Gossip is this host as a member.
type Gossip struct {
	cfg       Config
	log       *slog.Logger
	serf      *serf.Serf
	keys      *memberlist.Keyring
	advertise netip.AddrPort

	stale   atomic.Bool // Serf may know more than known says
	changes chan struct{}
	look    chan struct{} // asks for a look at Serf's members
	news    chan News
	dropped atomic.Uint64
	meet    encounters
	others  atomic.Int32 // members other than this host that are alive

	mu    sync.Mutex
	known map[string]Member

	joining sync.Mutex
	list    []string      // the join list
	tried   chan struct{} // closed once all of it was tried
	joinNow chan struct{} // holds one

	setTags sync.Mutex // Serf reads the tags it was given without a lock
	keyTurn sync.Mutex
	ending  sync.Mutex
	peers   atomic.Pointer[[]peer] // as in the snapshot

	stop context.CancelFunc
	done sync.WaitGroup
}

// Start makes this host a member and begins to look for the others, for as long
// as it runs: that nobody answers is no error.
//
// Errors are those of the configuration (which key of it, what instead), of
// sockets that can't be had, and of a host without an address.
func Start(cfg Config) (*Gossip, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	keys, err := newKeyring(cfg.Keys)
	if err != nil {
		return nil, err
	}
	g := &Gossip{
		cfg: cfg, log: cfg.Log, keys: keys,
		changes: make(chan struct{}, 1), look: make(chan struct{}, 1), news: make(chan News, newsKept),
		known: make(map[string]Member),
		list:  cfg.Join, tried: make(chan struct{}), joinNow: make(chan struct{}, 1),
		meet: encounters{now: cfg.Now, self: cfg.Name, admit: cfg.Admit},
	}
	if g.advertise, err = cfg.advertised(); err != nil {
		return nil, err
	}
	library := log.New(&logAdapter{to: cfg.Log, now: cfg.Now}, "", 0)
	inner := cfg.Transport
	if inner == nil {
		if inner, err = listen(cfg.Bind, g.advertise, library); err != nil {
			return nil, err
		}
	}
	sc := cfg.serfConfig(g.advertise, keys, library)
	events := make(chan serf.Event, eventsKept)
	sc.EventCh = events
	sc.Merge = &g.meet
	g.meet.at, g.meet.others = g.advertise, &g.others
	sc.MemberlistConfig.Transport = newTransport(inner, sc.MemberlistConfig, &g.meet)
	if g.serf, err = serf.Create(sc); err != nil {
		sc.MemberlistConfig.Transport.Shutdown()
		return nil, fmt.Errorf("gossip at %s: %w", g.advertise, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	g.stop = stop
	remembered := readPeers(cfg.Snapshot, cfg.Log)
	g.peers.Store(&remembered)
	g.stale.Store(true)
	g.reconcile()
	g.done.Go(func() { g.drain(events) })
	g.done.Go(func() { g.watch(ctx) })
	g.done.Go(func() { g.join(ctx) })
	return g, nil
}

// Address is where this host says it can be reached.
func (g *Gossip) Address() netip.AddrPort { return g.advertise }

// SetTags replaces the tags that the other members see. It waits until one of
// them was told, five seconds at most: whoever was not told learns of it with
// the next full exchange. Tags that do not fit are an error that names the
// largest of them, and change nothing.
func (g *Gossip) SetTags(tags map[string]string) error {
	if err := checkTags(tags); err != nil {
		return err
	}
	g.setTags.Lock()
	defer g.setTags.Unlock()
	if err := g.serf.SetTags(copyTags(tags)); err != nil {
		g.log.Debug("new tags have reached nobody yet", "err", err)
	}
	g.wake()
	return nil
}

// Leave tells the others that this host goes on purpose, and shuts down: it takes
// one to three seconds. The host's next start does not look for those it knew,
// only for Config.Join. If ctx ends first, its error is returned and leaving
// goes on; Shutdown waits for it.
func (g *Gossip) Leave(ctx context.Context) error {
	left := make(chan error, 1)
	go func() {
		g.ending.Lock() // memberlist panics when it is shut down while it leaves
		err := g.serf.Leave()
		g.ending.Unlock()
		g.Shutdown()
		left <- errors.Join(err, writePeers(g.cfg.Snapshot, nil))
	}()
	select {
	case err := <-left:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Shutdown ends gossip with no word to the others: they see a host that failed,
// until it starts again. It may be called again, and waits for what was started.
func (g *Gossip) Shutdown() {
	g.ending.Lock()
	defer g.ending.Unlock()
	g.stop()
	if err := g.serf.Shutdown(); err != nil {
		g.log.Warn("gossip did not end as it should", "err", err)
	}
	g.done.Wait()
}

// ForceLeave takes a member that failed or left out of every member's list. It
// is refused for one that is alive: that one has to leave itself.
func (g *Gossip) ForceLeave(name string) error {
	switch m, is := g.member(name); {
	case !is:
		return fmt.Errorf("there is no member %q", name)
	case name == g.cfg.Name:
		return fmt.Errorf("%s is this host: it can leave, not be forgotten by itself", name)
	case m.Status == Alive || m.Status == Leaving:
		return fmt.Errorf("%s is %s, at %s: it can't be forgotten while it is there; `shoal leave` there, or stop its daemon", name, m.Status, m.Addr)
	}
	if err := g.serf.RemoveFailedNodePrune(name); err != nil {
		return fmt.Errorf("forget %s: nobody else was told yet: %w", name, err)
	}
	g.wake()
	return nil
}

// drain empties Serf's channel and does nothing else: Serf sends on it with its
// locks held, so whoever reads may not ask Serf anything.
func (g *Gossip) drain(events <-chan serf.Event) {
	for {
		select {
		case e := <-events:
			if u, is := e.(serf.UserEvent); is {
				g.receive(News{Name: u.Name, Payload: u.Payload})
			} else {
				g.wake()
			}
		case <-g.serf.ShutdownCh():
			return
		}
	}
}

// watch looks at Serf's members when something was heard, and now and then
// anyway: Serf tells nobody that a member is about to leave.
func (g *Gossip) watch(ctx context.Context) {
	tick := time.NewTicker(lookAnyway)
	defer tick.Stop()
	for {
		g.reconcile()
		g.remember()
		select {
		case <-g.look:
		case <-tick.C:
			g.stale.Store(true)
		case <-ctx.Done():
			return
		}
	}
}

func (g *Gossip) wake() {
	g.stale.Store(true)
	select {
	case g.look <- struct{}{}:
	default:
	}
}

const (
	// eventsKept is more than Serf's own buffer (1,024), so that what is left in
	// it at the end fits without a reader.
	eventsKept = 2048
	lookAnyway = 5 * time.Second
)
