package daemon

import (
	"context"
	"errors"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/logind"
	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/shutdown"
	"github.com/shoal-project/shoal/daemon/steward"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// How long after logind was lost it is looked for again: soon (the kubelet's
// dbusReconnectPeriod), and ever later on a host that has none.
const (
	reconnectFirst = time.Second
	reconnectLast  = time.Minute
)

const (
	reasonNodeShutdown = "NodeShutdown"
	reasonNoShutdown   = "GracefulShutdownUnavailable"
	reasonReady        = "NodeReady"
	reasonNotReady     = "NodeNotReady"
)

// power is whether the host is shutting down, and since when that is so.
type power struct {
	down bool
	at   time.Time
}

// shuttingDown is safe for concurrent use.
func (d *Daemon) shuttingDown() bool {
	now := d.power.Load()
	return now != nil && now.down
}

// openShutdown finds out, before any pod is started, whether the host is on its
// way down.
func (d *Daemon) openShutdown(ctx context.Context) *logind.Connection {
	if len(d.Config.Shutdown.Periods) == 0 {
		if err := logind.Forget(d.Root); err != nil {
			d.Log.Warn("can't remove what raised logind's delay", "err", err)
		}
		return nil
	}
	c, err := d.delayShutdowns(ctx)
	if err != nil {
		d.noShutdown(err)
		return nil
	}
	select {
	case down := <-c.Shutdowns:
		d.power.Store(&power{down, d.Now()})
	default:
	}
	return c
}

func (d *Daemon) noShutdown(err error) {
	d.events.Warning(d.nodeReference(), reasonNoShutdown, "pods will not be given time when the host shuts down: %v", err)
}

// delayShutdowns has logind wait for us. If it waits less long than is asked
// for, that is said, and better than nothing.
func (d *Daemon) delayShutdowns(ctx context.Context) (*logind.Connection, error) {
	c, err := logind.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.Allow(ctx, d.Root, shutdown.Total(d.Config.Shutdown.Periods)); err != nil {
		d.noShutdown(err)
	}
	switch err := c.Inhibit(ctx); {
	case errors.Is(err, logind.ErrBegun): // what is left of the time is ours all the same
		d.noShutdown(err)
	case err != nil:
		c.Close()
		return nil, err
	}
	return c, nil
}

// watchShutdown ends the pods in order when the host is to shut down, until ctx
// ends.
func (d *Daemon) watchShutdown(ctx context.Context, c *logind.Connection) {
	if len(d.Config.Shutdown.Periods) == 0 {
		return
	}
	said := c == nil // that there is none
	wait := reconnectFirst
	for {
		if c != nil {
			d.followShutdowns(ctx, c)
			c.Close()
			said, wait = false, reconnectFirst
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		var err error
		if c, err = d.delayShutdowns(ctx); err != nil && !said {
			said = true
			d.noShutdown(err)
		}
		wait = min(2*wait, reconnectLast)
	}
}

// followShutdowns returns when the connection is lost, or ctx ends.
func (d *Daemon) followShutdowns(ctx context.Context, c *logind.Connection) {
	ending := func() {}
	defer func() { ending() }()
	if d.shuttingDown() { // it was when we connected
		ending = d.shutDown(ctx, c)
	}
	for {
		select {
		case down, ok := <-c.Shutdowns:
			switch {
			case !ok:
				return
			case down:
				ending()
				d.events.Normal(d.nodeReference(), reasonNodeShutdown, "Shutdown manager detected shutdown event")
				d.setPower(ctx, true)
				ending = d.shutDown(ctx, c)
			default:
				ending()
				ending = func() {}
				d.events.Normal(d.nodeReference(), reasonNodeShutdown, "Shutdown manager detected shutdown cancellation")
				if err := c.Inhibit(ctx); err != nil {
					d.noShutdown(err)
				}
				d.setPower(ctx, false)
			}
		case <-ctx.Done():
			return
		}
	}
}

// setPower says whether the host is shutting down. Pods that waited, and those
// that a shutdown ended and that files declare, start when it is not.
func (d *Daemon) setPower(ctx context.Context, down bool) {
	d.power.Store(&power{down, d.Now()})
	if down {
		d.events.Normal(d.nodeReference(), reasonNotReady, "Node %s status is now: %s", d.Config.Node, reasonNotReady)
	} else {
		d.events.Normal(d.nodeReference(), reasonReady, "Node %s status is now: %s", d.Config.Node, reasonReady)
	}
	wake(d.fleet.news.tags)
	_ = d.do(ctx, func() { // else the daemon ends
		d.publishNode()
		if down {
			return
		}
		var keys []manifests.Key
		for key := range d.declared {
			keys = append(keys, key)
		}
		d.decidePods(keys)
	})
}

// shutDown ends the pods in the order of their priority, and then lets the host
// shut down. What it returns calls it off, and returns when it has ended: pods
// that are ending go on to do so.
func (d *Daemon) shutDown(ctx context.Context, c *logind.Connection) (callOff func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.endPods(ctx)
		flush := func() {
			if err := d.store.Flush(); err != nil {
				d.Log.Error("can't save how the pods ended", "err", err)
			}
		}
		// Through the loop, which has what the agent published before.
		if ctx.Err() == nil && d.do(ctx, flush) == nil {
			d.Log.Info("all pods have ended, or had their time: the host may shut down")
			c.Release()
		}
	}()
	return func() { cancel(); <-done }
}

// endPods ends all pods, a group after the other.
func (d *Daemon) endPods(ctx context.Context) {
	var pods []*v1.Pod
	err := d.do(ctx, func() { // the agent has all those that the loop has decided on
		for _, p := range d.pods() {
			if p.Status.Phase != v1.PodSucceeded && p.Status.Phase != v1.PodFailed {
				pods = append(pods, d.withPriority(p))
			}
		}
	})
	if err != nil {
		return // the daemon ends
	}
	for _, g := range shutdown.Groups(d.Config.Shutdown.Periods, pods) {
		d.Log.Info("the host is shutting down: pods end", "pods", g.String())
		var over []<-chan struct{}
		for _, p := range g.Pods {
			over = append(over, d.agent.End(p.UID, ending(g, p)))
		}
		if err := waitFor(ctx, over, g.Grace); err != nil {
			d.Log.Warn("some pods did not end in time", "pods", g.String(), "err", err)
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// ending is how a pod of a group ends. Where the group has no time, nobody waits
// for the pod; it is asked to end all the same, and begins its own grace (the
// kubelet's calculateEffectiveGracePeriod).
func ending(g shutdown.Group, p *v1.Pod) pod.Ending {
	grace := g.Grace
	if grace == 0 {
		grace = pod.GracePeriod(p)
	}
	return pod.Ending{Reason: shutdown.Reason, Message: shutdown.Message, Grace: grace, Disruption: true}
}

// waitFor returns when all channels are closed, or with an error after limit.
func waitFor(ctx context.Context, all []<-chan struct{}, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New("their grace is over"))
	defer cancel()
	for _, c := range all {
		select {
		case <-c:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// ready is the node's condition Ready.
func (d *Daemon) ready() v1.NodeCondition {
	started := metav1.NewTime(d.started)
	c := v1.NodeCondition{
		Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "ShoaldReady", Message: "shoald is running pods",
		LastTransitionTime: started, LastHeartbeatTime: started,
	}
	if now := d.power.Load(); now != nil {
		c.LastTransitionTime = metav1.NewTime(now.at)
		if now.down {
			c.Status, c.Reason, c.Message = v1.ConditionFalse, shutdown.NodeReason, shutdown.NodeMessage
		}
	}
	return c
}

// goesDown says whether a node is shutting down, or has.
func (d *Daemon) goesDown(node string) bool {
	if node == "" || node == d.Config.Node {
		return d.shuttingDown()
	}
	o, ok := d.view.Get(manifests.Key{Kind: workload.KindNode.Kind, Name: node})
	if !ok {
		return true
	}
	inSight := slices.ContainsFunc(d.stewards.members, func(m steward.Member) bool { return m.Name == node && m.Alive && !m.Leaving })
	return !inSight || slices.ContainsFunc(o.(*v1.Node).Status.Conditions, func(c v1.NodeCondition) bool {
		return c.Type == v1.NodeReady && c.Status != v1.ConditionTrue
	})
}

// endedByShutdown says why a pod that a file declares is made anew: a shutdown
// ended it, and the host is up. Its restartPolicy would have had it go on.
func (d *Daemon) endedByShutdown(p *v1.Pod) (why string) {
	if !shutdown.Over(p) || d.goesDown(p.Spec.NodeName) {
		return ""
	}
	return "the node was shut down"
}
