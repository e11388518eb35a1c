package daemon

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"time"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// annotationOverrides marks an object that the API wrote over one that a file
// declares: the SHA-256 of what the file declared then. The API's copy is in
// force as long as the file says just that; an edit of the file wins, and
// without the file there is nothing to override. The file is this node's, if
// one here declares the object, or else another node's.
const annotationOverrides = "shoal.io/overrides"

// digest names what a file declares. record.ContentHash is its beginning.
func digest(declared []byte) string {
	sum := sha256.Sum256(declared)
	return hex.EncodeToString(sum[:])
}

// person is a file of people's, not the API's, that declares an object.
type person struct {
	node, file string
	declared   []byte
}

func (p person) String() string { return p.file + " on node " + p.node }

// overridden is the file of people's that declares this object: this node's, or
// else the one of another node that would be in force without the API's.
func (d *Daemon) overridden(key manifests.Key) (person, bool) {
	for _, c := range d.set.Claims {
		if c.Key == key && c.Pos.File != d.apiFile(key) {
			return person{d.Config.Node, c.Pos.File, c.Declared}, true
		}
	}
	return d.elsewhere(key)
}

// elsewhere is the file of people's on another node that declares this object.
func (d *Daemon) elsewhere(key manifests.Key) (person, bool) {
	claims := d.claimsOn(key)
	maps.DeleteFunc(claims, func(node string, c record.Claim) bool { return node == d.Config.Node || c.Written })
	node, c := record.Winner(claims)
	return person{node, cmp.Or(c.Filed, c.File), c.Declared}, node != ""
}

// override marks obj as written over what a file declares.
func override(obj view.Object, declared []byte) {
	annotations := obj.GetAnnotations()
	if annotations == nil {
		annotations = make(map[string]string)
	}
	annotations[annotationOverrides] = digest(declared)
	obj.SetAnnotations(annotations)
}

// inForce are the objects of all files of this node that count here, one for
// each key.
func (d *Daemon) inForce() []declaration {
	objects := make([]declaration, 0, len(d.set.Claims))
	for _, c := range d.set.Claims {
		o := declaration{Object: c.Object, modified: c.ModTime, written: c.Pos.File == d.apiFile(c.Key)}
		if of := overrides(c.Object); o.written && of != "" {
			if !d.isSaidElsewhere(c.Key, of) {
				continue // the file that it was written over is gone
			}
			o.overrides = of[:len(record.ContentHash(nil))]
		}
		for _, p := range c.Shadowed {
			if copied, modified, ok := d.at(p); ok && p.File == d.apiFile(c.Key) && overrides(copied) == digest(c.Declared) {
				o = declaration{Object: copied, modified: modified, filed: c.Pos.File}
			}
		}
		objects = append(objects, o)
	}
	return objects
}

// superseded are the objects of which the API wrote a copy over what no file
// says any more: it was edited, or is gone.
func (d *Daemon) superseded() (keys []manifests.Key) {
	for _, c := range d.set.Claims {
		if of := overrides(c.Object); of != "" && c.Pos.File == d.apiFile(c.Key) && !d.isSaidElsewhere(c.Key, of) {
			keys = append(keys, c.Key)
		}
		for _, p := range c.Shadowed {
			if p.File != d.apiFile(c.Key) {
				continue
			}
			if copied, _, ok := d.at(p); ok && overrides(copied) != "" && overrides(copied) != digest(c.Declared) {
				keys = append(keys, c.Key)
			}
		}
	}
	return keys
}

// dropSuperseded removes the API's copies that have been superseded for a while:
// the same content in a file again would bring them back else.
func (d *Daemon) dropSuperseded() {
	before := d.superseding
	d.superseding = make(map[manifests.Key]time.Time)
	for _, key := range d.superseded() {
		since, known := before[key]
		switch {
		case !known || d.joining || d.set.Unsettled:
			d.superseding[key] = d.Now()
		case d.Now().Sub(since) < staleAfter:
			d.superseding[key] = since
		default:
			d.Log.Info("what the API wrote over a file that was edited since is removed", "key", key.String(), "file", d.apiFile(key))
			d.removeFile(key)
		}
	}
}

// isSaidElsewhere says whether a file of people's on another node declares what
// has this digest.
func (d *Daemon) isSaidElsewhere(key manifests.Key, of string) bool {
	for node, c := range d.claimsOn(key) {
		if node != d.Config.Node && !c.Written && c.Declared != nil && digest(c.Declared) == of {
			return true
		}
	}
	return false
}

// overrides is an object's annotation, "" without one.
func overrides(o manifests.Object) string {
	if meta, ok := o.Value.(view.Object); ok {
		return meta.GetAnnotations()[annotationOverrides]
	}
	return ""
}

// at is the object that stands at a position, and when its file was edited.
func (d *Daemon) at(p manifests.Position) (manifests.Object, time.Time, bool) {
	for _, f := range d.set.Files {
		if f.Path != p.File {
			continue
		}
		for _, o := range f.Objects {
			if o.Pos == p {
				return o, f.ModTime, true
			}
		}
	}
	return manifests.Object{}, time.Time{}, false
}
