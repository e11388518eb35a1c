package daemon

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/shoal-project/shoal/daemon/api"
	"github.com/shoal-project/shoal/daemon/record"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/daemon/workload"
	"github.com/shoal-project/shoal/manifests"
)

// writer makes the API's writes files in /var/lib/shoal/manifests, and so
// claims like any other.
type writer struct{ d *Daemon }

// Apply writes the object's file and returns the object as the view then has it.
func (w writer) Apply(ctx context.Context, obj view.Object, o api.WriteOptions) (result view.Object, warnings []string, err error) {
	key, err := manifests.KeyOf(obj)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	copied, err := w.alone(ctx, func() error {
		if warnings, err = w.write(key, obj, o); o.DryRun {
			result = obj
		}
		return err
	}, func() error {
		delete(w.d.made, key)
		if o.DryRun {
			return nil
		}
		var ok bool
		if result, ok = w.d.view.Get(key); !ok {
			return apierrors.NewInternalError(fmt.Errorf("%s was written to %s and is not in force: see shoal manifests", key, w.d.apiFile(key)))
		}
		return nil
	})
	if err == nil && !copied {
		warnings = append(warnings, w.notCopied())
	}
	return result, warnings, err
}

// notCopied warns of what would be lost with this host.
func (w writer) notCopied() string {
	return fmt.Sprintf("only node %s has it so far: no other host has taken a copy in time", w.d.Config.Node)
}

// alone runs one write: begin in the loop, then the files are read, then end in
// the loop. No other write comes in between, or its checks would be of things
// that are about to change. Copied is false where another host that seems to be
// alive did not take a copy in time.
func (w writer) alone(ctx context.Context, begin, end func() error) (copied bool, err error) {
	select {
	case w.d.writes <- struct{}{}:
		defer func() { <-w.d.writes }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	before := w.d.records.Head(w.d.Config.Node).Seq
	if e := w.d.do(ctx, func() { err = begin() }); e != nil || err != nil {
		return false, cmp.Or(err, e)
	}
	if err := w.d.reread(ctx); err != nil {
		return false, err
	}
	if e := w.d.do(ctx, func() { err = end() }); e != nil || err != nil {
		return false, cmp.Or(err, e)
	}
	// What is answered outlives a kill, also where no file holds it.
	if err := w.d.store.Flush(); err != nil {
		return false, apierrors.NewInternalError(err)
	}
	return w.d.copyOut(ctx, before), nil
}

// write checks a write and writes the file.
func (w writer) write(key manifests.Key, obj view.Object, o api.WriteOptions) (warnings []string, err error) {
	d := w.d
	old, exists := d.view.Get(key)
	if err := precondition(key, old, exists, obj, o); err != nil {
		return nil, err
	}
	if key.GroupKind() == workload.KindNode {
		return nil, d.writeNode(key, obj, old, o.DryRun)
	}
	if key.Kind == "Event" {
		return nil, forbidden(key, "it is written by its node alone")
	}
	if of := d.services.of(key); of != "" {
		return nil, forbidden(key, "it follows from "+of+": change that")
	}
	if p, ok := obj.(*v1.Pod); ok && !exists && d.lacksAccount(p) != "" {
		return nil, forbidden(key, d.lacksAccount(p))
	}
	if p, ok := obj.(*v1.Pod); ok && !exists {
		if why := lacksRuntimeClass(p, d.runtimeClass); why != "" {
			return nil, forbidden(key, why)
		}
		if err := d.wrongPriority(p, d.priorityClasses()); err != nil {
			return nil, forbidden(key, err.Error())
		}
	}
	if err := d.oneDefaultClass(key, obj); err != nil {
		return nil, err
	}
	if err := d.refuseStatic(key); err != nil {
		return nil, err
	}
	if warnings, err = d.applyStandards(key, obj, old); err != nil {
		return nil, err
	}
	decided := d.isDecided(key)
	if decided || o.Subresource != "" {
		if err := d.mayDecide(key); err != nil {
			return nil, err
		}
	}
	if o.Subresource != "" {
		if p := old.(*v1.Pod); !o.DryRun {
			d.addEphemeral(p, obj.(*v1.Pod).Spec.EphemeralContainers)
		}
		return warnings, nil
	}
	if decided {
		if !o.DryRun {
			err = d.rewriteDecision(key, obj, old)
		}
		return warnings, err
	}
	if declared, ok := d.overridden(key); ok {
		override(obj, declared.declared)
		warnings = append(warnings, fmt.Sprintf("%s declares this object: the change holds until that file is edited", declared))
	} else if of := obj.GetAnnotations(); of[annotationOverrides] != "" { // of what it was written over, which is gone
		delete(of, annotationOverrides)
		obj.SetAnnotations(of)
	}
	if !implemented[key.GroupKind()] {
		warnings = append(warnings, fmt.Sprintf("%s is accepted and validated, but this version of Shoal does not run it yet", key.Kind))
	}
	if o.DryRun {
		if exists {
			obj.SetUID(old.GetUID())
			obj.SetResourceVersion(old.GetResourceVersion())
			obj.SetCreationTimestamp(old.GetCreationTimestamp())
		}
		return warnings, nil
	}
	if err := writeObject(d.apiFile(key), undecided(obj)); err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	d.made[key] = true
	return warnings, nil
}

// precondition checks what a write may take for granted.
func precondition(key manifests.Key, old view.Object, exists bool, obj view.Object, o api.WriteOptions) error {
	switch {
	case o.Create && exists:
		return apierrors.NewAlreadyExists(resourceOf(key), key.Name)
	case exists && obj.GetResourceVersion() != "" && obj.GetResourceVersion() != old.GetResourceVersion():
		return apierrors.NewConflict(resourceOf(key), key.Name,
			errors.New("the object has been modified; please apply your changes to the latest version and try again"))
	case exists && obj.GetUID() != "" && obj.GetUID() != old.GetUID():
		return apierrors.NewConflict(resourceOf(key), key.Name,
			fmt.Errorf("Precondition failed: UID in precondition: %s, UID in object meta: %s", obj.GetUID(), old.GetUID()))
	case exists && old.GetDeletionTimestamp() != nil && key.Kind == "Pod":
		return apierrors.NewConflict(resourceOf(key), key.Name, errors.New("the object is being deleted; try again when it is gone"))
	case !exists && !o.Create && obj.GetResourceVersion() != "":
		return apierrors.NewNotFound(resourceOf(key), key.Name)
	}
	return nil
}

// Delete removes the object's file. A pod gets the grace that was asked for.
func (w writer) Delete(ctx context.Context, key manifests.Key, o api.DeleteOptions) (result view.Object, warnings []string, err error) {
	if key.GroupKind() == workload.KindNode {
		result, err = w.deleteNode(ctx, key, o)
		return result, nil, err
	}
	if o.Evict {
		if err := w.d.mayEvict(ctx, key, o.DryRun); err != nil {
			return nil, nil, err
		}
	}
	copied, err := w.alone(ctx, func() error {
		result, err = w.remove(key, o)
		return err
	}, func() error {
		if key.GroupKind() == namespaceKind {
			w.d.fold([]manifests.Key{key})
		}
		if now, ok := w.d.view.Get(key); ok {
			result = now
		}
		return nil
	})
	if err == nil && !copied {
		warnings = append(warnings, w.notCopied())
	}
	return result, warnings, err
}

// remove checks a deletion, removes the file and returns the object as it was.
func (w writer) remove(key manifests.Key, o api.DeleteOptions) (view.Object, error) {
	d := w.d
	old, exists := d.view.Get(key)
	if !exists {
		return nil, apierrors.NewNotFound(resourceOf(key), key.Name)
	}
	if p := o.Preconditions; p.UID != nil && *p.UID != old.GetUID() ||
		p.ResourceVersion != nil && *p.ResourceVersion != old.GetResourceVersion() {
		return nil, apierrors.NewConflict(resourceOf(key), key.Name, errors.New("the precondition does not hold: the object is another by now"))
	}
	if d.isImplied(key, old) && key.GroupKind() == accountKind {
		return nil, apierrors.NewMethodNotSupported(resourceOf(key), "delete of the default one, which every namespace has,")
	}
	if err := d.refuseStatic(key); err != nil {
		return nil, err
	}
	if d.impliedClass(key) != nil {
		return nil, forbidden(key, "this is a system priority class and cannot be deleted")
	}
	pod, isPod := old.(*v1.Pod)
	declared, filed := d.overridden(key)
	if filed && !(isPod && o.Evict) {
		return nil, forbidden(key, fmt.Sprintf("%s declares it: delete that file, or the object in it", declared))
	}
	switch {
	case key.Kind == "Event":
		return nil, forbidden(key, "it is written by its node alone")
	case d.services.of(key) != "":
		return nil, forbidden(key, "it follows from "+d.services.of(key)+": delete that")
	case key.GroupKind() == namespaceKind && slices.Contains(builtin, key.Name):
		return nil, forbidden(key, "this namespace may not be deleted")
	}
	decided := d.isDecided(key)
	if isPod || decided || o.Propagation == metav1.DeletePropagationOrphan {
		if err := d.mayDecide(key); err != nil {
			return nil, err
		}
	}
	if o.DryRun {
		return old, nil
	}
	if o.Propagation == metav1.DeletePropagationOrphan {
		d.orphan(key, old)
	}
	if isPod {
		if o.Evict {
			pod = workload.Disrupted(pod, "EvictionByEvictionAPI", "Eviction API: evicting", d.Now())
		}
		d.deletePod(pod, o.GraceSeconds)
		if filed { // its file brings another, for which a place must be found
			return old, nil
		}
	} else if decided {
		d.forgetDecision(key, old)
	}
	d.endElsewhere(key)
	if err := os.Remove(d.apiFile(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, apierrors.NewInternalError(err)
	}
	d.missing[key.String()] = time.Time{} // this deletion is no accident
	if key.GroupKind() == namespaceKind {
		d.ending[key.Name] = d.Now()
	}
	return old, nil
}

// deletePod begins a pod's deletion, with the pod's own grace unless another is
// asked for.
func (d *Daemon) deletePod(p *v1.Pod, grace *int64) {
	p = p.DeepCopy()
	if grace == nil {
		grace = p.Spec.TerminationGracePeriodSeconds // set by defaulting
	}
	workload.MarkDeleted(p, *grace, d.Now())
	values := make(map[record.Name]json.RawMessage)
	d.decided(values, workload.Decision{Verb: workload.Delete, Key: podKey(p), Pod: p})
	d.publish(values)
	d.reconcile()
	d.runPods()
}

// maxName is how long a name may be before a file is called after part of it
// and a hash: file names have 255 bytes, and objects' have up to 253.
const maxName = 200

// escapeName is made once: making it costs more than all else of apiFile, which
// is asked for every object at each look at the files.
var escapeName = strings.NewReplacer("/", "%2F", "%", "%25", ":", "%3A")

// apiFile is where the API keeps an object: NAMESPACE/KIND.GROUP/NAME.yaml.
func (d *Daemon) apiFile(key manifests.Key) string {
	ns := key.Namespace
	if ns == "" {
		ns = "_cluster" // no namespace is called that
	}
	kind := strings.ToLower(key.Kind)
	if key.Group != "" {
		kind += "." + key.Group
	}
	// Names of some kinds (RBAC's) may hold what a path must not.
	name := escapeName.Replace(key.Name)
	if len(name) > maxName {
		sum := sha256.Sum256([]byte(key.Name))
		name = name[:maxName] + "-" + hex.EncodeToString(sum[:8])
	}
	return filepath.Join(d.path("var/lib/shoal/manifests"), ns, kind, name+".yaml")
}

// writeObject writes an object's file, durably and as a whole. It holds secrets
// as they are, so only root may read it.
func writeObject(file string, obj view.Object) error {
	gvk, err := manifests.GVKFor(obj)
	if err != nil {
		return err
	}
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	data, err := yaml.Marshal(obj)
	if err != nil {
		return fmt.Errorf("write object: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("write object: %w", err)
	}
	// A name that begins with a dot is not read as a manifest.
	f, err := os.OpenFile(filepath.Join(filepath.Dir(file), ".new"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write object: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write object: %w", err)
	}
	return syncDir(filepath.Dir(file))
}

// syncDir makes a rename durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// resourceOf names a kind in errors.
func resourceOf(key manifests.Key) schema.GroupResource {
	return schema.GroupResource{Group: key.Group, Resource: strings.ToLower(key.Kind) + "s"}
}

func forbidden(key manifests.Key, why string) error {
	return apierrors.NewForbidden(resourceOf(key), key.Name, errors.New(why))
}

var _ api.Writer = writer{}
