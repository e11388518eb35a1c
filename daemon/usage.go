package daemon

import (
	"github.com/shoal-project/shoal/daemon/scope"
	"github.com/shoal-project/shoal/daemon/stats"
	"github.com/shoal-project/shoal/storage/volume"
)

// newMeter makes what measures this host and its pods.
func (d *Daemon) newMeter() *stats.Meter {
	tree := scope.TreeOf(d.host.scopes)
	return stats.NewMeter(stats.Config{
		Pods:       d.agent.Measured,
		PodsCgroup: tree.Dir, PodsCgroupPath: tree.Path, CgroupV1: tree.V1,
		RootDir: d.path("var/lib/shoal"), ImageDir: d.path("var/lib/shoal/oci"),
		DiskUsage: volume.Usage, Now: d.Now, Log: d.Log,
	})
}
