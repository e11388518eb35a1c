package daemon

import (
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/manifests"
)

// static is what /etc/shoal/static-pods holds: pods of this host alone. They
// are no claims, so no other host takes them for its own; that they run here is
// a decision like any other, by which everybody sees them.
type static struct {
	set     manifests.Set
	pods    map[manifests.Key]staticPod
	refused map[manifests.Key]string // what no static pod can be, by its key as declared, and why
}

type staticPod struct {
	hash string
	pos  manifests.Position
}

// staticMeta is where the store keeps the last good versions of the files.
const staticMeta = "static-pods"

// openStatic makes the reader of static pods.
func (d *Daemon) openStatic() *manifests.Reader {
	d.static.pods = make(map[manifests.Key]staticPod)
	r := manifests.NewReader([]manifests.Source{manifests.StaticPods(d.Root)})
	text := d.store.Meta(staticMeta)
	if text == "" {
		return r
	}
	var memory manifests.Memory
	err := json.Unmarshal([]byte(text), &memory)
	if err == nil {
		err = r.Restore(memory)
	}
	if err != nil {
		d.Log.Error("some last good versions of static pods are lost", "err", err)
	}
	return r
}

// acceptStatic makes these the node's static pods, and says which pods that is
// about.
func (d *Daemon) acceptStatic(set manifests.Set) (changed []manifests.Key) {
	before := d.static.set
	found := make(map[manifests.Key]bool)
	set.Files = slices.Clone(set.Files)
	d.static.refused = make(map[manifests.Key]string)
	for _, c := range set.Claims {
		p, err := manifests.StaticPod(c.Object, d.Config.Node)
		if err != nil {
			d.static.refused[c.Key] = err.Error()
			set.AddProblem(manifests.Problem{Pos: c.Pos, Message: err.Error()})
			continue
		}
		key := podKey(p)
		found[key] = true
		now := staticPod{hash: p.Annotations[manifests.AnnotationConfigHash], pos: c.Pos}
		if old, known := d.static.pods[key]; !known || old.hash != now.hash {
			controller := true
			about := d.nodeReference()
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: about.Name, UID: about.UID, Controller: &controller}}
			d.declared[key] = p
			changed = append(changed, key)
		}
		d.static.pods[key] = now
		delete(d.missing, staticMeta+" "+key.String())
	}
	d.static.set = set
	for key := range d.static.pods {
		if !found[key] && d.goneForGood(staticMeta+" "+key.String()) {
			delete(d.static.pods, key)
			delete(d.declared, key)
			changed = append(changed, key)
		}
	}
	d.reportNew(before, set)
	if m := set.Memory(); fmt.Sprint(m) != fmt.Sprint(before.Memory()) {
		if data, err := json.Marshal(m); err == nil {
			d.store.SaveMeta(staticMeta, string(data))
		} else {
			d.Log.Error("can't save the last good versions of files", "err", err)
		}
	}
	return changed
}

// refuseStatic is why the API changes and deletes no static pod.
func (d *Daemon) refuseStatic(key manifests.Key) error {
	if s, ok := d.static.pods[key]; ok {
		return forbidden(key, fmt.Sprintf("it is a static pod of node %s: edit or remove %s there", d.Config.Node, s.pos.File))
	}
	return nil
}

// staticList is the files of static pods as shoal manifests shows them.
func (d *Daemon) staticList() []api.ManifestSource {
	winners := make(map[manifests.Key]manifests.Position)
	for _, c := range d.static.set.Claims {
		winners[c.Key] = c.Pos
	}
	return manifestList(d.static.set, winners, d.static.refused, func(manifests.Key) string { return "" }).Sources
}
