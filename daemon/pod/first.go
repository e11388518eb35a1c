package pod

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// First is which containers of a pod, of which none has run, Decide will start
// as soon as its sandbox is there, if nothing else happens until then.
func First(pod *v1.Pod, seen Observed, now time.Time) []Action {
	for _, c := range seen.Containers {
		if c.Current != nil {
			return nil
		}
	}
	seen.Sandbox, seen.Volumes = Sandbox{Ready: true, Present: true}, Volumes{}
	d := decider{pod: pod, seen: seen, now: now}
	d.decide()
	var starts []Action
	for _, a := range d.do {
		if a.Verb == Start {
			starts = append(starts, a)
		}
	}
	return starts
}
