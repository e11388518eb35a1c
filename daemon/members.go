package daemon

import "github.com/shoal-project/shoal/daemon/steward"

// members are the nodes that this one knows and that were not forgotten, itself
// among them. The list is not to be changed.
func (d *Daemon) members() []steward.Member {
	return []steward.Member{{Name: d.Config.Node, Alive: true, Ready: true}}
}
