package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/daemon/lease"
)

// Witnesses answer the lease process: their leader does, wherever it is.
type Witnesses interface {
	Ask(ctx context.Context, r lease.Request) (lease.Answer, error)
}

// Daemon is asked whether it lives, and told how things stand.
type Daemon interface {
	Ask(ctx context.Context, s Standing) (Word, error)
}

// Standing is how the host's lease stands.
type Standing struct {
	Session  string        `json:"session"`
	Epoch    uint64        `json:"epoch"`    // at which pods may be started; 0: none may
	Deadline time.Duration `json:"deadline"` // by CLOCK_BOOTTIME, until when
	Loss     time.Duration `json:"loss"`     // names what was lost last
}

// Word is the daemon's.
type Word struct {
	// Cleared is the Loss that it has let go of: it starts nothing for an epoch of
	// before, and their mounts are gone.
	Cleared time.Duration `json:"cleared"`
	Stop    bool          `json:"stop"` // the work is to be handed over
}

// Config is what Run needs.
type Config struct {
	Node      string
	Session   string
	Slice     Slice
	Budget    lease.Budget
	Witnesses Witnesses
	Daemon    Daemon
	StopPods  func(context.Context) error // ends those in the slice in an orderly way, as often as it is called
	Ping      func()                      // systemd's watchdog
	Leave     <-chan struct{}             // closed when the host is to hand over, and Run to return then; nil: never
	Clock     func() time.Duration        // nil: CLOCK_BOOTTIME
	Log       *slog.Logger
}

// Boottime is CLOCK_BOOTTIME: it counts sleep, and nobody sets it.
func Boottime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic(err) // it takes no argument that could be wrong
	}
	return time.Duration(now.Nano())
}

// beat is how often the process looks at its host: a part of the second that
// the budget has for a kill.
const beat = 200 * time.Millisecond

type gate struct {
	Config
	node    lease.Node
	word    Word
	spoke   time.Duration // when the daemon was asked what it answered last
	answers chan answer
	words   chan word
	stops   chan error
	asking  bool // the daemon
	stating Standing
	ending  bool // StopPods runs
	leaving bool // Leave was closed
	refused lease.Refusal
}

type answer struct {
	do lease.Verb
	a  lease.Answer
}

type word struct {
	asked time.Duration
	w     Word
	err   error
}

// Run keeps the host's lease until ctx ends, or until it has handed over since it
// was told to leave. It leaves the slice shut. An error is that it could not do its work: systemd is to kill what is left.
func Run(ctx context.Context, c Config) (err error) {
	if err := c.Budget.Check(); err != nil {
		return err
	}
	if c.Clock == nil {
		c.Clock = Boottime
	}
	if err := c.Slice.Prepare(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Slice.Shut()) }()
	g := &gate{
		Config: c, node: lease.NewNode(&c.Budget, c.Node, c.Session, c.Clock()),
		answers: make(chan answer), words: make(chan word), stops: make(chan error),
	}
	// What is asked ends with Run: nobody is left to hear it.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		if err := g.step(ctx); err != nil {
			return err
		}
		if g.leaving && g.node.Deadline() == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-g.Leave:
			g.leaving, g.Leave = true, nil
		case <-tick.C:
		case a := <-g.answers:
			sight, err := g.sight()
			if err != nil {
				return err
			}
			g.node = g.node.Hear(a.do, a.a, sight)
			if a.a.Refused != lease.Granted && a.a.Refused != g.refused {
				g.Log.Info("the witnesses refused", "reason", string(a.a.Refused))
			}
			g.refused = a.a.Refused
		case w := <-g.words:
			if g.asking = false; w.err == nil {
				g.word, g.spoke = w.w, w.asked
			}
		case err := <-g.stops:
			if g.ending = false; err != nil {
				g.Log.Warn("exclusive pods do not stop", "err", err)
			}
		}
	}
}

func (g *gate) sight() (lease.Sight, error) {
	populated, frozen, err := g.Slice.Look()
	if err != nil {
		return lease.Sight{}, fmt.Errorf("look at the exclusive slice: %w", err)
	}
	return lease.Sight{Now: g.Clock(), Populated: populated, Frozen: frozen, Daemon: g.spoke, Cleared: g.word.Cleared, Stop: g.word.Stop || g.leaving}, nil
}

// step looks, and makes so what is wished.
func (g *gate) step(ctx context.Context) error {
	sight, err := g.sight()
	if err != nil {
		return err
	}
	var wish lease.Wish
	g.node, wish = g.node.Look(sight)
	switch {
	case wish.Shut && (sight.Populated || !sight.Frozen):
		if err := g.Slice.Shut(); err != nil {
			return fmt.Errorf("shut the exclusive slice: %w", err)
		}
	case !wish.Shut && sight.Frozen:
		if err := g.Slice.Open(); err != nil {
			return fmt.Errorf("open the exclusive slice: %w", err)
		}
	}
	if wish.Ping {
		g.Ping() // only after the slice is as it should be
	}
	if wish.StopPods && !g.ending {
		g.ending = true
		go hand(ctx, g.stops, func() error { return g.StopPods(ctx) })
	}
	if r := wish.Send; r != nil {
		g.node = g.node.Sent(*r)
		go g.send(ctx, *r)
	}
	standing := Standing{g.Session, wish.Epoch, g.node.Deadline(), wish.Loss}
	if due := sight.Now >= g.spoke+g.Budget.Renew || standing.Epoch != g.stating.Epoch || standing.Loss != g.stating.Loss; due && !g.asking {
		g.asking, g.stating = true, standing
		asked := sight.Now
		go hand(ctx, g.words, func() word {
			ctx, cancel := context.WithTimeout(ctx, g.Budget.Deadline)
			defer cancel()
			w, err := g.Daemon.Ask(ctx, standing)
			return word{asked, w, err}
		})
	}
	return nil
}

func (g *gate) send(ctx context.Context, r lease.Request) {
	limited, cancel := context.WithTimeout(ctx, g.Budget.Deadline)
	defer cancel()
	a, err := g.Witnesses.Ask(limited, r)
	if err != nil {
		g.Log.Debug("no witness answers", "err", err)
		return
	}
	hand(ctx, g.answers, func() answer { return answer{r.Do, a} })
}

// hand gives what do returns to whoever owns the state, if anybody still does.
func hand[T any](ctx context.Context, to chan<- T, do func() T) {
	v := do()
	select {
	case to <- v:
	case <-ctx.Done():
	}
}
