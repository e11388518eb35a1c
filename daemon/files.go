package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/shoal-project/shoal/daemon/pod"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/shutdown"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

var podKind = schema.GroupKind{Kind: "Pod"}

// reasonNotImplemented is the event on what is accepted and not run yet.
const reasonNotImplemented = "NotImplemented"

// implemented are the kinds that this version acts upon.
var implemented = map[schema.GroupKind]bool{
	{Kind: "Pod"}: true, workload.KindService: true, endpointsKind: true, sliceKind: true, {Kind: "ConfigMap"}: true, {Kind: "Secret"}: true, {Kind: "ServiceAccount"}: true, {Kind: "Namespace"}: true,
	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}: true, workload.KindRuntimeClass: true,
	workload.KindDeployment: true, workload.KindReplicaSet: true, workload.KindDaemonSet: true,
	workload.KindDisruptionBudget: true, workload.KindControllerRevision: true,
}

func podKey(p *v1.Pod) manifests.Key {
	return manifests.Key{Kind: "Pod", Namespace: p.Namespace, Name: p.Name}
}

// accept makes what the files declare this node's claims.
func (d *Daemon) accept(set, static manifests.Set) {
	before := d.set
	changedStatic := d.acceptStatic(static)
	d.set = set
	d.refusePods()
	d.refuseEdits()
	d.reportProblems(before)
	published := d.records.Published()
	values, changed := d.claims()
	d.publish(values)
	d.followMembers()
	changed = append(changed, changedStatic...)
	d.decidePods(append(changed, d.unmade()...))
	if published { // until then the record that is taken back may say what the files were
		d.joining = false
	}
	d.dropSuperseded()
	d.remember()
	for _, key := range changed {
		d.reportNotImplemented(key)
		d.reportStandards(key)
	}
	d.unsettled = nil
	if d.set.Unsettled || d.static.set.Unsettled || len(d.missing) > 0 {
		d.unsettled = time.After(settle)
	}
	d.reconcile()
}

// settle is how long a file must be gone before that counts. Editors, git and
// tar remove a file and write it again, and in a burst of renames a file may be
// at neither name while the directory is read: no pod is to die of that.
const settle = 250 * time.Millisecond

// goneForGood says whether a claim whose file was not found counts as deleted.
func (d *Daemon) goneForGood(key string) bool {
	since, known := d.missing[key]
	if !known {
		d.missing[key] = d.Now()
		return false
	}
	if d.set.Unsettled || d.static.set.Unsettled || d.Now().Sub(since) < settle {
		return false
	}
	delete(d.missing, key)
	return true
}

// claims is what the record must say for it to match the files, and which
// objects that is about.
func (d *Daemon) claims() (map[record.Name]json.RawMessage, []manifests.Key) {
	values := make(map[record.Name]json.RawMessage)
	var changed []manifests.Key
	kept := make(map[string]bool)
	for _, c := range d.inForce() {
		if _, taken := d.static.pods[c.Key]; taken {
			continue // who runs already is this host's own
		}
		text := c.Key.String()
		kept[text] = true
		if d.refused[c.Key] != "" {
			continue // an older version that is in force stays so
		}
		name := claimName(c.Key)
		if d.isClaimed(c) {
			continue
		}
		all := d.claimsOn(c.Key)
		claim := d.claim(c, all)
		if c.written && claim.Edited <= record.LastDeleted(all) { // through another node's API
			kept[text] = false
			d.removeFile(c.Key)
			continue
		}
		edited := !bytes.Equal(all[d.Config.Node].Declared, claim.Declared)
		d.noteStale(c.Key, with(all, d.Config.Node, claim))
		value, err := d.claimValue(c.Key, claim)
		if err != nil {
			d.Log.Error("can't write a claim", "key", text, "err", err)
			continue
		}
		if before := d.own(name); bytes.Equal(before, value) {
			value = before
		}
		values[name] = value
		d.claimed.put(c.Object, value, claim.Generation)
		if edited {
			changed = append(changed, c.Key)
		}
	}
	d.claimed.keep(kept)
	d.raised = nil
	for _, key := range d.ownKeys(record.Claims) {
		name := record.Name{Section: record.Claims, Key: key}
		switch {
		case kept[key]:
			delete(d.missing, key)
		case d.isDeletion(name) || d.goneForGood(key):
			values[name] = d.withdrawn(name)
		default:
			kept[key] = true // for now
		}
	}
	return values, append(changed, d.undeclared(kept)...)
}

// undeclared are the pods that this node decided on and that no file declares
// any more.
func (d *Daemon) undeclared(kept map[string]bool) []manifests.Key {
	var keys []manifests.Key
	for _, text := range d.ownKeys(record.Decisions) {
		if kept[text] {
			continue
		}
		if key, err := manifests.ParseKey(text); err == nil && key.GroupKind() == podKind {
			if _, is := d.static.pods[key]; is {
				continue
			}
			keys = append(keys, key)
		}
	}
	return keys
}

// decidePods decides about these pods, publishes that, and has the agent follow.
func (d *Daemon) decidePods(keys []manifests.Key) {
	in := workload.Input{
		Now: d.Now(), Gone: make(map[types.UID]bool),
		Declared: make(map[manifests.Key]*v1.Pod), Decided: make(map[manifests.Key]*v1.Pod),
		Account: d.account, RuntimeClass: d.runtimeClass, Complete: d.complete, Again: d.endedByShutdown,
		UID: func(key manifests.Key) types.UID { return view.UID(key, d.clock.Now()) },
	}
	for _, key := range keys {
		if key.GroupKind() != podKind || !d.decides(key) {
			continue
		}
		o, ok := d.view.Get(key)
		if p := d.declared[key]; p != nil {
			in.Declared[key] = p
		} else if ok && o.GetDeletionTimestamp() == nil && !d.hearsAll() {
			continue // one whose record has not come may declare it
		}
		if ok {
			p := o.(*v1.Pod)
			in.Decided[key] = p
			in.Gone[p.UID] = p.DeletionTimestamp != nil && (d.isGone(p) || in.Declared[key] != nil && d.isLost(p))
		}
	}
	values := make(map[record.Name]json.RawMessage)
	var again []manifests.Key
	decisions := workload.DeclaredPods(in)
	for _, dec := range decisions {
		d.reportDecision(dec, in.Decided[dec.Key])
		d.decided(values, dec)
		switch {
		case dec.Verb == workload.Forget:
			again = append(again, dec.Key) // what was replaced begins anew
		case dec.Verb == workload.Delete && d.isGone(dec.Pod):
			again = append(again, dec.Key) // nobody runs it: it is gone
		}
	}
	if len(values) == 0 {
		return
	}
	d.publish(values)
	d.runPods()
	if len(again) > 0 {
		d.decidePods(again)
	}
}

// decided puts one decision into values.
func (d *Daemon) decided(values map[record.Name]json.RawMessage, dec workload.Decision) {
	key := dec.Key.String()
	var value json.RawMessage
	var err error
	if dec.Verb == workload.Forget {
		values[record.Name{Section: record.Status, Key: key}] = nil
	} else {
		value, err = json.Marshal(dec.Pod)
	}
	if err == nil {
		err = d.decideOn(values, dec.Key, value)
	}
	if err != nil {
		d.Log.Error("can't write a decision", "key", key, "err", err)
	}
}

func (d *Daemon) reportDecision(dec workload.Decision, old *v1.Pod) {
	switch {
	case dec.Verb == workload.Create:
		if name := dec.Pod.Spec.NodeName; name != "" && !d.knowsNode(name) {
			d.events.Warning(objectReference(dec.Pod), "NodeNotFound", "spec.nodeName is %q, and no node has that name; this one is %q (correct it, or leave it out)",
				dec.Pod.Spec.NodeName, d.Config.Node)
		}
		for _, field := range pod.NotImplemented(dec.Pod) {
			d.events.Warning(objectReference(dec.Pod), reasonNotImplemented, "%s is accepted but has no effect yet in this version", field)
		}
	case dec.Verb == workload.Delete && dec.Why != "":
		d.events.Normal(objectReference(old), "Replacing", "Pod is replaced by one with a new UID: %s", dec.Why)
	}
}

// reportProblems says what is wrong with files, once each time it appears.
func (d *Daemon) reportProblems(before manifests.Set) {
	d.reportNew(before, d.set)
}

// reportNew says what is wrong with files of now and was not before.
func (d *Daemon) reportNew(before, now manifests.Set) {
	known := make(map[string]bool)
	for _, p := range before.AllProblems() {
		known[p.Error()] = true
	}
	for _, p := range now.AllProblems() {
		if known[p.Error()] {
			continue
		}
		d.events.Warning(d.nodeReference(), "InvalidManifest", "%s", p.Error())
	}
}

// reportNotImplemented says of an object that nothing runs it yet.
func (d *Daemon) reportNotImplemented(key manifests.Key) {
	o, ok := d.view.Get(key)
	if s, is := o.(*v1.Service); is {
		d.reportMissing(s)
	}
	if !ok || implemented[key.GroupKind()] {
		return
	}
	d.events.Warning(objectReference(o), reasonNotImplemented, "%s is accepted and validated, but this version does not run it yet", key.Kind)
}

// reportMissing says what of a service has no effect yet.
func (d *Daemon) reportMissing(s *v1.Service) {
	if s.Spec.Type == v1.ServiceTypeLoadBalancer {
		d.events.Warning(objectReference(s), reasonNotImplemented,
			"spec.type: LoadBalancer: nobody gives it an address yet: its cluster IP, its node ports and spec.externalIPs lead to it")
	}
	if s.Spec.HealthCheckNodePort != 0 {
		d.events.Warning(objectReference(s), reasonNotImplemented, "spec.healthCheckNodePort: nothing answers there yet")
	}
}

func objectReference(o view.Object) v1.ObjectReference {
	gvk, err := manifests.GVKFor(o)
	if err != nil {
		panic(fmt.Sprintf("an object of no known kind in the view: %v", err))
	}
	return v1.ObjectReference{
		APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, Namespace: o.GetNamespace(), Name: o.GetName(),
		UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(),
	}
}

// publishStatus takes a pod's status from the agent.
func (d *Daemon) publishStatus(ctx context.Context, p *v1.Pod, status v1.PodStatus, gone bool) {
	select {
	case d.calls <- func() { d.takeStatus(p, status, gone) }:
	case <-ctx.Done():
	}
}

// takeStatus is publishStatus in the loop. Of a pod that is no longer to run
// here nobody wants to know how it is.
func (d *Daemon) takeStatus(p *v1.Pod, status v1.PodStatus, gone bool) {
	key := podKey(p)
	if gone {
		d.leftBehind(p.UID)
	}
	if d.heldBack() && !workload.Static(p) {
		return // it is the other host's to say
	}
	if o, ok := d.view.Get(key); !ok || o.GetUID() != p.UID || o.(*v1.Pod).Spec.NodeName != d.Config.Node {
		return
	}
	if gone {
		d.gone[p.UID] = true
		d.sayGone(key, p.UID, status)
		d.decidePods([]manifests.Key{key})
		d.look(key)
		return
	}
	d.sayStatus(key, view.PodStatus{UID: p.UID, Status: status})
	if shutdown.Over(&v1.Pod{Spec: p.Spec, Status: status}) {
		d.decidePods([]manifests.Key{key}) // a shutdown that was called off meanwhile
	}
}

func (d *Daemon) sayStatus(key manifests.Key, s view.PodStatus) {
	value, err := json.Marshal(s)
	if err != nil {
		d.Log.Error("can't write a status", "key", key.String(), "err", err)
		return
	}
	d.publish(map[record.Name]json.RawMessage{{Section: record.Status, Key: key.String()}: value})
}
