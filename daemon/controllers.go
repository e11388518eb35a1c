package daemon

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// looks are the objects whose controllers are to look again, now or later.
type looks struct {
	now      map[manifests.Key]bool
	later    map[manifests.Key]time.Time
	timer    *time.Timer
	orphaned map[manifests.Key]types.UID // what is being deleted without what it owns: its controller has ended
}

func newLooks() looks {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return looks{
		now: make(map[manifests.Key]bool), later: make(map[manifests.Key]time.Time), timer: t,
		orphaned: make(map[manifests.Key]types.UID),
	}
}

// look has the controllers of these objects look again.
func (d *Daemon) look(keys ...manifests.Key) {
	for _, key := range keys {
		d.looks.now[key] = true
	}
}

// next is the object to look at first (see workload.Reconciled), and one of the
// first by name, so that runs are alike.
func (l *looks) next() (next manifests.Key, ok bool) {
	first := 0
	for key := range l.now {
		order, is := workload.Reconciled(key.GroupKind())
		if !is {
			delete(l.now, key)
			continue
		}
		if !ok || order < first || order == first && key.String() < next.String() {
			next, first, ok = key, order, true
		}
	}
	delete(l.now, next)
	return next, ok
}

// maxLooks is how many looks one round may take. Controllers come to rest after
// a few for each object; one that does not must not keep the loop from all else.
const maxLooks = 10000

// reconcile has controllers decide until none wants anything more, and the agent
// follow.
func (d *Daemon) reconcile() {
	now := d.Now()
	for key, at := range d.looks.later {
		if !at.After(now) {
			delete(d.looks.later, key)
			d.look(key)
		}
	}
	d.followMembers()
	d.lookAtNodes()
	d.decideDeclared()
	if again := d.waiting.again; !again.IsZero() && !again.After(now) {
		d.waiting.look = true
	}
	pods := false
	for n := 0; ; n++ {
		key, ok := d.looks.next()
		if !ok {
			break
		}
		if n == maxLooks {
			d.Log.Error("controllers don't come to rest: they go on in a second", "key", key.String())
			d.looks.later[key] = now.Add(time.Second)
			for key := range d.looks.now {
				d.looks.later[key] = now.Add(time.Second)
			}
			clear(d.looks.now)
			break
		}
		pods = d.reconcileOne(key) || pods
		if len(d.looks.now) == 0 && d.waiting.look {
			pods = d.placePods() || pods
		}
	}
	if d.waiting.look {
		pods = d.placePods() || pods
	}
	if pods {
		d.runPods()
	}
	d.followServices()
	d.setAlarm()
}

// setAlarm wakes the loop when the first of the later looks is due.
func (d *Daemon) setAlarm() {
	var first time.Time
	for _, at := range d.looks.later {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	for _, again := range []time.Time{d.waiting.again, d.nodes.again} {
		if !again.IsZero() && (first.IsZero() || again.Before(first)) {
			first = again
		}
	}
	d.looks.timer.Stop()
	if !first.IsZero() {
		d.looks.timer.Reset(max(first.Sub(d.Now()), 0))
	}
}

// reconcileOne carries out what one object's controller decides, and says
// whether that was about pods.
func (d *Daemon) reconcileOne(key manifests.Key) (pods bool) {
	delete(d.looks.later, key)
	if uid, ending := d.looks.orphaned[key]; ending {
		if o, ok := d.view.Get(key); ok && o.GetUID() == uid {
			return false
		}
		delete(d.looks.orphaned, key)
	}
	o, exists := d.view.Get(key)
	if !exists {
		d.publish(map[record.Name]json.RawMessage{{Section: record.Status, Key: key.String()}: nil})
		return false
	}
	if p, is := o.(*v1.Pod); is {
		d.tidyStatus(key, p)
	}
	if !d.decides(key) {
		return false
	}
	if d.mayHaveOwner(key, o) {
		d.looks.later[key] = d.Now().Add(time.Second)
		return false
	}
	if p, is := o.(*v1.Pod); is && d.tryElsewhere(key, p) {
		return true
	}
	out := workload.Reconcile(key, d.controllersSee(d.Now()))
	if !out.Again.IsZero() {
		d.looks.later[key] = out.Again
	}
	values := make(map[record.Name]json.RawMessage)
	for _, c := range out.Changes {
		pods = d.carryOut(values, c) || pods
	}
	d.publish(values)
	d.replaceLost(out.Changes)
	for _, e := range out.Events {
		about := objectReference(e.About)
		if e.Type == v1.EventTypeWarning {
			d.events.Warning(about, e.Reason, "%s", e.Message)
		} else {
			d.events.Normal(about, e.Reason, "%s", e.Message)
		}
	}
	return pods
}

// controllersSee is what controllers look at.
func (d *Daemon) controllersSee(now time.Time) workload.Cluster {
	return workload.Cluster{
		Objects: d.view, Now: now, Chance: uint64(d.clock.Now()),
		UID:      func(key manifests.Key) types.UID { return view.UID(key, d.clock.Now()) },
		Filed:    func(key manifests.Key) bool { return d.declarations.filed[key] },
		Former:   func(key manifests.Key) []types.UID { return d.declarations.former[key] },
		Gone:     d.isGone,
		Bound:    d.isDeclaredThere,
		Back:     d.nodes.back,
		Services: d.servicesSee(),
		Admit: func(p *v1.Pod) error {
			if why := d.lacksAccount(p); why != "" {
				return forbidden(podKey(p), why)
			}
			if why := lacksRuntimeClass(p, d.runtimeClass); why != "" {
				return forbidden(podKey(p), why)
			}
			if err := d.prioritize(p); err != nil {
				return forbidden(podKey(p), err.Error())
			}
			d.tolerateLoss(p)
			if v := d.verdictOn(p, nil); v.Refused != "" {
				return forbidden(podKey(p), v.Refused)
			}
			return nil
		},
	}
}

// carryOut puts one change into values.
func (d *Daemon) carryOut(values map[record.Name]json.RawMessage, c workload.Change) (pods bool) {
	key, err := manifests.KeyOf(c.Object)
	if err == nil && c.Given != nil {
		var value json.RawMessage
		if value, err = view.ServiceValue(c.Object.(*v1.Service), *c.Given); err == nil {
			err = d.tell(values, key, c.Object.GetUID(), value)
		}
	} else if err == nil && c.Verb == workload.Status {
		err = d.putStatus(values, key, c.Object)
	} else if p, ok := c.Object.(*v1.Pod); ok && err == nil {
		old := p
		if o, had := d.view.Get(key); had {
			old = o.(*v1.Pod)
		}
		dec := workload.Decision{Verb: c.Verb, Key: key, Pod: p}
		d.reportDecision(dec, old)
		d.decided(values, dec)
		if c.Verb == workload.Delete {
			d.dropFile(key)
		}
		return true
	} else if err == nil {
		err = d.putDecision(values, key, c)
	}
	if err != nil {
		d.Log.Error("can't write what a controller decided", "key", key.String(), "err", err)
	}
	return false
}

// putDecision is carryOut for what is neither a pod nor a status.
func (d *Daemon) putDecision(values map[record.Name]json.RawMessage, key manifests.Key, c workload.Change) error {
	if c.Verb == workload.Forget {
		values[record.Name{Section: record.Status, Key: key.String()}] = nil
		d.dropFile(key)
		return d.decideOn(values, key, nil)
	}
	o := c.Object.DeepCopyObject().(view.Object)
	if rs, ok := o.(*apps.ReplicaSet); ok {
		rs.Status = apps.ReplicaSetStatus{}
	}
	o.SetResourceVersion("")
	value, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return d.decideOn(values, key, value)
}

func (d *Daemon) putStatus(values map[record.Name]json.RawMessage, key manifests.Key, o view.Object) error {
	var annotations map[string]string
	if r, ok := o.GetAnnotations()[workload.AnnotationRevision]; ok && key.GroupKind() == workload.KindDeployment {
		annotations = map[string]string{workload.AnnotationRevision: r}
	}
	value, err := view.StatusValue(o, annotations)
	if err != nil {
		return err
	}
	return d.tell(values, key, o.GetUID(), value)
}

// dropFile removes the API's file of an object that a controller ends. It was
// the object's declaration before the controller adopted it.
func (d *Daemon) dropFile(key manifests.Key) {
	d.endElsewhere(key)
	if d.own(claimName(key)) != nil {
		d.removeFile(key)
	}
}

// removeFile removes the API's file of an object that is deleted.
func (d *Daemon) removeFile(key manifests.Key) {
	if err := os.Remove(d.apiFile(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.Log.Error("can't remove the file of an object that its controller ended", "key", key.String(), "err", err)
		return
	}
	d.missing[key.String()] = time.Time{}
	d.rescan()
}
