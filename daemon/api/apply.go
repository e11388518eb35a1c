package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// application is one request for server-side apply (KEP-555): the fields that
// its manager wants, and no others.
type application struct {
	patch    *unstructured.Unstructured
	warnings []string
	manager  string
	force    bool // take over fields that others manage
}

// apply answers server-side apply: PATCH with application/apply-patch+yaml.
func (s *Server) apply(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	opts, err := writeOptions(q)
	if err != nil {
		return err
	}
	f, err := s.formOf(r, t.resource, q)
	if err != nil {
		return err
	}
	a, err := readApplication(w, r, q)
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		old, exists := s.View.Get(t.key())
		opts.Create = !exists
		o, err := s.applied(a, old, &t)
		if err != nil {
			return err
		}
		out, warnings, code := old, a.warnings, http.StatusOK
		if !exists {
			code = http.StatusCreated
		}
		if !exists || !equality.Semantic.DeepEqual(o, old) {
			var more []string
			out, more, err = s.Writer.Apply(r.Context(), o, opts)
			lost := apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err)
			if lost && a.patch.GetResourceVersion() == "" && attempt < attempts {
				continue
			}
			if err != nil {
				return err
			}
			warnings = append(warnings, more...)
		}
		warn(w, warnings)
		return s.reply(w, f, code, out)
	}
}

func readApplication(w http.ResponseWriter, r *http.Request, q url.Values) (application, error) {
	a := application{manager: q.Get("fieldManager")}
	strict, err := strictnessOf(q)
	if err != nil {
		return a, err
	}
	if text := q.Get("force"); text != "" {
		if a.force, err = strconv.ParseBool(text); err != nil {
			return a, apierrors.NewBadRequest(fmt.Sprintf("force: want true or false, got %q", text))
		}
	}
	errs := metav1validation.ValidatePatchOptions(&metav1.PatchOptions{FieldManager: a.manager}, types.ApplyPatchType)
	if len(errs) > 0 {
		return a, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "PatchOptions"}, "", errs)
	}
	b, err := body(w, r)
	if err != nil {
		return a, err
	}
	a.patch = &unstructured.Unstructured{}
	if err := yaml.Unmarshal(b, &a.patch.Object); err != nil {
		return a, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	if a.patch.Object == nil {
		return a, apierrors.NewBadRequest("error decoding YAML: the body is no object")
	}
	if err := yaml.UnmarshalStrict(b, &map[string]any{}); err != nil { // doubled keys
		switch strict {
		case metav1.FieldValidationStrict:
			return a, apierrors.NewBadRequest(fmt.Sprintf("error strict decoding YAML: %v", err))
		case metav1.FieldValidationWarn:
			a.warnings = append(a.warnings, err.Error())
		}
	}
	return a, nil
}

// applied is old, or a new object, after an application: checked and complete.
func (s *Server) applied(a application, old view.Object, t *target) (view.Object, error) {
	gvk := t.gvk()
	manager, err := s.fields.manager(gvk)
	if err != nil {
		return nil, err
	}
	live, err := liveObject(old, gvk)
	if err != nil {
		return nil, err
	}
	if err := s.fitsKind(a.patch, live, *t); err != nil {
		return nil, err
	}
	merged, err := manager.Apply(live, a.patch.DeepCopy(), a.manager, a.force)
	if err != nil {
		return nil, err
	}
	if merged, err = manifests.Scheme.ConvertToVersion(merged, gvk.GroupVersion()); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	o := merged.(view.Object)
	if old != nil {
		o, err = s.prepareChange(o, old, *t)
	} else {
		if uid := a.patch.GetUID(); uid != "" {
			return nil, apierrors.NewConflict(t.gr(), t.name, fmt.Errorf(
				"uid mismatch: the provided object specified uid %s, and no existing object was found", uid))
		}
		o.SetName(t.name)
		o, err = s.prepareNew(o, t)
	}
	if err != nil {
		return nil, err
	}
	return o, sortFields(o)
}

// liveObject is a copy of an object for its field manager; a blank one for nil.
func liveObject(old view.Object, gvk schema.GroupVersionKind) (view.Object, error) {
	if old == nil {
		blank, err := manifests.Scheme.New(gvk)
		if err != nil {
			return nil, err
		}
		blank.GetObjectKind().SetGroupVersionKind(gvk)
		return blank.(view.Object), nil
	}
	o, err := as(old, gvk)
	if err != nil {
		return nil, err
	}
	return o.DeepCopyObject().(view.Object), nil
}

// fitsKind refuses what is not for this path, or has fields that the kind has
// not: that is the client's fault, where upstream answers 500 in the same words.
func (s *Server) fitsKind(patch *unstructured.Unstructured, live view.Object, t target) error {
	if got, want := patch.GroupVersionKind(), t.gvk(); got != want {
		return apierrors.NewBadRequest(fmt.Sprintf("invalid object type: %v, want %v", got, want))
	}
	// Its accessors take what is no text for none.
	if name, is, err := unstructured.NestedString(patch.Object, "metadata", "name"); err != nil || is && name != t.name {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", name, t.name))
	}
	if err := fitsPath(patch, t); err != nil {
		return err
	}
	if _, err := s.fields.ObjectToTyped(patch); err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("failed to create typed patch object (%s/%s; %v): %v", t.namespace, t.name, t.gvk(), err))
	}
	if rv := patch.GetResourceVersion(); rv != "" && live.GetResourceVersion() != rv {
		return apierrors.NewConflict(t.gr(), t.name, errModified)
	}
	return nil
}

// track keeps the books of an object that somebody has applied when it changes
// in another way. Of objects that nobody ever applied there are none: the first
// to apply conflicts with "before-first-apply", as upstream where an object is
// older than its books.
func (s *Server) track(o, old view.Object, manager string) (view.Object, error) {
	if len(old.GetManagedFields()) == 0 {
		o.SetManagedFields(nil)
		return o, nil
	}
	gvk, err := manifests.GVKFor(o)
	if err != nil {
		return nil, err
	}
	m, err := s.fields.manager(gvk)
	if err != nil {
		return nil, err
	}
	live, err := liveObject(old, gvk)
	if err != nil {
		return nil, err
	}
	o.GetObjectKind().SetGroupVersionKind(gvk)
	tracked, err := m.Update(live, o, manager)
	if err != nil {
		return nil, err
	}
	o = tracked.(view.Object)
	truncateTimes(o)
	o.GetObjectKind().SetGroupVersionKind(old.GetObjectKind().GroupVersionKind())
	return o, sortFields(o)
}

// truncateTimes makes the books' times those that can be read back.
func truncateTimes(o view.Object) {
	for _, e := range o.GetManagedFields() {
		if e.Time != nil {
			*e.Time = metav1.Time{Time: e.Time.Rfc3339Copy().Local()}
		}
	}
}

// sortFields gives the books the form in which they are read back from a file,
// so that what has not changed is not written again.
func sortFields(o view.Object) error {
	for _, e := range o.GetManagedFields() {
		if e.FieldsV1 == nil {
			continue
		}
		var v any
		if err := json.Unmarshal(e.FieldsV1.Raw, &v); err != nil {
			return fmt.Errorf("fields of %s: %w", e.Manager, err)
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("fields of %s: %w", e.Manager, err)
		}
		e.FieldsV1.Raw = raw
	}
	return nil
}

// managerOf is who a change is booked on: as upstream, the program where the
// client gives no name.
func managerOf(opts WriteOptions, r *http.Request) (string, error) {
	if errs := metav1validation.ValidateFieldManager(opts.FieldManager, field.NewPath("fieldManager")); len(errs) > 0 {
		return "", apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "UpdateOptions"}, "", errs)
	}
	if opts.FieldManager != "" {
		return opts.FieldManager, nil
	}
	program, _, _ := strings.Cut(r.UserAgent(), "/")
	if len(program) > metav1validation.FieldManagerMaxLength {
		program = program[:metav1validation.FieldManagerMaxLength]
	}
	return program, nil
}
