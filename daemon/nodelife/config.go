package nodelife

import (
	"fmt"
	"time"
)

// Config is when a node counts as lost and how fast what ran on it goes
// elsewhere: part of shoal.toml's [eviction], by the names that
// kube-controller-manager and the kubelet have for it.
type Config struct {
	// NodeStatusUpdateFrequency is how often a node looks at its own state; it
	// publishes what has changed. That it lives, Serf says.
	NodeStatusUpdateFrequency time.Duration `toml:"node_status_update_frequency"`
	// NodeMonitorPeriod is how often nodes are looked at while one of them is not
	// well, besides the moments at which something is due.
	NodeMonitorPeriod time.Duration `toml:"node_monitor_period"`
	// NodeMonitorGracePeriod is how long after its last sign of life a node that
	// Serf calls failed is Ready=Unknown. The time that Serf took to find out
	// is part of it, so a period shorter than that adds nothing to it.
	NodeMonitorGracePeriod time.Duration `toml:"node_monitor_grace_period"`
	// NodeStartupGracePeriod is the same for a node that has not said yet how it
	// is, and for one that was not seen since this daemon started.
	NodeStartupGracePeriod time.Duration `toml:"node_startup_grace_period"`
	// PodEvictionTimeout is how long pods that say nothing else tolerate that their
	// node is not ready or unreachable; whole seconds, rounded up.
	PodEvictionTimeout time.Duration `toml:"pod_eviction_timeout"`
	// NodeEvictionRate is how many nodes a second are emptied in one zone.
	NodeEvictionRate float64 `toml:"node_eviction_rate"`
	// SecondaryNodeEvictionRate is that of a zone of which a large part is not
	// ready; none is emptied where the zone has no more than
	// LargeClusterSizeThreshold nodes.
	SecondaryNodeEvictionRate float64 `toml:"secondary_node_eviction_rate"`
	// UnhealthyZoneThreshold is which part of a zone (and at least three nodes)
	// is a large part.
	UnhealthyZoneThreshold    float64 `toml:"unhealthy_zone_threshold"`
	LargeClusterSizeThreshold int     `toml:"large_cluster_size_threshold"`
}

// Defaults are kube-controller-manager's and the kubelet's, but for three:
// the grace period is Serf's own (suspicion of up to ten members takes at least
// 4 s), the monitor's period is 1 s for 5, and pods tolerate a lost node for
// 2 s, not for 300. A file that names a key overrides it, be it with zero.
func Defaults() Config {
	return Config{
		NodeStatusUpdateFrequency: 10 * time.Second,
		NodeMonitorPeriod:         time.Second,
		NodeMonitorGracePeriod:    4 * time.Second,
		NodeStartupGracePeriod:    time.Minute,
		PodEvictionTimeout:        2 * time.Second,
		NodeEvictionRate:          0.1,
		SecondaryNodeEvictionRate: 0.01,
		UnhealthyZoneThreshold:    0.55,
		LargeClusterSizeThreshold: 50,
	}
}

// Validate calls bad with each key that makes no sense, what it says and what
// it might say.
func (c Config) Validate(bad func(key, got, want string)) {
	for _, d := range []struct {
		key   string
		value time.Duration
		least time.Duration
	}{
		{"node_status_update_frequency", c.NodeStatusUpdateFrequency, time.Second},
		{"node_monitor_period", c.NodeMonitorPeriod, 100 * time.Millisecond},
		{"node_monitor_grace_period", c.NodeMonitorGracePeriod, 0},
		{"node_startup_grace_period", c.NodeStartupGracePeriod, 0},
		{"pod_eviction_timeout", c.PodEvictionTimeout, 0},
	} {
		if d.value < d.least || d.value > maxPeriod {
			bad("eviction."+d.key, d.value.String(), fmt.Sprintf(`want a duration between "%s" and "%s"`, d.least, maxPeriod))
		}
	}
	for _, r := range []struct {
		key   string
		value float64
		want  string
		most  float64
	}{
		{"node_eviction_rate", c.NodeEvictionRate, "want nodes per second, 0 (none) to 1000", 1000},
		{"secondary_node_eviction_rate", c.SecondaryNodeEvictionRate, "want nodes per second, 0 (none) to 1000", 1000},
		{"unhealthy_zone_threshold", c.UnhealthyZoneThreshold, "want a part of a zone's nodes, 0 to 1", 1},
	} {
		if !(r.value >= 0 && r.value <= r.most) { // NaN is neither
			bad("eviction."+r.key, fmt.Sprint(r.value), r.want)
		}
	}
	if c.LargeClusterSizeThreshold < 0 {
		bad("eviction.large_cluster_size_threshold", fmt.Sprint(c.LargeClusterSizeThreshold), "want a number of nodes, 0 or more")
	}
}

// maxPeriod is the longest that a period may be: who means never, says a year.
const maxPeriod = 365 * 24 * time.Hour
