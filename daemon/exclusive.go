package daemon

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/exclusive"
	"github.com/shoal-project/shoal/daemon/gate"
	"github.com/shoal-project/shoal/daemon/lease"
	"github.com/shoal-project/shoal/manifests"
)

// exclusiveKey is what a pod claims before it runs; "" for one that may run
// beside others like it.
func exclusiveKey(p *v1.Pod) string {
	if id := manifests.Identity(p); id != "" {
		return exclusive.PodKey(p.Namespace, id)
	}
	return ""
}

func isExclusive(p *v1.Pod) bool { return exclusiveKey(p) != "" }

// leases are what this host's exclusive pods hold, and its lease as the lease
// process told it last. It is the agent's Claims, and safe for concurrent use.
type leases struct {
	d     *Daemon
	clock func() time.Duration
	kick  chan struct{} // holds one: there is something to ask

	mu       sync.Mutex
	table    *exclusive.Table
	standing exclusive.Standing
}

func newLeases(d *Daemon) *leases {
	return &leases{
		d: d, clock: gate.Boottime, kick: make(chan struct{}, 1), table: exclusive.NewTable(d.Config.Node),
	}
}

func (c *leases) Key(p *v1.Pod) string { return exclusiveKey(p) }

func (c *leases) Restore(uid types.UID, l exclusive.Leave) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.table.Restore(string(uid), l)
	c.d.wantLease()
}

func (c *leases) Want(key string, uid types.UID) (exclusive.Leave, bool, exclusive.Wait) {
	c.d.wantLease()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.table.Want(key, string(uid)) {
		wake(c.kick)
	}
	if l, held := c.table.Held(key, string(uid), c.standing, c.clock()); held {
		return l, true, exclusive.Wait{}
	}
	return exclusive.Leave{}, false, c.table.Waits(key, string(uid), c.standing)
}

func (c *leases) Done(key string, uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.table.Done(key, string(uid)) {
		wake(c.kick)
	}
}

func (c *leases) Good(l exclusive.Leave) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.standing.Good(l, c.clock())
}

func (c *leases) Lost(l exclusive.Leave) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.standing.Lost(l)
}

// heard takes in how the host's lease stands.
func (c *leases) heard(s exclusive.Standing) {
	c.mu.Lock()
	old := c.standing
	c.standing = s
	c.mu.Unlock()
	if old.Epoch != s.Epoch || old.Loss != s.Loss || old.Problem != s.Problem {
		wake(c.kick)
		c.d.agent.LookAtExclusive()
	}
}

// unheard is that the lease process does not answer. What it said last counts
// until its deadline; no more is asked for meanwhile.
func (c *leases) unheard(err error) {
	c.mu.Lock()
	s := c.standing
	c.mu.Unlock()
	s.Epoch, s.Problem = 0, err.Error()
	c.heard(s)
}

// run asks the witnesses what is to be asked, until ctx ends.
func (c *leases) run(ctx context.Context) {
	var tidied time.Duration // 0: never
	for {
		c.mu.Lock()
		now := c.clock()
		ask, at := c.table.Look(c.standing, now)
		mayTidy := c.standing.Epoch != 0
		c.mu.Unlock()
		if mayTidy && (tidied == 0 || now >= tidied+strayPeriod) {
			tidied = now
			go c.tidy(ctx)
		}
		for _, command := range ask {
			go c.ask(ctx, command)
		}
		timer := time.NewTimer(at - now)
		select {
		case <-timer.C:
		case <-c.kick:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (c *leases) ask(ctx context.Context, command lease.Command) {
	limited, cancel := context.WithTimeout(ctx, lease.Default.Deadline)
	defer cancel()
	out, err := c.d.tenant.client.Do(limited, command)
	c.mu.Lock()
	c.table.Hear(command, out, err, c.clock())
	c.mu.Unlock()
	wake(c.kick)
	c.d.agent.LookAtExclusive()
}

// strayPeriod is how often claims are looked for that a daemon which was killed
// left behind.
const strayPeriod = 5 * time.Minute

// tidy gives back claims of this node that no pod of it wants.
func (c *leases) tidy(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lease.Default.Deadline)
	defer cancel()
	report, err := c.d.tenant.client.Report(ctx)
	for _, held := range report.Claims {
		c.mu.Lock()
		command, stray := c.table.Stray(held.Key, lease.Claim{Node: held.Node, Epoch: held.Epoch, Token: held.Token, Pinned: held.Pinned})
		c.mu.Unlock()
		if stray && err == nil {
			_, err = c.d.tenant.client.Do(ctx, command)
			c.d.Log.Info("giving back what a pod of this node had claimed that is no more", "key", held.Key, "epoch", held.Epoch)
		}
	}
	if err != nil && ctx.Err() == nil {
		c.d.Log.Warn("claims of pods that are no more may be left", "err", err)
	}
}
