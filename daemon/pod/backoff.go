package pod

import "time"

// The kubelet's crash-loop and image-pull back-off (pkg/kubelet/kubelet.go:
// backOffPeriod, MaxCrashLoopBackOff): 10 s, doubling, at most 5 min, forgotten
// after a run of twice the maximum.
const (
	firstBackoff = 10 * time.Second
	maxBackoff   = 5 * time.Minute
	forgetAfter  = 2 * maxBackoff
)

// delay is the wait after that many failures in a row.
func delay(tries int) time.Duration {
	if tries <= 0 {
		return 0
	}
	return min(firstBackoff<<min(tries-1, 10), maxBackoff)
}

// Backoff is how often a container was restarted in short order. The zero
// value is a container that has not been restarted.
type Backoff struct {
	Tries int       // restarts that count
	At    time.Time // of the newest
}

// Until is when a container that exited may start again. The first restart is
// at once, as the kubelet's is.
func (b Backoff) Until(exited time.Time) time.Time {
	if b.Tries == 0 || exited.Sub(b.At) > forgetAfter {
		return exited
	}
	return exited.Add(delay(b.Tries))
}

// Restarted is the back-off after a restart at now of what exited then.
func (b Backoff) Restarted(exited, now time.Time) Backoff {
	if exited.Sub(b.At) > forgetAfter {
		b.Tries = 0
	}
	return Backoff{Tries: b.Tries + 1, At: now}
}
