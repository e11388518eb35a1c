package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// attempts is how often a write that gave no resourceVersion is tried when
// somebody else's come between: twice as often as by the apiserver, since a
// write that is carried out on another node is longer on its way.
const attempts = 10

func writeOptions(q url.Values) (WriteOptions, error) {
	dry, err := dryRun(q["dryRun"])
	return WriteOptions{DryRun: dry, FieldManager: q.Get("fieldManager")}, err
}

func dryRun(given []string) (bool, error) {
	for _, v := range given {
		if v != metav1.DryRunAll {
			return false, apierrors.NewBadRequest(fmt.Sprintf("dryRun: Unsupported value: %q: supported values: %q", v, metav1.DryRunAll))
		}
	}
	return len(given) > 0, nil
}

func (s *Server) create(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	strict, err := strictnessOf(q)
	if err != nil {
		return err
	}
	opts, err := writeOptions(q)
	if err != nil {
		return err
	}
	f, err := s.formOf(r, t.resource, q)
	if err != nil {
		return err
	}
	b, err := body(w, r)
	if err != nil {
		return err
	}
	o, warnings, err := decodeObject(b, r.Header.Get("Content-Type"), t, strict)
	if err != nil {
		return err
	}
	o.SetManagedFields(nil)
	o, err = s.prepareNew(o, &t)
	if err != nil {
		return err
	}
	opts.Create = true
	out, more, err := s.Writer.Apply(r.Context(), o, opts)
	if err != nil {
		return err
	}
	warn(w, append(warnings, more...))
	return s.reply(w, f, http.StatusCreated, out)
}

// prepareNew checks and completes an object to be made, and completes t with
// its name.
func (s *Server) prepareNew(o view.Object, t *target) (view.Object, error) {
	if err := fitsPath(o, *t); err != nil {
		return nil, err
	}
	if o.GetResourceVersion() != "" {
		return nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	if o.GetName() == "" && o.GetGenerateName() != "" {
		prefix := o.GetGenerateName()
		o.SetName(prefix[:min(len(prefix), 58)] + rand.String(5))
	}
	if t.Namespaced {
		o.SetNamespace(t.namespace)
	}
	systemFields(o, nil)
	t.name = o.GetName()
	o, err := canonical(o)
	if err != nil {
		return nil, err
	}
	if errs := manifests.Validate(o); len(errs) > 0 {
		return nil, apierrors.NewInvalid(t.groupKind(), o.GetName(), errs)
	}
	if _, exists := s.View.Get(t.key()); exists {
		return nil, apierrors.NewAlreadyExists(t.gr(), t.name)
	}
	return o, s.checkNamespace(*t)
}

// checkNamespace refuses new objects where a namespace is missing or going
// away. "default" is always there.
func (s *Server) checkNamespace(t target) error {
	if !t.Namespaced || t.namespace == metav1.NamespaceDefault {
		return nil
	}
	o, ok := s.View.Get(manifests.Key{Kind: "Namespace", Name: t.namespace})
	if !ok {
		return apierrors.NewNotFound(v1.Resource("namespaces"), t.namespace)
	}
	if o.GetDeletionTimestamp() == nil {
		return nil
	}
	err := apierrors.NewForbidden(t.gr(), t.name, fmt.Errorf(
		"unable to create new content in namespace %s because it is being terminated", t.namespace))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: v1.NamespaceTerminatingCause, Message: "namespace " + t.namespace + " is being terminated", Field: "metadata.namespace"})
	return err
}

func (s *Server) update(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	b, err := body(w, r)
	if err != nil {
		return err
	}
	contentType := r.Header.Get("Content-Type")
	return s.change(w, r, t, q, func(_ view.Object, strict strictness) (view.Object, []string, error) {
		return decodeObject(b, contentType, t, strict)
	})
}

// change replaces an object by what next makes of it. What the system sets is
// kept, whatever next says.
func (s *Server) change(w http.ResponseWriter, r *http.Request, t target, q url.Values,
	next changer) error {
	strict, err := strictnessOf(q)
	if err != nil {
		return err
	}
	opts, err := writeOptions(q)
	if err != nil {
		return err
	}
	f, err := s.formOf(r, t.resource, q)
	if err != nil {
		return err
	}
	manager, err := managerOf(opts, r)
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		old, err := s.find(t)
		if err != nil {
			return err
		}
		o, warnings, err := next(old, strict)
		if err != nil {
			return err
		}
		unconditional := o.GetResourceVersion() == "" || o.GetResourceVersion() == old.GetResourceVersion() && r.Method == http.MethodPatch
		o, err = s.prepareChange(o, old, t)
		if err != nil {
			return err
		}
		if o, err = s.track(o, old, manager); err != nil {
			return err
		}
		out := old
		if !equality.Semantic.DeepEqual(o, old) {
			var more []string
			out, more, err = s.Writer.Apply(r.Context(), o, opts)
			if apierrors.IsConflict(err) && unconditional && attempt < attempts {
				continue
			}
			if err != nil {
				return err
			}
			warnings = append(warnings, more...)
		}
		warn(w, warnings)
		return s.reply(w, f, http.StatusOK, out)
	}
}

// prepareChange checks and completes what is to replace old.
func (s *Server) prepareChange(o, old view.Object, t target) (view.Object, error) {
	if err := matches(o, old, t); err != nil {
		return nil, err
	}
	o.SetNamespace(t.namespace)
	o.SetName(t.name)
	systemFields(o, old)
	o, err := canonical(o)
	if err != nil {
		return nil, err
	}
	o.GetObjectKind().SetGroupVersionKind(old.GetObjectKind().GroupVersionKind())
	if errs := manifests.ValidateUpdate(o, old); len(errs) > 0 {
		return nil, apierrors.NewInvalid(t.groupKind(), t.name, errs)
	}
	return o, nil
}

// matches says why o can't be the next version of old.
func matches(o, old view.Object, t target) error {
	if err := fitsPath(o, t); err != nil {
		return err
	}
	if rv := o.GetResourceVersion(); rv != "" && rv != old.GetResourceVersion() {
		return apierrors.NewConflict(t.gr(), t.name, errModified)
	}
	if uid := o.GetUID(); uid != "" && uid != old.GetUID() {
		return apierrors.NewConflict(t.gr(), t.name, fmt.Errorf(
			"Precondition failed: UID in precondition: %v, UID in object meta: %v", uid, old.GetUID()))
	}
	return nil
}

// What conflicts and refusals say, in upstream's words.
var (
	errModified     = errors.New("the object has been modified; please apply your changes to the latest version and try again")
	errPrecondition = errors.New("the UID or resourceVersion in the precondition does not match the object")
	errKept         = errors.New("this namespace may not be deleted")
)

// fitsPath checks an object's name and namespace against the path's.
func fitsPath(o view.Object, t target) error {
	if ns := o.GetNamespace(); t.Namespaced && ns != "" && ns != t.namespace {
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	if t.name != "" && o.GetName() != "" && o.GetName() != t.name {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", o.GetName(), t.name))
	}
	if t.name == "" && t.Namespaced && t.namespace == "" {
		return apierrors.NewBadRequest("an empty namespace may not be set during creation")
	}
	return nil
}

// systemFields sets what no client may: to what old has, or to nothing.
func systemFields(o, old view.Object) {
	o.SetSelfLink("")
	if old == nil {
		old = reflect.New(reflect.TypeOf(o).Elem()).Interface().(view.Object)
	}
	o.SetUID(old.GetUID())
	o.SetResourceVersion(old.GetResourceVersion())
	o.SetCreationTimestamp(old.GetCreationTimestamp())
	o.SetDeletionTimestamp(old.GetDeletionTimestamp())
	o.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	o.SetGeneration(old.GetGeneration())
	if reflect.TypeOf(old) != reflect.TypeOf(o) {
		return // another version of the kind: canonical brings no status along
	}
	if status := reflect.ValueOf(o).Elem().FieldByName("Status"); status.IsValid() {
		status.Set(reflect.ValueOf(old).Elem().FieldByName("Status"))
	}
}

// canonical is an object defaulted, and in its kind's own version, as it will
// be read back from the file that the Writer makes of it.
func canonical(o view.Object) (view.Object, error) {
	gvk, err := manifests.GVKFor(o)
	if err != nil {
		return nil, err
	}
	o.GetObjectKind().SetGroupVersionKind(gvk)
	b, err := json.Marshal(o)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	out, err := manifests.FromDeclared(b)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return out.(view.Object), nil
}
