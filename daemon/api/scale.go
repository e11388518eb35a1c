package api

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/shoal-project/shoal/daemon/view"
)

var scaleKind = autoscalingv1.SchemeGroupVersion.WithKind("Scale")

// scaleSubresources are those of the kinds that have a size.
var scaleSubresources = []subresource{
	{"scale", scaleKind.Group, scaleKind.Version, scaleKind.Kind, []string{"get", "patch", "update"}},
}

// scales says whether a kind has a size that can be changed by itself.
func scales(r *resource) bool {
	return r.gv() == appsv1.SchemeGroupVersion && (r.Kind == "Deployment" || r.Kind == "ReplicaSet")
}

// scaleOf is an object's size as the scale subresource shows it.
func scaleOf(o view.Object) (*autoscalingv1.Scale, error) {
	s := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{
		Name: o.GetName(), Namespace: o.GetNamespace(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(), CreationTimestamp: o.GetCreationTimestamp(),
	}}
	s.SetGroupVersionKind(scaleKind)
	var selector *metav1.LabelSelector
	switch o := o.(type) {
	case *appsv1.Deployment:
		s.Spec.Replicas, s.Status.Replicas, selector = *o.Spec.Replicas, o.Status.Replicas, o.Spec.Selector
	case *appsv1.ReplicaSet:
		s.Spec.Replicas, s.Status.Replicas, selector = *o.Spec.Replicas, o.Status.Replicas, o.Spec.Selector
	}
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, fmt.Errorf("selector of %s: %w", o.GetName(), err)
	}
	s.Status.Selector = parsed.String()
	return s, nil
}

// sized is an object with another size.
func sized(o view.Object, replicas int32) view.Object {
	o = o.DeepCopyObject().(view.Object)
	switch o := o.(type) {
	case *appsv1.Deployment:
		o.Spec.Replicas = &replicas
	case *appsv1.ReplicaSet:
		o.Spec.Replicas = &replicas
	}
	return o
}

// scale serves the size of an object as an autoscaling/v1 Scale.
func (s *Server) scale(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	var next func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error)
	switch r.Method {
	case http.MethodGet:
		return s.showScale(w, t)
	case http.MethodPut, http.MethodPatch:
	default:
		return methodNotAllowed(t.gr(), r.Method)
	}
	b, err := body(w, r)
	if err != nil {
		return err
	}
	contentType := r.Header.Get("Content-Type")
	next = func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error) { return decodeScale(b, contentType) }
	if r.Method == http.MethodPatch {
		kind, _, err := mime.ParseMediaType(contentType)
		if err != nil || kind != string(types.JSONPatchType) && kind != string(types.MergePatchType) && kind != string(types.StrategicMergePatchType) {
			return unsupportedPatch(contentType)
		}
		next = func(old *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
			after, err := patched(old, types.PatchType(kind), b)
			if err != nil {
				return nil, err
			}
			return decodeScale(after, runtime.ContentTypeJSON)
		}
	}
	return s.resize(w, r, t, q, next)
}

func decodeScale(b []byte, contentType string) (*autoscalingv1.Scale, error) {
	o, _, err := decode(b, contentType, scaleKind, metav1.FieldValidationIgnore)
	if err != nil {
		return nil, err
	}
	return o.(*autoscalingv1.Scale), nil
}

func (s *Server) showScale(w http.ResponseWriter, t target) error {
	o, err := s.find(t)
	if err != nil {
		return err
	}
	scale, err := scaleOf(o)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, scale)
	return nil
}

// resize writes an object with the size that next makes of its present one.
func (s *Server) resize(w http.ResponseWriter, r *http.Request, t target, q url.Values, next func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error)) error {
	opts, err := writeOptions(q)
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
		before, err := scaleOf(old)
		if err != nil {
			return err
		}
		scale, err := next(before)
		if err != nil {
			return err
		}
		if err := fitsScale(scale, before, t); err != nil {
			return err
		}
		o, out := sized(old, scale.Spec.Replicas), old
		if o, err = s.prepareChange(o, old, t); err != nil {
			return err
		}
		if o, err = s.track(o, old, manager); err != nil {
			return err
		}
		if !equality.Semantic.DeepEqual(o, old) {
			var warnings []string
			out, warnings, err = s.Writer.Apply(r.Context(), o, opts)
			if apierrors.IsConflict(err) && attempt < attempts && (scale.ResourceVersion == "" || r.Method == http.MethodPatch) {
				continue
			}
			if err != nil {
				return err
			}
			warn(w, warnings)
		}
		if scale, err = scaleOf(out); err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, scale)
		return nil
	}
}

// fitsScale checks a new size against the path and the object.
func fitsScale(scale, before *autoscalingv1.Scale, t target) error {
	switch {
	case scale.Name != "" && scale.Name != t.name:
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", scale.Name, t.name))
	case scale.ResourceVersion != "" && scale.ResourceVersion != before.ResourceVersion:
		return apierrors.NewConflict(t.gr(), t.name, errModified)
	case scale.UID != "" && scale.UID != before.UID:
		return apierrors.NewConflict(t.gr(), t.name, errPrecondition)
	case scale.Spec.Replicas < 0:
		return apierrors.NewInvalid(schema.GroupKind{Group: scaleKind.Group, Kind: scaleKind.Kind}, t.name, field.ErrorList{
			field.Invalid(field.NewPath("spec", "replicas"), scale.Spec.Replicas, "must be greater than or equal to 0"),
		})
	}
	return nil
}
