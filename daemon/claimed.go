package daemon

import (
	"encoding/json"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/manifests"
)

// claimed is which object of a file each claim in the record was made from. A
// look at files that nobody edited, of which there is one every 30 s, then
// neither reads nor writes the claims' JSON.
type claimed map[manifests.Key]source

type source struct {
	declared   []byte
	pos        manifests.Position
	value      json.RawMessage
	generation int64
}

// has says that value is the claim of just this object. It may say no of what
// is: the reader keeps what it read of a file until that is edited, so bytes
// are compared by where they are.
func (c claimed) has(o manifests.Object, value json.RawMessage) bool {
	s, ok := c[o.Key]
	return ok && s.pos == o.Pos && alike(s.declared, o.Declared) && alike(s.value, value)
}

func (c claimed) put(o manifests.Object, value json.RawMessage, generation int64) {
	c[o.Key] = source{o.Declared, o.Pos, value, generation}
}

// isClaimed says whether the record has the claim that this object of a file
// makes, with all that follows from it.
func (d *Daemon) isClaimed(o declaration) bool {
	if d.made[o.Key] || !d.claimed.has(o.Object, d.own(claimName(o.Key))) {
		return false
	}
	if _, isPod := o.Value.(*v1.Pod); isPod && d.declared[o.Key] == nil {
		return false
	}
	seen, ok := d.view.Get(o.Key)
	return ok && seen.GetGeneration() <= d.claimed[o.Key].generation
}

// keep forgets all but the claims of these keys' texts.
func (c claimed) keep(texts map[string]bool) {
	for key := range c {
		if !texts[key.String()] {
			delete(c, key)
		}
	}
}

// alike says whether two slices are one.
func alike(a, b []byte) bool {
	return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0]
}
