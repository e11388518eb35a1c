package record

import (
	"fmt"
	"sync"
	"time"
)

// Stamp is a hybrid logical clock's reading (Kulkarni et al., "Logical Physical
// Clocks", 2014): Unix milliseconds in the upper 48 bits, a counter in the
// lower 16. Stamps order changes made on different hosts: a change made after
// another was seen has the larger stamp, whatever the hosts' clocks say. Zero is
// before everything.
type Stamp uint64

// StampAt is the first stamp of that millisecond.
func StampAt(t time.Time) Stamp { return Stamp(max(t.UnixMilli(), 0)) << 16 }

// Time is the wall-clock part, to the millisecond.
func (s Stamp) Time() time.Time { return time.UnixMilli(int64(s >> 16)).UTC() }

// String is the wall-clock part and the counter.
func (s Stamp) String() string {
	return fmt.Sprintf("%s+%d", s.Time().Format("2006-01-02T15:04:05.000Z"), s&0xffff)
}

// Clock hands out stamps that only grow. It is safe for concurrent use.
type Clock struct {
	now  func() time.Time
	mu   sync.Mutex
	last Stamp
}

// NewClock makes a clock over a wall clock (time.Now, or a test's).
func NewClock(now func() time.Time) *Clock { return &Clock{now: now} }

// Now is a stamp larger than all that were handed out or observed.
func (c *Clock) Now() Stamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last+1, StampAt(c.now()))
	return c.last
}

// MaxAhead is how far ahead of the wall clock a stamp may be to be followed.
const MaxAhead = time.Minute

// Observe makes later stamps larger than one seen elsewhere, unless that is more
// than MaxAhead ahead of the wall clock: one host whose clock is a day ahead does
// not take all others with it. What must come after such a stamp says so itself
// (NewEdit).
func (c *Clock) Observe(s Stamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s < StampAt(c.now().Add(MaxAhead)) {
		c.last = max(c.last, s)
	}
}
