package api

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"reflect"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// maxOperations bounds a JSON patch, as in the apiserver.
const maxOperations = 10000

func init() {
	// A few copy operations could otherwise double a document again and again.
	jsonpatch.AccumulatedCopySizeLimit = maxBody
}

func (s *Server) patch(w http.ResponseWriter, r *http.Request, t target, q url.Values) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && types.PatchType(kind) == types.ApplyPatchType {
		return s.apply(w, r, t, q)
	}
	next, err := patcher(w, r, t)
	if err != nil {
		return err
	}
	return s.change(w, r, t, q, next)
}

// changer makes the next version of an object, and warnings.
type changer func(old view.Object, strict strictness) (view.Object, []string, error)

// patcher applies the patch in a request's body.
func patcher(w http.ResponseWriter, r *http.Request, t target) (changer, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, unsupportedPatch(r.Header.Get("Content-Type"))
	}
	switch types.PatchType(kind) {
	case types.ApplyPatchType:
		return nil, unsupportedMedia("server-side apply is served for whole objects, not for " + t.sub)
	case types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType:
	default:
		return nil, unsupportedPatch(kind)
	}
	p, err := body(w, r)
	if err != nil {
		return nil, err
	}
	return func(old view.Object, strict strictness) (view.Object, []string, error) {
		o, err := as(old, t.gvk())
		if err != nil {
			return nil, nil, err
		}
		patched, err := patched(o, types.PatchType(kind), p)
		if err != nil {
			return nil, nil, err
		}
		return decodePatched(patched, t, strict)
	}, nil
}

// decodePatched reads an object after a patch: what does not fit its kind is
// the patch's fault, 422 as upstream.
func decodePatched(b []byte, t target, strict strictness) (view.Object, []string, error) {
	o, warnings, err := decodeObject(b, runtime.ContentTypeJSON, t, strict)
	if err != nil && strict != metav1.FieldValidationStrict {
		return nil, nil, unprocessable(err)
	}
	return o, warnings, err
}

// patched is the JSON of an object after a patch.
func patched(o view.Object, kind types.PatchType, patch []byte) ([]byte, error) {
	before, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	switch kind {
	case types.JSONPatchType:
		return jsonPatched(before, patch)
	case types.MergePatchType:
		if !isObject(patch) {
			return nil, apierrors.NewBadRequest("error decoding patch: a merge patch must be a JSON object")
		}
		after, err := jsonpatch.MergePatch(before, patch)
		if err != nil {
			return nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
		}
		return after, nil
	}
	if !isObject(patch) {
		return nil, apierrors.NewBadRequest("error decoding patch: a strategic merge patch must be a JSON object")
	}
	blank, err := manifests.Scheme.New(o.GetObjectKind().GroupVersionKind())
	if err != nil {
		return nil, err
	}
	return strategic(before, patch, blank)
}

func isObject(b []byte) bool {
	var m map[string]json.RawMessage
	return json.Unmarshal(b, &m) == nil && m != nil
}

func jsonPatched(before, patch []byte) ([]byte, error) {
	p, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		return nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
	}
	if len(p) > maxOperations {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf(
			"The allowed maximum operations in a JSON patch is %d, got %d", maxOperations, len(p)))
	}
	after, err := p.Apply(before)
	if err != nil {
		return nil, unprocessable(err)
	}
	return after, nil
}

func strategic(before, patch []byte, blank runtime.Object) ([]byte, error) {
	after, err := strategicpatch.StrategicMergePatch(before, patch, reflect.ValueOf(blank).Elem().Interface())
	if err != nil {
		return nil, unprocessable(err)
	}
	return after, nil
}

func unprocessable(err error) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid,
		Message: "the server rejected our request due to an error in our request: " + err.Error(),
	}}
}

func unsupportedPatch(kind string) error {
	return unsupportedMedia(fmt.Sprintf("the body of the request was in an unknown format (%s): accepted media types include: %s, %s, %s, %s",
		kind, types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType))
}

func unsupportedMedia(message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType,
		Reason: metav1.StatusReasonUnsupportedMediaType, Message: message,
	}}
}
