package api

import (
	"net/http"
	"net/url"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// evict deletes a pod if its disruption budget allows it (policy/v1 Eviction).
func (s *Server) evict(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	b, err := body(w, r)
	if err != nil {
		return err
	}
	o, _, err := decode(b, r.Header.Get("Content-Type"), policyv1.SchemeGroupVersion.WithKind("Eviction"), metav1.FieldValidationIgnore)
	if err != nil {
		return err
	}
	e := o.(*policyv1.Eviction)
	if e.Name != "" && e.Name != t.name {
		return apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	opts := DeleteOptions{Evict: true}
	dry := q["dryRun"]
	if in := e.DeleteOptions; in != nil {
		opts.GraceSeconds = in.GracePeriodSeconds
		if in.Preconditions != nil {
			opts.Preconditions = *in.Preconditions
		}
		dry = append(dry, in.DryRun...)
	}
	if opts.GraceSeconds != nil && *opts.GraceSeconds < 0 {
		return apierrors.NewBadRequest("gracePeriodSeconds must not be negative")
	}
	if opts.DryRun, err = dryRun(dry); err != nil {
		return err
	}
	if _, err := s.find(t); err != nil {
		return err
	}
	if _, _, err := s.Writer.Delete(r.Context(), t.key(), opts); err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess})
	return nil
}
