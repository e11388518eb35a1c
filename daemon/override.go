package daemon

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// annotationOverrides marks an object that the API wrote over one that a file
// declares: the SHA-256 of what the file declared then. The API's copy is in
// force as long as the file says just that; an edit of the file wins, and
// without the file there is nothing to override.
const annotationOverrides = "shoal.io/overrides"

// digest names what a file declares.
func digest(o manifests.Object) string {
	sum := sha256.Sum256(o.Declared)
	return hex.EncodeToString(sum[:])
}

// overridden is the object that a file other than the API's own declares for
// this key, if there is one.
func (d *Daemon) overridden(key manifests.Key) (manifests.Object, bool) {
	for _, c := range d.set.Claims {
		if c.Key == key && c.Pos.File != d.apiFile(key) {
			return c.Object, true
		}
	}
	return manifests.Object{}, false
}

// override marks obj as written over what a file declares.
func override(obj view.Object, declared manifests.Object) {
	annotations := obj.GetAnnotations()
	if annotations == nil {
		annotations = make(map[string]string)
	}
	annotations[annotationOverrides] = digest(declared)
	obj.SetAnnotations(annotations)
}

// inForce are the objects of all files of this node that count, one for each key.
func (d *Daemon) inForce() []manifests.Object {
	var objects []manifests.Object
	for _, c := range d.set.Claims {
		of := overrides(c.Object)
		if c.Pos.File == d.apiFile(c.Key) && of != "" {
			continue // the file that it was written over is gone
		}
		o := c.Object
		for _, p := range c.Shadowed {
			if copied, ok := d.at(p); ok && p.File == d.apiFile(c.Key) && overrides(copied) == digest(c.Object) {
				o = copied
			}
		}
		objects = append(objects, o)
	}
	return objects
}

// overrides is an object's annotation, "" without one.
func overrides(o manifests.Object) string {
	if meta, ok := o.Value.(view.Object); ok {
		return meta.GetAnnotations()[annotationOverrides]
	}
	return ""
}

// at is the object that stands at a position.
func (d *Daemon) at(p manifests.Position) (manifests.Object, bool) {
	for _, f := range d.set.Files {
		if f.Path != p.File {
			continue
		}
		for _, o := range f.Objects {
			if o.Pos == p {
				return o, true
			}
		}
	}
	return manifests.Object{}, false
}
