package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/manifests"
)

// refuseEdits finds the objects whose files were edited in a way that Kubernetes
// allows in no update (an immutable ConfigMap's data, a Deployment's selector, a
// Secret's type) and notes that as problems of the file. What was declared before
// stays in force, as with any other file that is wrong. Pods are not among them:
// they are replaced.
func (d *Daemon) refuseEdits() {
	for _, o := range d.inForce() {
		old := d.own(record.Name{Section: record.Claims, Key: o.Key.String()})
		if o.Key.GroupKind() == podKind || old == nil || d.claimed.has(o, old) {
			continue
		}
		var claim record.Claim
		if json.Unmarshal(old, &claim) != nil || bytes.Equal(claim.Declared, o.Declared) {
			continue
		}
		before, err := manifests.FromDeclared(claim.Declared)
		if err != nil {
			continue // an older version's: nothing to hold the new one against
		}
		for _, e := range manifests.ValidateUpdate(o.Value, before) {
			d.refused[o.Key] = e.Error()
			d.problem(manifests.Problem{Pos: o.Pos, Field: e.Field, Message: fmt.Sprintf(
				"%s; what was declared before stays in force (to replace the %s, take it out of the file, and put it back when it is gone)",
				e.ErrorBody(), o.Key.Kind)})
		}
	}
}
