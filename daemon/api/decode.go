package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

func decoder(yaml, strict bool) runtime.Serializer {
	return json.NewSerializerWithOptions(json.DefaultMetaFactory, manifests.Scheme, manifests.Scheme,
		json.SerializerOptions{Yaml: yaml, Strict: strict})
}

var (
	jsonLax    = decoder(false, false)
	jsonStrict = decoder(false, true)
	yamlLax    = decoder(true, false)
	yamlStrict = decoder(true, true)
	proto      = protobuf.NewSerializer(manifests.Scheme, manifests.Scheme)
)

const protobufType = "application/vnd.kubernetes.protobuf"

// strictness is fieldValidation (KEP-2885): what an unknown or doubled field
// leads to.
type strictness string

func strictnessOf(q url.Values) (strictness, error) {
	switch v := q.Get("fieldValidation"); v {
	case "":
		return metav1.FieldValidationWarn, nil
	case metav1.FieldValidationIgnore, metav1.FieldValidationWarn, metav1.FieldValidationStrict:
		return strictness(v), nil
	default:
		return "", apierrors.NewBadRequest(fmt.Sprintf(
			`fieldValidation: Unsupported value: %q: supported values: "Ignore", "Strict", "Warn"`, v))
	}
}

func body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxBody))
	}
	if err != nil {
		return nil, apierrors.NewBadRequest("read body: " + err.Error())
	}
	return b, nil
}

// decode reads one object of the kind that a path names.
func decode(data []byte, contentType string, gvk schema.GroupVersionKind, strict strictness) (runtime.Object, []string, error) {
	var d runtime.Decoder
	kind, _, err := mime.ParseMediaType(contentType)
	if contentType != "" && err != nil {
		return nil, nil, unsupported(contentType)
	}
	lax := strict == metav1.FieldValidationIgnore
	switch kind {
	case "", "application/json":
		d = jsonStrict
		if lax {
			d = jsonLax
		}
	case "application/yaml", "application/x-yaml":
		d = yamlStrict
		if lax {
			d = yamlLax
		}
	case protobufType:
		d = proto
	default:
		return nil, nil, unsupported(contentType)
	}
	obj, got, err := d.Decode(data, &gvk, nil)
	warnings, err := strictErrors(err, strict)
	switch {
	case err != nil:
		return nil, nil, err
	case got.GroupVersion() != gvk.GroupVersion():
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)",
			got.GroupVersion(), gvk.GroupVersion()))
	case got.Kind != gvk.Kind:
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s", got.Kind, got.Version, gvk.Kind))
	}
	return obj, warnings, nil
}

// strictErrors turns what only strict decoding minds into warnings, unless
// they are to be errors.
func strictErrors(err error, strict strictness) ([]string, error) {
	if err == nil {
		return nil, nil
	}
	found, ok := runtime.AsStrictDecodingError(err)
	if !ok || strict == metav1.FieldValidationStrict {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	var warnings []string
	for _, e := range found.Errors() {
		warnings = append(warnings, e.Error())
	}
	return warnings, nil
}

func unsupported(contentType string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: fmt.Sprintf("the body of the request was in an unknown format (%s): accepted media types include: application/json, application/yaml, %s",
			contentType, protobufType),
	}}
}

// decodeObject is decode for objects with metadata.
func decodeObject(data []byte, contentType string, t target, strict strictness) (view.Object, []string, error) {
	obj, warnings, err := decode(data, contentType, t.gvk(), strict)
	if err != nil {
		return nil, nil, err
	}
	o, ok := obj.(view.Object)
	if !ok {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("%T has no metadata", obj))
	}
	return o, warnings, nil
}

// warn adds headers that kubectl shows (RFC 7234, section 5.5).
func warn(w http.ResponseWriter, warnings []string) {
	clean := strings.NewReplacer("\n", " ", "\r", " ", `\`, `\\`, `"`, `\"`)
	for _, text := range warnings {
		w.Header().Add("Warning", `299 - "`+clean.Replace(text)+`"`)
	}
}
