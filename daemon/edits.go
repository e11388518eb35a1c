package daemon

import (
	"bytes"
	"fmt"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/manifests"
)

// refuseEdits finds the objects whose files were edited in a way that Kubernetes
// allows in no update (an immutable ConfigMap's data, a Deployment's selector, a
// Secret's type) and notes that as problems of the file. What is in force,
// whichever node declares it, stays so, as with any other file that is wrong.
// Pods are not among them: they are replaced. Nor is what would not be in force
// anyway, since another node's edit is newer.
func (d *Daemon) refuseEdits() {
	for _, o := range d.inForce() {
		if o.Key.GroupKind() == podKind || d.isClaimed(o) {
			continue
		}
		claims := d.claimsOn(o.Key)
		node, now := record.Winner(claims)
		if node == "" || bytes.Equal(now.Declared, o.Declared) {
			continue
		}
		if wins, _ := record.Winner(with(claims, d.Config.Node, d.claim(o, claims))); wins != d.Config.Node {
			continue
		}
		before, err := manifests.FromDeclared(now.Declared)
		if err != nil {
			continue // an older version's: nothing to hold the new one against
		}
		stays := fmt.Sprintf("what was declared before stays in force (to replace the %s, take it out of the file, and put it back when it is gone)", o.Key.Kind)
		if node != d.Config.Node {
			stays = fmt.Sprintf("what %s on node %s declares stays in force (to replace the %s, take it out of all files, and put it back when it is gone)",
				now.File, node, o.Key.Kind)
		}
		for _, e := range manifests.ValidateUpdate(o.Value, before) {
			d.refused[o.Key] = e.Error()
			d.problem(manifests.Problem{Pos: o.Pos, Field: e.Field, Message: e.ErrorBody() + "; " + stays})
		}
	}
}
