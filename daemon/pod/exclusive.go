package pod

import (
	v1 "k8s.io/api/core/v1"
)

// Exclusive is the condition of a pod that runs only once in the cluster: true
// while this node holds its identity for it, else with what it waits for.
const Exclusive v1.PodConditionType = "shoal.io/Exclusive"

// reasonWaitingForClaim is why a container of such a pod waits.
const reasonWaitingForClaim = "WaitingForClaim"

// TokenVariable is the environment variable that tells containers of an
// exclusive pod its fencing token: storage that is told the token with each
// write can refuse those of an earlier holder.
const TokenVariable = "SHOAL_FENCING_TOKEN"

// Claim is how the identity of an exclusive pod stands on this host.
type Claim struct {
	Held    bool   // the pod may be started: this node holds it, and has its lease
	Token   uint64 // what it runs with; 0: nothing of it runs
	Reason  string // one word: Held, or what it waits for
	Message string // the same for people
	// Lost is that what runs of the pod was begun under a lease that was lost: it is
	// killed, or about to be.
	Lost bool
}

// mayStart says whether anything of the pod may be begun.
func (d *decider) mayStart() bool { return d.seen.Claim == nil || d.seen.Claim.Held }

// lost says whether the host lost the lease under which the pod was begun.
func (d *decider) lost() bool { return d.seen.Claim != nil && d.seen.Claim.Lost }

// clear takes away what was begun under a lost lease. The host is killing it, so
// there is nothing to ask it and nothing to wait for.
func (d *decider) clear() {
	d.ends, d.hurry = true, true
	d.stopAll(0, "the host has lost its lease")
	if !d.anyAlive() {
		d.stopSandbox()
	}
}

// exclusiveCondition is the pod's condition Exclusive; nil for other pods.
func (d *decider) exclusiveCondition() *v1.PodCondition {
	claim := d.seen.Claim
	if claim == nil {
		return nil
	}
	c := v1.PodCondition{Type: Exclusive, Status: v1.ConditionFalse, Reason: claim.Reason, Message: claim.Message}
	if claim.Token != 0 && !claim.Lost {
		c.Status = v1.ConditionTrue
	}
	return &c
}
