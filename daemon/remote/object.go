package remote

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// digest names what an object says, the same on every node that has the same
// records: all but its resource version and, since applying changes nothing of
// that, its status. That of no object is "".
func digest(o view.Object, verb Verb) string {
	if o == nil {
		return ""
	}
	c := shallow(o)
	c.SetResourceVersion("")
	if status := reflect.ValueOf(c).Elem().FieldByName("Status"); status.IsValid() && verb == Apply {
		status.SetZero()
	}
	b, err := encode(c)
	if err != nil {
		return "unreadable" // no object of a view is
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// shallow is a copy whose own fields can be set.
func shallow(o view.Object) view.Object {
	c := reflect.New(reflect.TypeOf(o).Elem())
	c.Elem().Set(reflect.ValueOf(o).Elem())
	return c.Interface().(view.Object)
}

// encode writes an object in its kind's own version.
func encode(o view.Object) (json.RawMessage, error) {
	gvk, err := manifests.GVKFor(o)
	if err != nil {
		return nil, err
	}
	c := shallow(o)
	c.GetObjectKind().SetGroupVersionKind(gvk)
	return json.Marshal(c)
}

// decode reads what encode has written.
func decode(b json.RawMessage) (view.Object, error) {
	var meta metav1.TypeMeta
	if err := json.Unmarshal(b, &meta); err != nil {
		return nil, fmt.Errorf("an object: %w", err)
	}
	blank, err := manifests.Scheme.New(meta.GroupVersionKind())
	if err != nil {
		return nil, err
	}
	o, is := blank.(view.Object)
	if !is {
		return nil, fmt.Errorf("%s is no object", meta.Kind)
	}
	if err := json.Unmarshal(b, o); err != nil {
		return nil, fmt.Errorf("a %s: %w", meta.Kind, err)
	}
	return o, nil
}

// refusal is an error in the API's form.
type refusal metav1.Status

func (r *refusal) error() error { return &apierrors.StatusError{ErrStatus: metav1.Status(*r)} }

// resourceOf names a kind in errors.
func resourceOf(key manifests.Key) schema.GroupResource {
	return schema.GroupResource{Group: key.Group, Resource: strings.ToLower(key.Kind) + "s"}
}
