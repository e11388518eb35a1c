package lease

import (
	"fmt"
	"time"
)

// Budget is how the time of a lease is spent. All of it but Drift is measured
// by the clock of the host that spends it. docs/lease.md has the reasons.
type Budget struct {
	Renew    time.Duration // between two renewals
	Deadline time.Duration // after a renewal was sent that the last answer is to: the lease process kills
	Watchdog time.Duration // a lease process that hangs is killed by systemd this long after its last ping, and the pods with it
	Kill     time.Duration // from the decision to kill until the last process is gone
	Lease    time.Duration // after the renewal was sent, by which nothing writes any more
	HandOver time.Duration // what pods are given to end in an orderly way; less if the lease ends before
	Grace    time.Duration // how long the daemon may be silent before the host hands its work over
	// Drift is how much slower, in percent, the slowest node's clock may be than the
	// leader's. The leader waits that much longer.
	Drift int
}

// Default is the budget of this version.
var Default = Budget{
	Renew: time.Second, Deadline: 10 * time.Second, Watchdog: 3 * time.Second, Kill: time.Second, Lease: 15 * time.Second,
	HandOver: 30 * time.Second, Grace: time.Minute, Drift: 2,
}

// Check is an error for a budget that does not add up.
func (b Budget) Check() error {
	switch {
	case b.Renew <= 0 || b.Watchdog <= 0 || b.Kill <= 0 || b.Drift < 0:
		return fmt.Errorf("a lease's times must be positive: %+v", b)
	case b.Deadline < 2*b.Renew:
		return fmt.Errorf("deadline %v leaves no renewal to lose: want twice the period of %v at least", b.Deadline, b.Renew)
	case b.Deadline+b.Watchdog+b.Kill > b.Lease:
		return fmt.Errorf("lease %v, want at least deadline %v + watchdog %v + kill %v", b.Lease, b.Deadline, b.Watchdog, b.Kill)
	}
	return nil
}

// wait is how long the leader waits, by its clock, until a lease has run out by
// its node's clock.
func (b Budget) wait(lease time.Duration) time.Duration {
	return lease + lease*time.Duration(b.Drift)/100
}
