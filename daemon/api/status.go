package api

import (
	"net/http"
	"net/url"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/shoal-project/shoal/daemon/view"
)

// changeStatus answers PUT and PATCH of a pod's status: others than the node set
// conditions there, for readiness gates. Of the rest of the object nothing is
// taken, as upstream.
func (s *Server) changeStatus(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
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
	next, err := changeBy(w, r, t)
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
		if err := fitsPath(o, t); err != nil {
			return err
		}
		pod := old.DeepCopyObject().(*v1.Pod)
		pod.Status = o.(*v1.Pod).Status
		unconditional := o.GetResourceVersion() == "" || o.GetResourceVersion() == old.GetResourceVersion() && r.Method == http.MethodPatch
		if rv := o.GetResourceVersion(); rv != "" && rv != old.GetResourceVersion() {
			return apierrors.NewConflict(t.gr(), t.name, errModified)
		}
		if uid := o.GetUID(); uid != "" && uid != old.GetUID() {
			return apierrors.NewConflict(t.gr(), t.name, errPrecondition)
		}
		out, err := s.Writer.ApplyStatus(r.Context(), pod, opts)
		if apierrors.IsConflict(err) && unconditional && attempt < attempts {
			continue
		}
		if err != nil {
			return err
		}
		warn(w, warnings)
		return s.reply(w, f, http.StatusOK, out)
	}
}

// changeBy is what a PUT or PATCH makes of an object.
func changeBy(w http.ResponseWriter, r *http.Request, t target) (changer, error) {
	if r.Method == http.MethodPatch {
		return patcher(w, r, t)
	}
	b, err := body(w, r)
	if err != nil {
		return nil, err
	}
	contentType := r.Header.Get("Content-Type")
	return func(_ view.Object, strict strictness) (view.Object, []string, error) {
		return decodeObject(b, contentType, t, strict)
	}, nil
}
