package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/shoal-project/shoal/daemon/shutdown"
)

// Shutdown is how long pods may take to end when the host shuts down. The zero
// value leaves them to systemd.
type Shutdown struct {
	// GracePeriod is how long all pods together may take; default 0, as the
	// kubelet's shutdownGracePeriod.
	GracePeriod time.Duration `toml:"grace_period"`
	// CriticalGracePeriod is the last part of it, which critical pods have; default
	// 0, as the kubelet's shutdownGracePeriodCriticalPods.
	CriticalGracePeriod time.Duration `toml:"critical_grace_period"`
	// ByPriority is, instead of both, how long the pods from a priority on may
	// take, the kubelet's shutdownGracePeriodByPodPriority.
	ByPriority map[string]time.Duration `toml:"by_priority"`

	Periods []shutdown.Period `toml:"-"` // all of the above, in order
}

func (s *Shutdown) validate(bad complain) {
	whole := func(key string, d time.Duration) {
		if d < 0 || d > 0 && d < time.Second {
			bad(key, d.String(), `want a duration of a second or more such as "30s", or "0s"`)
		}
	}
	whole("shutdown.grace_period", s.GracePeriod)
	whole("shutdown.critical_grace_period", s.CriticalGracePeriod)
	if s.CriticalGracePeriod > s.GracePeriod {
		bad("shutdown.critical_grace_period", s.CriticalGracePeriod.String(), "it is a part of grace_period, which is %s", s.GracePeriod)
	}
	if len(s.ByPriority) > 0 && s.GracePeriod > 0 {
		bad("shutdown.by_priority", fmt.Sprint(s.ByPriority), "want this or grace_period, not both")
	}
	s.Periods = shutdown.Split(s.GracePeriod, s.CriticalGracePeriod)
	for _, key := range slices.Sorted(maps.Keys(s.ByPriority)) {
		n, err := strconv.ParseInt(key, 10, 32)
		if err != nil || strconv.FormatInt(n, 10) != key { // "+5" and "05" would be other keys for the same
			bad("shutdown.by_priority", key, "want a priority from -2147483648 to 2147483647")
		}
		whole(fmt.Sprintf("shutdown.by_priority.%q", key), s.ByPriority[key])
		s.Periods = append(s.Periods, shutdown.Period{Priority: int32(n), Grace: s.ByPriority[key]})
	}
	s.Periods = shutdown.Sorted(s.Periods)
}
