package manifests

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Key names an object in a cluster: group, kind, namespace and name. Two files
// that declare the same key declare the same object.
type Key struct {
	Group     string // "" for the core group
	Kind      string
	Namespace string // "" for cluster-scoped objects
	Name      string
}

// GroupKind is the key's kind.
func (k Key) GroupKind() schema.GroupKind { return schema.GroupKind{Group: k.Group, Kind: k.Kind} }

// String is the text form group/kind/namespace/name, with empty parts kept, so
// that it can be parsed and sorts by kind.
func (k Key) String() string {
	return k.Group + "/" + k.Kind + "/" + k.Namespace + "/" + k.Name
}

// ParseKey is the inverse of String.
func ParseKey(s string) (Key, error) {
	p := strings.Split(s, "/")
	if len(p) != 4 || p[1] == "" || p[3] == "" {
		return Key{}, fmt.Errorf("object key %q: want group/kind/namespace/name", s)
	}
	return Key{Group: p[0], Kind: p[1], Namespace: p[2], Name: p[3]}, nil
}
