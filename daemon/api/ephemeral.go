package api

import (
	"net/http"
	"net/url"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

const subEphemeral = "ephemeralcontainers"

// ephemeralContainers answers pods/ephemeralcontainers. Its body is a whole
// pod, of which only spec.ephemeralContainers counts.
func (s *Server) ephemeralContainers(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	switch r.Method {
	case http.MethodGet:
		return s.get(w, r, t, q)
	case http.MethodPut:
		b, err := body(w, r)
		if err != nil {
			return err
		}
		return s.changeEphemeral(w, r, t, q, func(_ view.Object, strict strictness) (view.Object, []string, error) {
			return decodeObject(b, r.Header.Get("Content-Type"), t, strict)
		})
	case http.MethodPatch:
		next, err := patcher(w, r, t)
		if err != nil {
			return err
		}
		return s.changeEphemeral(w, r, t, q, next)
	}
	return methodNotAllowed(t.gr(), r.Method)
}

func (s *Server) changeEphemeral(w http.ResponseWriter, r *http.Request, t target, q url.Values, next changer) error {
	strict, err := strictnessOf(q)
	if err != nil {
		return err
	}
	opts, err := writeOptions(q)
	if err != nil {
		return err
	}
	opts.Subresource = subEphemeral
	f, err := s.formOf(r, t.resource, q)
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		old, err := s.find(t)
		if err != nil {
			return err
		}
		given, warnings, err := next(old, strict)
		if err != nil {
			return err
		}
		unconditional := given.GetResourceVersion() == "" || r.Method == http.MethodPatch && given.GetResourceVersion() == old.GetResourceVersion()
		o, err := withEphemeral(old.(*v1.Pod), given.(*v1.Pod), t)
		if err != nil {
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

// withEphemeral is old with the ephemeral containers of another version of it.
func withEphemeral(old, given *v1.Pod, t target) (view.Object, error) {
	if err := matches(given, old, t); err != nil {
		return nil, err
	}
	pod := old.DeepCopy()
	pod.Spec.EphemeralContainers = given.Spec.EphemeralContainers
	o, err := canonical(pod)
	if err != nil {
		return nil, err
	}
	if errs := manifests.ValidateEphemeralContainers(o.(*v1.Pod), old); len(errs) > 0 {
		return nil, apierrors.NewInvalid(t.groupKind(), t.name, errs)
	}
	return o, nil
}
