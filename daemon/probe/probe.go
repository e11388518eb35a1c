// Package probe decides about probes: when one is due, and what its outcome
// changes (the kubelet's pkg/kubelet/prober/worker.go). daemon/prober carries
// them out.
package probe

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// Kind is what a probe is asked for. Its text begins the events about it.
type Kind string

// The kinds of probes, as containers have them.
const (
	Startup   Kind = "Startup"
	Liveness  Kind = "Liveness"
	Readiness Kind = "Readiness"
)

// Kinds are all there are; a container has at most one probe of each.
var Kinds = []Kind{Startup, Liveness, Readiness}

// Of is a container's probe of a kind, nil if it has none.
func Of(c *v1.Container, k Kind) *v1.Probe {
	switch k {
	case Startup:
		return c.StartupProbe
	case Liveness:
		return c.LivenessProbe
	}
	return c.ReadinessProbe
}

// Result is what one probe, or several in a row, said.
type Result string

// The results. The zero value is that of a probe that has not said enough yet.
const (
	Unknown Result = ""
	Success Result = "Success"
	Failure Result = "Failure"
)

// Outcome is what came of one probe.
type Outcome struct {
	Result  Result
	Warning bool   // a success of which people should know: the redirect was not followed
	Output  string // what the probe said, at most 10 KiB
	Err     error  // the probe could not be made: Result says nothing
}

// State is what the probes of one run of a container amount to. It is kept over
// restarts of the daemon.
type State struct {
	Result Result `json:"result,omitempty"` // since a threshold was last reached
	Last   Result `json:"last,omitempty"`   // of the newest probe
	Run    int    `json:"run,omitempty"`    // how many in a row said so
}

// After is the state after one more result: it changes when successThreshold or
// failureThreshold is reached.
func (s State) After(p *v1.Probe, got Result) State {
	if s.Last != got {
		s.Last, s.Run = got, 0
	}
	s.Run++
	threshold := p.SuccessThreshold
	if got == Failure {
		threshold = p.FailureThreshold
	}
	if s.Run >= int(threshold) {
		s.Result = got
	}
	return s
}

// Over says whether nothing more is to be probed of this run: it started, or is
// to be killed.
func (s State) Over(k Kind) bool {
	return s.Result == Failure && k != Readiness || s.Result == Success && k == Startup
}

// Period is the time from one probe to the next.
func Period(p *v1.Probe) time.Duration {
	return time.Duration(max(p.PeriodSeconds, 1)) * time.Second
}

// Timeout is how long a probe may take.
func Timeout(p *v1.Probe) time.Duration {
	return time.Duration(max(p.TimeoutSeconds, 1)) * time.Second
}

// First is when to probe a container first that this daemon did not probe
// before. Where nobody waits for the answer, the time is anywhere in the first
// period after now, as chance (from 0 to 1) has it: pods that were started
// together, or found by a daemon that was restarted, are not probed together.
func First(k Kind, p *v1.Probe, s State, started, now time.Time, chance float64) time.Time {
	due := started.Add(time.Duration(p.InitialDelaySeconds) * time.Second)
	if due.Before(now) {
		due = now
	}
	if k == Liveness || s.Result != Unknown {
		due = due.Add(time.Duration(chance * float64(Period(p))))
	}
	return due
}

// Next is when to probe again after the probe that was due then. One that took
// longer than its period is followed by the next at once, and those that were
// missed are not made up for.
func Next(p *v1.Probe, due, now time.Time) time.Time {
	next := due.Add(Period(p))
	if late := now.Sub(next); late > 0 {
		next = next.Add(late.Truncate(Period(p)))
	}
	if next.Before(now) {
		return now
	}
	return next
}
