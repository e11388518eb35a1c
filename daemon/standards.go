package daemon

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/shoal-project/shoal/daemon/podsecurity"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// reasonPodSecurity is the event on what a namespace's standards warn of.
const reasonPodSecurity = "PodSecurity"

// refusePods finds the pods that files declare and that the Pod Security
// Standards of their namespaces refuse, or that lack their RuntimeClass or
// PriorityClass, and notes that as a problem of the file.
// What runs already stays, as in Kubernetes: an edit that is refused is not put
// in force.
func (d *Daemon) refusePods() {
	d.refused = make(map[manifests.Key]string)
	objects := d.inForce()
	labels := make(map[string]map[string]string)
	classes := make(map[string]*nodev1.RuntimeClass)
	priorities := declaredClasses(objects)
	for _, o := range objects {
		switch o := o.Value.(type) {
		case *v1.Namespace:
			labels[o.Name] = o.Labels
		case *nodev1.RuntimeClass:
			classes[o.Name] = o
		}
	}
	class := func(name string) *nodev1.RuntimeClass {
		if c := classes[name]; c != nil {
			return c
		}
		return d.runtimeClass(name)
	}
	for _, o := range objects {
		p, ok := o.Value.(*v1.Pod)
		if !ok || d.inEffect(o) {
			continue
		}
		ns, declared := labels[p.Namespace]
		if !declared {
			ns = d.namespaceLabels(p.Namespace)
		}
		why := cmp.Or(d.verdict(podsecurity.Pod(ns, p)).Refused, d.refusedByRuntimeClass(p, class))
		if err := d.wrongPriority(p, priorities); why == "" && err != nil {
			why = err.Error()
		}
		if why != "" {
			d.refused[o.Key] = forbidden(o.Key, why).Error()
			d.problem(manifests.Problem{Pos: o.Pos, Message: d.refused[o.Key]})
		}
	}
}

// inEffect says whether a pod was made from just this declaration and is there.
func (d *Daemon) inEffect(o declaration) bool {
	var claim record.Claim
	value := d.own(claimName(o.Key))
	if !d.claimed.has(o.Object, value) && (value == nil || json.Unmarshal(value, &claim) != nil || !bytes.Equal(claim.Declared, o.Declared)) {
		return false
	}
	p, ok := d.view.Get(o.Key)
	return ok && p.GetDeletionTimestamp() == nil
}

// problem adds a problem to the file it is about. Files are shared with the
// reader, and so copied.
func (d *Daemon) problem(p manifests.Problem) {
	d.set.Files = slices.Clone(d.set.Files)
	for i := range d.set.Files {
		if f := &d.set.Files[i]; f.Path == p.Pos.File {
			f.Problems = append(slices.Clip(f.Problems), p)
		}
	}
}

func (d *Daemon) namespaceLabels(name string) map[string]string {
	if ns, ok := d.view.Get(manifests.Key{Kind: "Namespace", Name: name}); ok {
		return ns.GetLabels()
	}
	return nil
}

// verdict logs what can't go wrong: upstream's checks do not fit together.
func (d *Daemon) verdict(v podsecurity.Verdict, err error) podsecurity.Verdict {
	if err != nil {
		d.Log.Error("can't apply pod security standards", "err", err)
	}
	return v
}

// verdictOn is what the standards of an object's namespace say of it. Of a pod
// that is there they only look at edits that bring other images.
func (d *Daemon) verdictOn(obj, old view.Object) podsecurity.Verdict {
	labels := d.namespaceLabels(obj.GetNamespace())
	p, ok := obj.(*v1.Pod)
	if !ok {
		return d.verdict(podsecurity.Template(labels, obj.(runtime.Object)))
	}
	if was, ok := old.(*v1.Pod); ok && equality.Semantic.DeepEqual(p.Spec, was.Spec) {
		return podsecurity.Verdict{}
	}
	return d.verdict(podsecurity.Pod(labels, p))
}

// applyStandards says what the namespace's standards think of an API write: it
// may be refused, or made with warnings.
func (d *Daemon) applyStandards(key manifests.Key, obj, old view.Object) (warnings []string, err error) {
	if ns, ok := obj.(*v1.Namespace); ok {
		if errs := podsecurity.ValidateLabels(ns.Labels); len(errs) > 0 {
			return nil, apierrors.NewInvalid(key.GroupKind(), key.Name, errs)
		}
		return d.wouldRefuse(ns), nil
	}
	v := d.verdictOn(obj, old)
	d.audit(key, v)
	if v.Refused != "" {
		return nil, forbidden(key, v.Refused)
	}
	if v.Warning != "" {
		warnings = append(warnings, v.Warning)
	}
	return warnings, nil
}

// wouldRefuse lists the pods that a namespace's new labels would refuse, were
// they not there already.
func (d *Daemon) wouldRefuse(ns *v1.Namespace) (warnings []string) {
	objects, _ := d.view.List(podKind, ns.Name)
	for _, o := range objects {
		if v := d.verdict(podsecurity.Pod(ns.Labels, o.(*v1.Pod))); v.Refused != "" {
			warnings = append(warnings, fmt.Sprintf("existing pod %s %s", o.GetName(), v.Refused))
		}
	}
	slices.Sort(warnings)
	return warnings
}

// reportStandards says what the standards think of an object that a file
// declares and that they do not refuse.
func (d *Daemon) reportStandards(key manifests.Key) {
	o, ok := d.view.Get(key)
	if !ok || d.refused[key] != "" {
		return
	}
	v := d.verdictOn(o, nil)
	d.audit(key, v)
	if v.Warning != "" {
		d.events.Warning(objectReference(o), reasonPodSecurity, "%s", v.Warning)
	}
}

// audit logs what the namespace wants logged.
func (d *Daemon) audit(key manifests.Key, v podsecurity.Verdict) {
	if v.Audit != "" {
		d.Log.Info("pod_security_violation", "key", key.String(), "reason", v.Audit)
	}
}
