package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/exclusive"
	"github.com/shoal-project/shoal/daemon/pod"
)

// Reasons of events about exclusive pods; ours.
const (
	reasonWaitingForClaim = "WaitingForClaim"
	reasonClaimed         = "Claimed"
	reasonLeaseLost       = "LeaseLost"
)

// Claims are this host's lease and what its pods hold by it. It is safe for
// concurrent use.
type Claims interface {
	// Key is what the pod claims before it runs; "" for one that is not exclusive.
	Key(*v1.Pod) string
	// Restore takes up a pod of an earlier daemon, before any other wants its key.
	Restore(uid types.UID, l exclusive.Leave)
	// Want asks for the pod's key, or why it has none yet. The worker is to look
	// again when that has changed: Agent.Look.
	Want(key string, uid types.UID) (exclusive.Leave, bool, exclusive.Wait)
	// Done says that nothing of the pod runs, and that it wants its key no more.
	Done(key string, uid types.UID)
	// Good is whether something may be begun by a leave, Lost whether what was is killed.
	Good(exclusive.Leave) bool
	Lost(exclusive.Leave) bool
}

// errLeaseLost is why what was begun for an exclusive pod is given up.
var errLeaseLost = errors.New("the host has no longer the lease that this pod may run by")

// LeaseUnit is what the scopes of exclusive pods end with.
const LeaseUnit = "shoal-lease.service"

// observeClaim finds out how the identity of an exclusive pod stands.
func (w *worker) observeClaim() {
	claims := w.agent.cfg.Claims
	if claims == nil {
		return
	}
	key, begun := claims.Key(w.wanted), w.runsStill()
	if !begun {
		w.state.Leave = nil // it is written down with what comes next
	}
	l := w.state.Leave
	switch {
	case l != nil || !begun:
		w.present.Store(l)
	case key != "":
		w.present.Store(unruled)
	}
	switch {
	case key == "" && l == nil:
		w.seen.Claim = nil
		return
	case w.overOrRejected():
		if !begun {
			w.seen.Claim = nil
			claims.Done(key, w.uid)
		}
		return
	case w.pod.DeletionTimestamp != nil:
		return // it is given back in finish, when its volumes are gone too
	}
	leave, held, wait := claims.Want(key, w.uid)
	c := &pod.Claim{Held: held, Reason: string(wait.Why), Message: wait.Message}
	switch {
	case l != nil:
		c.Token, c.Lost = l.Token, claims.Lost(*l) || held && leave.Token != l.Token
		c.Held = held && !c.Lost
	case begun: // by a daemon that knew nothing of leases
		c.Held, c.Lost = false, true
	case held:
		c.Token = leave.Token
	}
	if c.Held {
		c.Reason, c.Message = "Held", fmt.Sprintf("%s, at epoch %d with token %d", key, leave.Epoch, leave.Token)
		w.leave = leave
	}
	w.sayClaim(w.seen.Claim, c)
	w.seen.Claim = c
}

func (w *worker) overOrRejected() bool {
	return w.status.Phase == v1.PodSucceeded || w.status.Phase == v1.PodFailed || w.seen.Rejected != nil
}

// sayClaim tells what has changed.
func (w *worker) sayClaim(before, now *pod.Claim) {
	ref, events := reference(w.pod, ""), w.agent.cfg.Events
	was := pod.Claim{}
	if before != nil {
		was = *before
	}
	switch {
	case now.Lost && !was.Lost:
		events.Warning(ref, reasonLeaseLost, "The host lost the lease that the pod runs by: what runs of it is killed, and starts again where its identity is held")
	case now.Held && !was.Held && w.state.Leave == nil:
		events.Normal(ref, reasonClaimed, "Holds %s", now.Message)
	case !now.Held && !now.Lost && w.state.Leave == nil && now.Reason != string(exclusive.Asking) &&
		(was.Reason != now.Reason || now.Reason == string(exclusive.HeldByNode) && was.Message != now.Message):
		events.Normal(ref, reasonWaitingForClaim, "Waits to hold %s: %s", w.agent.cfg.Claims.Key(w.wanted), now.Message)
	}
}

// beginExclusive notes by which leave the pod's sandbox is made, before it is.
func (w *worker) beginExclusive() {
	if w.seen.Claim == nil {
		w.state.Leave = nil
		return
	}
	l := w.leave
	w.state.Leave = &l
	w.present.Store(&l) // before the first step asks whether it may
}

// releaseClaim gives the pod's identity back, after all of it is gone.
func (w *worker) releaseClaim() {
	if claims := w.agent.cfg.Claims; claims != nil {
		if key := claims.Key(w.wanted); key != "" {
			claims.Done(key, w.uid)
		}
		if l := w.state.Leave; l != nil {
			claims.Done(l.Key, w.uid)
		}
	}
}

// may is an error where nothing more is to be begun for the pod: each step asks,
// for the lease may be lost between any two. What is begun late all the same is
// frozen before its first instruction (daemon/gate).
func (j job) may(ctx context.Context) error {
	if j.leave != nil && !j.w.agent.cfg.Claims.Good(*j.leave) {
		return errLeaseLost
	}
	return ctx.Err()
}

// token is the pod's fencing token, 0 for a pod that has none.
func (j job) token() uint64 {
	if j.leave == nil {
		return 0
	}
	return j.leave.Token
}

// restoreClaims takes up what the pods of an earlier daemon hold.
func (a *Agent) restoreClaims(pods []*v1.Pod) {
	if a.cfg.Claims == nil {
		return
	}
	for _, p := range pods {
		if s, err := readState(filepath.Join(a.cfg.Run, string(p.UID))); err == nil && s.Leave != nil {
			a.cfg.Claims.Restore(p.UID, *s.Leave)
		}
	}
}

// Cleared is whether nothing is left, or being made, of what exclusive pods began
// under a lease that was lost. Call it only after the first Sync.
func (a *Agent) Cleared() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		if l := w.present.Load(); l != nil && a.cfg.Claims.Lost(*l) {
			return false
		}
	}
	return true
}

// RunsExclusive is whether anything of an exclusive pod is there.
func (a *Agent) RunsExclusive() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		if w.present.Load() != nil {
			return true
		}
	}
	return false
}

// unruled is by what leave a pod runs of which that is not known: none is like it.
var unruled = &exclusive.Leave{Loss: -1}

// LookAtExclusive makes the exclusive pods look again: the host's lease, or what
// they hold, has changed.
func (a *Agent) LookAtExclusive() {
	if a.cfg.Claims == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.workers {
		if w.exclusive {
			w.poke()
		}
	}
}
