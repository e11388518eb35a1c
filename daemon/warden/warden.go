package warden

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shoal-project/shoal/daemon/gate"
	"github.com/shoal-project/shoal/daemon/lease"
	"github.com/shoal-project/shoal/daemon/tenure"
)

// Config is what Run needs.
type Config struct {
	Dir      string // what it keeps, root's alone: /var/lib/shoal/witness
	Socket   string // tenure.Socket
	Session  string // the file with the session, in /run
	Slice    gate.Slice
	Budget   lease.Budget
	StopPods func(context.Context) error // see gate.Config
	Ping     func()
	Leave    <-chan struct{}      // see gate.Config
	Ready    func()               // the socket is open
	Clock    func() time.Duration // nil: CLOCK_BOOTTIME
	Log      *slog.Logger
	// Election is witness.Config's.
	Election time.Duration
	// Silent is how long a witness may give no sign of life before another host
	// takes its seat, if there is one; 0 is 30 s: a restart, or a disk that hangs, is
	// shorter.
	Silent time.Duration
}

// Warden is a lease process.
type Warden struct {
	config  Config
	session string
	port    port
	ended   context.Context

	told chan struct{} // holds one: the daemon has spoken, or the host is to be looked at

	mu      sync.Mutex
	host    tenure.Host
	members atomic.Pointer[tenure.Host] // the same, for those that must not wait for the lock
	hostSum string
	word    gate.Word
	spoken  chan struct{} // closed, and made anew, when the daemon speaks
	lease   gate.Standing
	version int
	news    chan struct{} // closed, and made anew, when what the daemon is told changes
	said    string        // what it was told last, to compare
	refusal string        // the witnesses' last word to this host's lease process; "": granted
	gateErr error         // the host can't have a lease
	seat    *seat         // nil: this host runs no witness
	disk    disk
	trouble string               // of the seat, in words
	giving  bool                 // this host's own log gives way
	leader  string               // the node that led last
	seats   []string             // ids, as the leader said last
	quiet   time.Time            // since when nobody answers; zero: somebody does
	mute    map[string]time.Time // nodes that did not answer, and when
	absent  int                  // how often the leader's list of seats lacked this host's

	// The following goroutine's, where this host's witness leads.
	watch  map[string]sign
	failed map[string]time.Time // newcomers that did not follow the log, and when
}

// Run runs the lease process until ctx ends. An error is that it could not do its
// work: systemd is to end what is left of the exclusive pods.
func Run(ctx context.Context, c Config) error {
	if c.Clock == nil {
		c.Clock = gate.Boottime
	}
	if c.Silent == 0 {
		c.Silent = 30 * time.Second
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", c.Dir, err)
	}
	session, err := gate.Session(c.Session)
	if err != nil {
		return err
	}
	w := &Warden{config: c, session: session, told: make(chan struct{}, 1), spoken: make(chan struct{}), news: make(chan struct{})}
	if w.disk, err = readDisk(c.Dir); err != nil {
		return err
	}
	if err := w.restore(); err != nil {
		c.Log.Error("who the members are is not known until the daemon says so", "err", err)
	}
	w.lease = gate.Standing{Session: session}
	return w.run(ctx)
}

func (w *Warden) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	w.ended = ctx
	w.port.start(w)
	defer w.port.close()
	var all sync.WaitGroup
	defer all.Wait()
	defer stop(nil)
	server, err := w.listen()
	if err != nil {
		return err
	}
	w.gateErr = w.config.Slice.Prepare()
	if w.gateErr != nil {
		w.config.Log.Error("exclusive pods can't run on this host; as a witness it serves", "err", w.gateErr)
	}
	all.Go(func() { stop(w.serve(ctx, server)) })
	all.Go(func() { w.follow(ctx) })
	if w.config.Ready != nil {
		w.config.Ready()
	}
	if w.gateErr != nil {
		return w.pingOn(ctx)
	}
	name, err := w.name(ctx)
	if err != nil {
		return nil // it was told to end before it knew who it is
	}
	err = gate.Run(ctx, gate.Config{
		Node: name, Session: w.session, Slice: w.config.Slice, Budget: w.config.Budget, Witnesses: w, Daemon: daemon{w},
		StopPods: w.config.StopPods, Ping: w.config.Ping, Leave: w.config.Leave, Clock: w.config.Clock, Log: w.config.Log,
	})
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// pingOn keeps a process without a gate alive.
func (w *Warden) pingOn(ctx context.Context) error {
	tick := time.NewTicker(w.config.Budget.Renew)
	defer tick.Stop()
	for {
		w.config.Ping()
		select {
		case <-tick.C:
		case <-w.config.Leave:
			return nil
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
				return cause
			}
			return nil
		}
	}
}

// name waits until the daemon said who this host is.
func (w *Warden) name(ctx context.Context) (string, error) {
	tick := time.NewTicker(w.config.Budget.Renew)
	defer tick.Stop()
	for {
		w.mu.Lock()
		name, spoken := w.host.Node, w.spoken
		w.mu.Unlock()
		if name != "" {
			return name, nil
		}
		w.config.Ping()
		select {
		case <-spoken:
		case <-tick.C:
		case <-w.config.Leave:
			return "", context.Canceled
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// daemon is the host's daemon as gate sees it: it answers by telling.
type daemon struct{ *Warden }

// Ask passes on how things stand, and waits until the daemon speaks.
func (w daemon) Ask(ctx context.Context, s gate.Standing) (gate.Word, error) {
	w.mu.Lock()
	switch old := w.lease.Epoch; {
	case s.Epoch == old:
	case s.Epoch != 0:
		w.config.Log.Info("this host has a lease", "epoch", s.Epoch)
	default:
		w.config.Log.Warn("this host has no lease any more", "epoch", old)
	}
	w.lease = s
	w.changed()
	spoken := w.spoken
	w.mu.Unlock()
	select {
	case <-spoken:
	case <-ctx.Done():
		return gate.Word{}, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	word := w.word
	word.Stop = word.Stop || w.giving
	return word, nil
}

// standing is what the daemon is told. The caller holds the lock.
func (w *Warden) standing() tenure.Standing {
	s := tenure.Standing{Version: w.session + "." + strconv.Itoa(w.version), Known: w.hostSum, Lease: w.lease, Self: w.disk.witness(w.seat), Leader: w.leader}
	s.Witnesses = len(w.seats)
	if w.seat != nil && w.seat.count > 0 {
		s.Witnesses = w.seat.count
	}
	s.Problem = w.problem()
	return s
}

// changed wakes the daemon if there is something new for it. The deadline is
// nothing new: it moves all the time. The caller holds the lock.
func (w *Warden) changed() {
	s := w.standing()
	s.Version, s.Lease.Deadline = "", 0
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // of strings and numbers
	}
	if string(text) == w.said {
		return
	}
	w.said = string(text)
	w.version++
	close(w.news)
	w.news = make(chan struct{})
}

// tell takes in what the daemon says, and answers once there is news for it.
func (w *Warden) tell(ctx context.Context, t tenure.Tell) (tenure.Standing, error) {
	w.mu.Lock()
	if t.Host != nil {
		if err := w.meet(*t.Host); err != nil {
			w.mu.Unlock()
			return tenure.Standing{}, err
		}
	}
	w.word = t.Word
	close(w.spoken)
	w.spoken = make(chan struct{})
	w.changed()
	now, news := w.standing(), w.news
	w.mu.Unlock()
	if t.Seen != now.Version {
		return now, nil
	}
	wait := time.NewTimer(w.config.Budget.Renew)
	defer wait.Stop()
	select {
	case <-news:
	case <-wait.C:
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.standing(), nil
}

// meet takes in who is there. The caller holds the lock.
func (w *Warden) meet(h tenure.Host) error {
	if h.Node == "" {
		return errors.New("a host without a name")
	}
	if w.host.Node != "" && w.host.Node != h.Node {
		return fmt.Errorf("this host was node %s, and now calls itself %s: its lease is the first one's (end shoal-lease.service, once nothing exclusive runs here)", w.host.Node, h.Node)
	}
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	w.host, w.hostSum = h, tenure.Sum(h)
	w.members.Store(&h)
	if err := replace(w.hostFile(), data); err != nil {
		w.config.Log.Error("who the members are won't be known after a restart of this process", "err", err)
	}
	wake(w.told)
	return nil
}

// restore reads what the daemon said to an earlier process.
func (w *Warden) restore() error {
	data, err := os.ReadFile(w.hostFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, &w.host)
	}
	if err != nil {
		w.host = tenure.Host{}
		return err
	}
	w.hostSum = tenure.Sum(w.host)
	known := w.host
	w.members.Store(&known)
	return nil
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
