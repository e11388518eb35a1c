package daemon

import (
	"bytes"
	"encoding/json"
	"maps"
	"time"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/manifests"
)

// declaration is an object that this node's files put in force here.
type declaration struct {
	manifests.Object
	modified  time.Time // of its file
	written   bool      // by the API; no other file here declares the object
	overrides string    // the content of another node's file that the API wrote it over (record.ContentHash)
	filed     string    // the file here that the API wrote it over
}

// claimsOn is what all nodes claim of an object. A claim that can't be read (a
// newer version's) is passed over.
func (d *Daemon) claimsOn(key manifests.Key) map[string]record.Claim {
	claims := make(map[string]record.Claim)
	name := claimName(key)
	values := make(map[string]json.RawMessage)
	d.records.Read(func(records map[string]*record.Record) {
		for node, r := range records {
			if value := r.Entries[name].Value; value != nil {
				values[node] = value
			}
		}
	})
	for node, value := range values {
		c, err := d.readClaim(key, value)
		if err != nil {
			d.Log.Error("can't read a claim", "key", name.Key, "node", node, "err", err)
			continue
		}
		claims[node] = c
	}
	return claims
}

func claimName(key manifests.Key) record.Name {
	return record.Name{Section: record.Claims, Key: key.String()}
}

// claim is what this node claims of an object that its files declare, given all
// nodes' claims of it. What the API has just written here is an edit of now; of
// all else docs/fleet.md, "Edits", tells.
func (d *Daemon) claim(o declaration, claims map[string]record.Claim) record.Claim {
	old := claims[d.Config.Node]
	c := record.Claim{
		Declared: o.Declared, File: o.Pos.File, Line: o.Pos.Line, Written: o.written, Overrides: o.overrides, Filed: o.filed,
		Edited: old.Edited, History: old.History,
	}
	if stillDeleted(claims, d.Config.Node, old.Deleted) {
		c.Deleted = old.Deleted
	}
	made := d.made[o.Key]
	if made && bytes.Equal(old.Declared, c.Declared) {
		node, _ := record.Winner(claims)
		made = node != d.Config.Node // else it is in force as it is
	}
	if made || !bytes.Equal(old.Declared, c.Declared) {
		e := record.NewEdit(c.Declared, d.Config.Node, claims, record.Seen{
			Now: d.clock.Now(), Joining: d.joining && !made, Modified: o.modified, Made: made,
		})
		c.Edited, c.History = e.Stamp, record.History(e, claims)
	}
	born := record.Born(claims)
	if born == 0 {
		born = d.clock.Now()
	}
	c = c.BornAt(born, old)
	c.Generation = d.generation(o.Key, c, claims)
	return c
}

// generation is that of a claim: an edit of anything but metadata counts on from
// the object's, whoever edited it before.
func (d *Daemon) generation(key manifests.Key, c record.Claim, claims map[string]record.Claim) int64 {
	before, was := record.Winner(claims)
	if before == "" {
		return 1
	}
	next := with(claims, d.Config.Node, c)
	_, wins := record.Winner(next)
	if !record.SameButMetadata(wins.Declared, c.Declared) { // it is not in force
		if old := claims[d.Config.Node]; record.SameButMetadata(old.Declared, c.Declared) {
			return old.Generation // and was
		}
		return 0
	}
	now := max(record.Generation(claims), d.raised[key])
	if o, ok := d.view.Get(key); ok {
		now = max(now, o.GetGeneration())
	}
	if !record.SameButMetadata(was.Declared, c.Declared) {
		now++
	}
	return now
}

func with(claims map[string]record.Claim, node string, c record.Claim) map[string]record.Claim {
	next := maps.Clone(claims)
	next[node] = c
	return next
}

// stillDeleted says whether another node's file has what was deleted then.
func stillDeleted(claims map[string]record.Claim, node string, deleted record.Stamp) bool {
	for n, c := range claims {
		if n != node && c.Written && c.Declared != nil && c.Edited <= deleted {
			return true
		}
	}
	return false
}

// isDeletion says whether this node's claim under a name declares nothing and
// only tells other nodes that what the API wrote there is deleted.
func (d *Daemon) isDeletion(name record.Name) bool {
	key, err := manifests.ParseKey(name.Key)
	if err != nil {
		return false
	}
	c, err := d.readClaim(key, d.own(name))
	return err == nil && c.Declared == nil
}

// withdrawn is what is left of a claim whose file is gone: nothing, or what
// other nodes are yet to hear of.
func (d *Daemon) withdrawn(name record.Name) json.RawMessage {
	delete(d.stale, name.Key)
	key, err := manifests.ParseKey(name.Key)
	if err != nil {
		return nil
	}
	claims := d.claimsOn(key)
	c := claims[d.Config.Node]
	deleted := stillDeleted(claims, d.Config.Node, c.Deleted)
	if c.Declared != nil && !c.Written {
		d.stillDeclared(key, claims)
	}
	if !deleted {
		return nil
	}
	left, err := d.claimValue(key, record.Claim{Deleted: c.Deleted, History: c.History})
	if err != nil {
		d.Log.Error("can't write a claim", "key", name.Key, "err", err)
	}
	return left
}

// endElsewhere has other nodes drop what the API wrote of an object there. Those
// that can't be reached do so when they hear of it; it counts for nothing until
// then.
func (d *Daemon) endElsewhere(key manifests.Key) {
	claims := d.claimsOn(key)
	own := record.Deletion(d.Config.Node, claims, d.clock.Now())
	if !stillDeleted(claims, d.Config.Node, own.Deleted) {
		return
	}
	value, err := d.claimValue(key, own)
	if err != nil {
		d.Log.Error("can't write a claim", "key", key.String(), "err", err)
		return
	}
	d.publish(map[record.Name]json.RawMessage{claimName(key): value})
}
