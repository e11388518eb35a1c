package config

import "strconv"

// Lease is how this host takes part in exclusive work: pods that must never run
// twice (docs/lease.md).
type Lease struct {
	// Port is for TCP, between the hosts' lease processes; default 7948.
	Port int `toml:"port"`
	// BootstrapExpect is the number of all hosts of a cluster that begins, all of
	// which have join; default 0: none begins by itself.
	BootstrapExpect int `toml:"bootstrap_expect"`
	// Always has the lease process run though the host is by itself and has no
	// exclusive pod.
	Always bool `toml:"always"`
	// OnlyWitness is that this host runs no pods.
	OnlyWitness bool `toml:"only_witness"`
}

func (l *Lease) setDefaults() {
	if l.Port == 0 {
		l.Port = 7948
	}
}

func (l *Lease) validate(c *Cluster, bad complain) {
	switch {
	case l.Port < 1 || l.Port > 65535:
		bad("lease.port", strconv.Itoa(l.Port), "want 1 to 65535")
	case l.Port == c.GossipPort || l.Port == c.PeerPort:
		bad("lease.port", strconv.Itoa(l.Port), "want another port than cluster.gossip_port and cluster.peer_port: all use TCP")
	}
	if l.BootstrapExpect < 0 || l.BootstrapExpect > 1000 {
		bad("lease.bootstrap_expect", strconv.Itoa(l.BootstrapExpect), "want the number of all hosts of the cluster, or 0")
	}
}

// RunNoPods makes this host one that is a witness alone.
func (c *Config) RunNoPods() { c.Lease.OnlyWitness, c.Runtime.MaxPods = true, 0 }
