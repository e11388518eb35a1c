package daemon

import (
	"bytes"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/shoal-project/shoal/daemon/cluster"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// claiming is what the daemon knows of its claims beside the record.
type claiming struct {
	ring    cluster.Keyring         // what Secrets are sealed with; none: they are not
	joining bool                    // the files were not looked at in this run: when they were edited, nobody saw
	made    map[manifests.Key]bool  // what the API is writing
	raised  map[manifests.Key]int64 // the generation that an object needs, as another node's content is in force no more
	stale   map[string]*staleClaim  // by the key's text

	superseding map[manifests.Key]time.Time // API's copies that count no more, and since when
}

func newClaiming() claiming {
	return claiming{joining: true, made: make(map[manifests.Key]bool), stale: make(map[string]*staleClaim)}
}

// staleClaim is one of this node's that another node's newer edit overrules.
type staleClaim struct {
	key   manifests.Key
	since time.Time
	told  bool
}

// reasonStale is the event on an object of which this node's file says something
// older than what is in force.
const reasonStale = "StaleManifest"

// staleAfter is how long a file is stale before an event says so: the same file
// is copied to one host after another.
const staleAfter = 2 * time.Minute

// noteStale follows which of this node's claims are overruled.
func (d *Daemon) noteStale(key manifests.Key, claims map[string]record.Claim) {
	text := key.String()
	if _, is := overruling(claims, d.Config.Node); !is {
		delete(d.stale, text)
	} else if d.stale[text] == nil {
		d.stale[text] = &staleClaim{key: key, since: d.Now()}
	}
}

// overruling is the node whose claim is in force in place of this node's.
func overruling(claims map[string]record.Claim, own string) (node string, is bool) {
	node, c := record.Winner(claims)
	return node, node != "" && node != own && !bytes.Equal(c.Declared, claims[own].Declared)
}

// reportStale says of files that have been stale for a while which newer one wins.
func (d *Daemon) reportStale() {
	for text, s := range d.stale {
		if s.told || d.Now().Sub(s.since) < staleAfter {
			continue
		}
		claims := d.claimsOn(s.key)
		node, is := overruling(claims, d.Config.Node)
		o, exists := d.view.Get(s.key)
		if !is {
			delete(d.stale, text)
		}
		if !is || !exists {
			continue
		}
		s.told = true
		d.events.Warning(objectReference(o), reasonStale, "%s on node %s is not in force: %s", claims[d.Config.Node].File, d.Config.Node,
			newerEdit(node, claims[node]))
	}
}

func newerEdit(node string, c record.Claim) string {
	return fmt.Sprintf("a newer edit on node %s: %s wins", node, c.File)
}

// overruled says which node's newer edit is in force in place of this node's
// claim, "" if none is.
func (d *Daemon) overruled(key manifests.Key) string {
	claims := d.claimsOn(key)
	if node, is := overruling(claims, d.Config.Node); is && claims[d.Config.Node].Declared != nil {
		return newerEdit(node, claims[node])
	}
	return ""
}

// heard is told of objects of which other nodes claim something else than
// before, while the view is still of before. What this node claims of them may
// have to follow: since when the object exists, its generation, what was
// deleted or is refused.
func (d *Daemon) heard(keys []manifests.Key) {
	again := false
	for _, key := range keys {
		delete(d.claimed, key)
		claims := d.claimsOn(key)
		own, mine := claims[d.Config.Node]
		again = again || mine || d.refused[key] != ""
		if mine {
			d.noteStale(key, claims)
			d.raise(key, own, claims)
		}
	}
	if again {
		d.rescan()
	}
}

// raise has this node's claim, which is in force from here on, count as a new
// generation of the object: whoever said what was in force before does so no
// more, and its generations went with it.
func (d *Daemon) raise(key manifests.Key, own record.Claim, claims map[string]record.Claim) {
	old, ok := d.view.Get(key)
	_, now := record.Winner(claims)
	if !ok || key.GroupKind() == podKind || !bytes.Equal(own.Declared, now.Declared) || record.Generation(claims) > old.GetGeneration() {
		return
	}
	o, err := view.Declared(key, claims)
	if err != nil || o == nil || o.GetUID() != old.GetUID() || sameButStatus(o, old) {
		return
	}
	if d.raised == nil {
		d.raised = make(map[manifests.Key]int64)
	}
	d.raised[key] = old.GetGeneration() + 1
}

// sameButStatus compares two objects of one kind as they are declared: neither
// by their metadata nor by their status.
func sameButStatus(a, b view.Object) bool {
	declared := func(o view.Object) map[string]any {
		m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return nil
		}
		delete(m, "metadata")
		delete(m, "status")
		return m
	}
	return equality.Semantic.DeepEqual(declared(a), declared(b))
}

// stillDeclared says of an object whose file was removed here that it lives on.
func (d *Daemon) stillDeclared(key manifests.Key, claims map[string]record.Claim) {
	own := claims[d.Config.Node]
	delete(claims, d.Config.Node)
	node, c := record.Winner(claims)
	o, exists := d.view.Get(key)
	if node == "" || !exists {
		return
	}
	d.events.Normal(objectReference(o), "StillDeclared", "%s on node %s no longer declares it; still declared by %s: %s", own.File, d.Config.Node, node, c.File)
}
