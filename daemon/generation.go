package daemon

import (
	"bytes"
	"encoding/json"
	"maps"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/manifests"
)

// generation is that of a claim: an edit of anything but metadata counts on from
// the object's, whoever edited it before.
func (d *Daemon) generation(key manifests.Key, old, claim record.Claim) int64 {
	now := max(old.Generation, 1)
	if o, ok := d.view.Get(key); ok {
		now = max(now, o.GetGeneration())
	}
	if old.Declared == nil || !bytes.Equal(old.Declared, claim.Declared) && !sameButMetadata(old.Declared, claim.Declared) {
		if old.Declared != nil {
			now++
		}
	}
	return now
}

// sameButMetadata compares two objects as they were declared, which is in
// canonical form.
func sameButMetadata(a, b json.RawMessage) bool {
	var x, y map[string]json.RawMessage
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	delete(x, "metadata")
	delete(y, "metadata")
	return maps.EqualFunc(x, y, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })
}
