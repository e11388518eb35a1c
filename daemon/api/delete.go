package api

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/view"
)

// deleteOptions reads the options from the body, and from the query what the
// body leaves out.
func deleteOptions(w http.ResponseWriter, r *http.Request, t target, q url.Values) (DeleteOptions, error) {
	var in metav1.DeleteOptions
	b, err := body(w, r)
	if err != nil {
		return DeleteOptions{}, err
	}
	if len(b) > 0 {
		// Clients name the kind in the core group or in the object's.
		o, _, err := decode(b, r.Header.Get("Content-Type"), t.gv().WithKind("DeleteOptions"), metav1.FieldValidationIgnore)
		if err != nil {
			o, _, err = decode(b, r.Header.Get("Content-Type"), schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}, metav1.FieldValidationIgnore)
		}
		if err != nil {
			return DeleteOptions{}, err
		}
		in = *o.(*metav1.DeleteOptions)
	} else if err := deleteQuery(q, &in); err != nil {
		return DeleteOptions{}, err
	}
	dry, err := dryRun(append(in.DryRun, q["dryRun"]...))
	if err != nil {
		return DeleteOptions{}, err
	}
	out := DeleteOptions{DryRun: dry, GraceSeconds: in.GracePeriodSeconds}
	if out.GraceSeconds != nil && *out.GraceSeconds < 0 {
		return out, apierrors.NewBadRequest("gracePeriodSeconds must not be negative")
	}
	if in.Preconditions != nil {
		out.Preconditions = *in.Preconditions
	}
	if in.PropagationPolicy != nil {
		out.Propagation = *in.PropagationPolicy
	}
	allowed := []metav1.DeletionPropagation{"", metav1.DeletePropagationOrphan, metav1.DeletePropagationBackground, metav1.DeletePropagationForeground}
	if !slices.Contains(allowed, out.Propagation) {
		return out, apierrors.NewBadRequest("propagationPolicy must be Orphan, Background or Foreground")
	}
	return out, nil
}

func deleteQuery(q url.Values, in *metav1.DeleteOptions) error {
	if v := q.Get("gracePeriodSeconds"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return badParameter("gracePeriodSeconds", err)
		}
		in.GracePeriodSeconds = &n
	}
	if v := metav1.DeletionPropagation(q.Get("propagationPolicy")); v != "" {
		in.PropagationPolicy = &v
	}
	return nil
}

func (s *Server) delete(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	opts, err := deleteOptions(w, r, t, q)
	if err != nil {
		return err
	}
	f, err := s.formOf(r, t.resource, q)
	if err != nil {
		return err
	}
	o, err := s.find(t)
	if err != nil {
		return err
	}
	if err := meets(o, t, opts.Preconditions); err != nil {
		return err
	}
	namespace := t.groupKind() == schema.GroupKind{Kind: "Namespace"}
	if namespace {
		if err := s.emptyNamespace(r.Context(), t, opts); err != nil {
			return err
		}
	}
	out, warnings, err := s.Writer.Delete(r.Context(), t.key(), opts)
	if err != nil {
		return err
	}
	warn(w, warnings)
	// Upstream returns pods, and whatever takes its time to go; of the rest it
	// says that they are gone.
	if t.groupKind() == (schema.GroupKind{Kind: "Pod"}) || out.GetDeletionTimestamp() != nil {
		return s.reply(w, f, http.StatusOK, out)
	}
	writeJSON(w, http.StatusOK, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{Name: t.name, Group: t.Group, Kind: t.Resource.Resource, UID: o.GetUID()},
	})
	return nil
}

// meets checks what the client believes of the object it deletes.
func meets(o view.Object, t target, p metav1.Preconditions) error {
	if p.UID != nil && *p.UID != o.GetUID() || p.ResourceVersion != nil && *p.ResourceVersion != o.GetResourceVersion() {
		return apierrors.NewConflict(t.gr(), t.name, errPrecondition)
	}
	return nil
}

// emptyNamespace deletes what is in a namespace: all of it, or, when something
// in there may not be deleted, nothing.
func (s *Server) emptyNamespace(ctx context.Context, t target, opts DeleteOptions) error {
	if slices.Contains([]string{"default", "kube-system", "kube-public", "kube-node-lease"}, t.name) {
		return apierrors.NewForbidden(t.gr(), t.name, errKept)
	}
	var contents []target
	seen := map[schema.GroupKind]bool{}
	for _, k := range s.kinds.all {
		if !k.Namespaced || k.Kind == "Event" && k.Group == "" || seen[k.groupKind()] {
			continue
		}
		seen[k.groupKind()] = true
		list, _ := s.View.List(k.groupKind(), t.name)
		for _, o := range list {
			if metav1.GetControllerOf(o) != nil {
				continue // it goes with its owner, and would come back before
			}
			contents = append(contents, target{resource: k, namespace: t.name, name: o.GetName()})
		}
	}
	dry, inner := true, DeleteOptions{GraceSeconds: opts.GraceSeconds}
	for range 2 {
		inner.DryRun = dry || opts.DryRun
		for _, c := range contents {
			if _, _, err := s.Writer.Delete(ctx, c.key(), inner); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsMethodNotSupported(err) {
				return err // but what every namespace has goes with it
			}
		}
		dry = false
	}
	return nil
}

// deleteCollection deletes what matches, one after the other, and answers with
// the list of what it deleted.
func (s *Server) deleteCollection(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	opts, err := deleteOptions(w, r, t, q)
	if err != nil {
		return err
	}
	f, err := s.formOf(r, t.resource, q)
	if err != nil {
		return err
	}
	match, err := selectorOf(t.resource, q)
	if err != nil {
		return err
	}
	if t.Namespaced && t.namespace == "" || t.Kind == "Namespace" {
		return methodNotAllowed(t.gr(), "deletecollection")
	}
	all, err := pageOf(s.View, t, url.Values{}, match)
	if err != nil {
		return err
	}
	deleted := page{meta: all.meta}
	var warnings []string
	for _, o := range all.items {
		one := t
		one.name = o.GetName()
		out, more, err := s.Writer.Delete(r.Context(), one.key(), opts)
		if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
			continue
		}
		if err != nil {
			return err
		}
		deleted.items = append(deleted.items, out)
		for _, text := range more {
			if !slices.Contains(warnings, text) {
				warnings = append(warnings, text)
			}
		}
	}
	warn(w, warnings)
	w.Header().Set("Content-Type", "application/json")
	return f.list(w, deleted.meta, deleted.items)
}
