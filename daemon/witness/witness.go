package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/shoal-project/shoal/daemon/lease"
)

// Streams are connections between witnesses. Whoever answers is taken for who
// was called: authenticate both ends.
type Streams interface {
	net.Listener
	DialWitness(address string, timeout time.Duration) (net.Conn, error)
}

// Config is what a Witness needs.
type Config struct {
	// ID is the node and the UUID of its store. A disk that is lost takes the vote
	// with it: a witness that comes back with a new one under the old ID could vote
	// twice in one term, and entries that were committed would be lost.
	ID      string
	Address string // at which others reach it
	Dir     string // its own, which exists
	Streams Streams
	Budget  lease.Budget
	Clock   func() time.Duration // CLOCK_BOOTTIME
	Log     *slog.Logger
	// Election is raft's heartbeat and election timeout; 0 is a second.
	Election time.Duration
}

// Server is one member of the witnesses.
type Server struct {
	ID      string
	Address string
	Votes   bool
}

// NotLeading is that another witness has to be asked.
type NotLeading struct{ Leader string } // its address; "": nobody known leads

func (e NotLeading) Error() string {
	if e.Leader == "" {
		return "no witness leads"
	}
	return "the witness at " + e.Leader + " leads"
}

// Witness is a running member. Close it.
type Witness struct {
	config Config
	raft   *raft.Raft
	trans  *raft.NetworkTransport
	store  *store
	fsm    *machine

	mu   sync.Mutex
	term *term // nil: does not lead, or not yet

	stop context.CancelFunc
	done chan struct{}
}

// Start joins the witnesses that the directory knows of. One that knows of none
// waits until it is added, or Bootstrap is called.
func Start(c Config) (*Witness, error) {
	if err := c.Budget.Check(); err != nil {
		return nil, err
	}
	parts, err := c.open()
	if err != nil {
		return nil, err
	}
	w := &Witness{config: c, trans: parts.trans, store: parts.store, done: make(chan struct{})}
	w.fsm = &machine{state: lease.NewState(), since: make(since), halt: func(err error) {
		c.Log.Error("this witness stops, since it can't read the log", "err", err)
		go func() { _ = w.raft.Shutdown().Error() }() // raft waits for the entry that is being applied
	}}
	w.raft, err = raft.NewRaft(parts.config, w.fsm, parts.store, parts.store, parts.snaps, parts.trans)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start raft: %w", err), parts.trans.Close(), parts.store.db.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	go w.lead(ctx)
	return w, nil
}

type parts struct {
	config *raft.Config
	store  *store
	snaps  raft.SnapshotStore
	trans  *raft.NetworkTransport
}

func (c Config) open() (parts, error) {
	logger := hclog.New(&hclog.LoggerOptions{Name: "raft", Level: hclog.Warn, DisableTime: true, Output: lines{c.Log}})
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.ID)
	rc.Logger = logger
	rc.NoLegacyTelemetry = true
	if c.Election > 0 {
		rc.HeartbeatTimeout, rc.ElectionTimeout, rc.LeaderLeaseTimeout = c.Election, c.Election, c.Election/2
	}
	// How late others hear what is committed when nothing follows: only the leader answers, so nobody waits for it. raft's
	// own 50 ms cost a host at rest more than all else here.
	rc.CommitTimeout = rc.ElectionTimeout
	snaps, err := raft.NewFileSnapshotStoreWithLogger(c.Dir, 2, logger)
	if err != nil {
		return parts{}, fmt.Errorf("snapshots of the witnesses' state: %w", err)
	}
	st, err := openStore(c.Dir)
	if err != nil {
		return parts{}, err
	}
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer{c.Streams}, MaxPool: 3, Timeout: 10 * rc.ElectionTimeout, Logger: logger,
	})
	return parts{rc, st, snaps, trans}, nil
}

// Bootstrap makes these servers the first witnesses, once in a cluster's life.
// Called on several of them it must be with the same ones.
func (w *Witness) Bootstrap(servers []Server) error {
	return w.raft.BootstrapCluster(configuration(servers)).Error()
}

// Close ends it. Others go on.
func (w *Witness) Close() error {
	w.stop()
	err := w.raft.Shutdown().Error()
	<-w.done
	return errors.Join(err, w.trans.Close(), w.store.db.Close())
}

// Servers are the witnesses, as far as this one knows.
func (w *Witness) Servers() ([]Server, error) {
	future := w.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, err
	}
	var servers []Server
	for _, s := range future.Configuration().Servers {
		servers = append(servers, Server{string(s.ID), string(s.Address), s.Suffrage == raft.Voter})
	}
	return servers, nil
}

// Add makes a server a witness. Only the leader can.
func (w *Witness) Add(s Server, within time.Duration) error {
	return w.raft.AddVoter(raft.ServerID(s.ID), raft.ServerAddress(s.Address), 0, within).Error()
}

// Remove takes a server's vote away. Only the leader can.
func (w *Witness) Remove(id string, within time.Duration) error {
	return w.raft.RemoveServer(raft.ServerID(id), 0, within).Error()
}

// Recover makes the witness whose directory it is the only one, of what it
// knows: the majority is lost for ever. It must not run, and the others must not
// either. See lease.State.Recover.
func Recover(c Config) error {
	p, err := c.open()
	if err != nil {
		return err
	}
	fsm := &recovered{machine{state: lease.NewState(), since: make(since), halt: func(error) {}}}
	alone := configuration([]Server{{c.ID, c.Address, true}})
	err = raft.RecoverCluster(p.config, fsm, p.store, p.store, p.snaps, p.trans, alone)
	if err == nil {
		err = fsm.broken
	}
	return errors.Join(err, p.trans.Close(), p.store.db.Close())
}

// recovered is a machine whose snapshot is the state to go on from.
type recovered struct{ machine }

func (r *recovered) Snapshot() (raft.FSMSnapshot, error) {
	r.state.Recover()
	return r.machine.Snapshot()
}

func configuration(servers []Server) raft.Configuration {
	var c raft.Configuration
	for _, s := range servers {
		suffrage := raft.Nonvoter
		if s.Votes {
			suffrage = raft.Voter
		}
		c.Servers = append(c.Servers, raft.Server{Suffrage: suffrage, ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Address)})
	}
	return c
}

// layer is Streams as raft wants them.
type layer struct{ Streams }

func (l layer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return l.DialWitness(string(address), timeout)
}

// lines hands raft's log on, a line each.
type lines struct{ log *slog.Logger }

func (l lines) Write(p []byte) (int, error) {
	l.log.Debug("raft", "line", string(p))
	return len(p), nil
}

var _ io.Writer = lines{}
