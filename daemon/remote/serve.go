package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

type askerKey struct{}

// Asker is the node that was asked for the write that is carried out, "" for this
// one. It waits to see the outcome.
func Asker(ctx context.Context) string {
	node, _ := ctx.Value(askerKey{}).(string)
	return node
}

// Serve carries out a write that another node was asked for.
func (w *Writer) Serve(from string, rw http.ResponseWriter, r *http.Request) {
	var in write
	b, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, mostBody))
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	if err != nil || r.Method != http.MethodPost {
		http.Error(rw, fmt.Sprintf("no write: %v", err), http.StatusBadRequest)
		return
	}
	key, err := manifests.ParseKey(in.Key)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	out := w.carryOut(context.WithValue(r.Context(), askerKey{}, from), from, key, in)
	code := http.StatusOK
	if out.Refused != nil {
		code = int(out.Refused.Code)
	}
	w.Log.Info("api_request", "method", in.Verb, "path", in.Key, "status", code, "node", from)
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(out) // who went away looks again
}

// carryOut does a write here, if this node is the one to do it and has the object
// that the write was made from.
func (w *Writer) carryOut(ctx context.Context, from string, key manifests.Key, in write) (out outcome) {
	home, err := w.Home(ctx, in.Verb, key)
	if err == nil && home != w.Node {
		e := apierrors.NewServiceUnavailable(fmt.Sprintf("node %s was asked by node %s to write %s, about which node %s decides as node %s sees the cluster: try again", w.Node, from, named(key), home, w.Node))
		e.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1} // clients do
		err = e
	}
	if err != nil {
		return refused(err)
	}
	old, exists := w.View.Get(key)
	if !exists {
		old = nil
	}
	switch has := digest(old, in.Verb); {
	case old == nil && (in.Saw != "" || in.Verb == Delete):
		return refused(apierrors.NewNotFound(resourceOf(key), key.Name))
	case in.Saw != "" && in.Saw != has:
		out = refused(modified(key))
		out.Has = has
		return out
	}
	var result view.Object
	if in.Verb == Delete {
		if in.Saw != "" { // and if it changes before it is deleted
			rv := old.GetResourceVersion()
			in.Delete.Preconditions.ResourceVersion = &rv
		}
		result, out.Warnings, err = w.Local.Delete(ctx, key, in.Delete)
	} else {
		result, out.Warnings, err = w.put(ctx, key, old, in)
	}
	if err != nil {
		return refused(err)
	}
	if out.Object, err = encode(result); err != nil {
		return refused(err)
	}
	return out
}

// put writes an object over old, which is the one that it was made from.
func (w *Writer) put(ctx context.Context, key manifests.Key, old view.Object, in write) (view.Object, []string, error) {
	o, err := decode(in.Object)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	if is, err := manifests.KeyOf(o); err != nil || is != key {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("the object is %s, not %s (%v)", is, key, err))
	}
	o.SetResourceVersion("")
	if old != nil && in.Saw != "" {
		o.SetResourceVersion(old.GetResourceVersion())
	}
	if errs := invalid(o, old, in); len(errs) > 0 {
		return nil, nil, apierrors.NewInvalid(key.GroupKind(), key.Name, errs)
	}
	if in.Verb == Apply {
		return w.Local.Apply(ctx, o, in.Write)
	}
	pod, is := o.(*v1.Pod)
	if !is || in.Verb != ApplyStatus || old == nil {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("%s of %s: want apply, or status of a pod", in.Verb, key))
	}
	result, err := w.Local.ApplyStatus(ctx, pod, in.Write)
	return result, nil, err
}

// invalid is what is wrong with an object that an older or newer version let
// through.
func invalid(o, old view.Object, in write) field.ErrorList {
	pod, isPod := o.(*v1.Pod)
	was, _ := old.(*v1.Pod)
	switch {
	case in.Verb != Apply:
		return nil // its writer checks conditions
	case old == nil:
		return manifests.Validate(o)
	case isPod && was != nil && in.Write.Subresource != "":
		return manifests.ValidateEphemeralContainers(pod, was)
	}
	return manifests.ValidateUpdate(o, old)
}

// refused is an error on its way to the node that asked.
func refused(err error) outcome {
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	r := refusal(known.Status())
	return outcome{Refused: &r}
}
