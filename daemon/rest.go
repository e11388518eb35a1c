package daemon

import (
	"log/slog"
	"time"

	"github.com/shoal-project/shoal/daemon/footprint"
)

// restAfter is how long no object must have changed before the daemon gives
// back what its work took of memory.
const restAfter = 5 * time.Second

// rest is what the loop knows of work: that it is under way, and when it counts
// as ended.
type rest struct {
	working bool
	timer   *time.Timer
	grow    func() // work begins
	shrink  func() error
	log     *slog.Logger
}

// newRest counts what a start did as work.
func newRest(log *slog.Logger) *rest {
	return &rest{timer: time.NewTimer(restAfter), grow: footprint.Grow, shrink: footprint.Shrink, log: log}
}

// worked is told of each change.
func (r *rest) worked() {
	if !r.working {
		r.working = true
		r.grow()
	}
	r.timer.Reset(restAfter)
}

// ended is called when the timer fires.
func (r *rest) ended() {
	r.working = false
	if err := r.shrink(); err != nil {
		r.log.Warn("can't give memory back", "err", err)
	}
}
