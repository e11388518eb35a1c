package api

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"github.com/shoal-project/shoal/daemon/api/openapi"
	"github.com/shoal-project/shoal/manifests"
)

// fieldTypes knows the fields of kinds as server-side apply must: which lists
// are maps by which keys, what is atomic. A kind's are read from its OpenAPI
// document when it is first asked for and forgotten when nobody applies any
// more: they take megabytes. Its zero value is ready, for concurrent use.
type fieldTypes struct {
	mu     sync.Mutex
	known  map[schema.GroupVersionKind]managedfields.TypeConverter
	forget *time.Timer
}

// forgetAfter is how long kinds' fields are kept after they were last used: a
// person's next apply, or a tool's over many objects, finds them.
const forgetAfter = time.Minute

// ObjectToTyped implements managedfields.TypeConverter.
func (f *fieldTypes) ObjectToTyped(o runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	c, err := f.of(o.GetObjectKind().GroupVersionKind())
	if err != nil {
		return nil, err
	}
	return c.ObjectToTyped(o, opts...)
}

// TypedToObject implements managedfields.TypeConverter. It needs no kind's fields.
func (f *fieldTypes) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	return managedfields.NewDeducedTypeConverter().TypedToObject(v)
}

func (f *fieldTypes) of(gvk schema.GroupVersionKind) (managedfields.TypeConverter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.forget == nil {
		f.forget = time.AfterFunc(forgetAfter, f.drop)
	}
	f.forget.Reset(forgetAfter)
	if c := f.known[gvk]; c != nil {
		return c, nil
	}
	schemas, err := schemasOf(gvk)
	if err != nil {
		return nil, err
	}
	c, err := managedfields.NewTypeConverter(schemas, false)
	if err != nil {
		return nil, fmt.Errorf("fields of %s: %w", gvk, err)
	}
	if f.known == nil {
		f.known = make(map[schema.GroupVersionKind]managedfields.TypeConverter)
	}
	f.known[gvk] = c
	return c, nil
}

func (f *fieldTypes) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = nil
}

// manager merges what is applied to objects of a kind, and keeps the books on
// who set which field.
func (f *fieldTypes) manager(gvk schema.GroupVersionKind) (*managedfields.FieldManager, error) {
	// A status is the node's to write: it is nobody's field here, as with the
	// reset fields of upstream's strategies.
	status := fieldpath.NewExcludeSetFilter(fieldpath.NewSet(fieldpath.MakePathOrDie("status")))
	reset := map[fieldpath.APIVersion]fieldpath.Filter{fieldpath.APIVersion(gvk.GroupVersion().String()): status}
	hub := schema.GroupVersion{Group: gvk.Group, Version: runtime.APIVersionInternal}
	return managedfields.NewDefaultFieldManager(f, manifests.Scheme, manifests.Scheme, manifests.Scheme, gvk, hub, "", reset)
}

const schemaRef = "#/components/schemas/"

// schemasOf is a kind's schema and those that it refers to, by name.
func schemasOf(gvk schema.GroupVersionKind) (map[string]*spec.Schema, error) {
	path := "apis/" + gvk.GroupVersion().String()
	if gvk.Group == "" {
		path = "api/" + gvk.Version
	}
	b, ok := openapi.V3(path)
	if !ok {
		return nil, fmt.Errorf("the fields of %s are not known here", gvk)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("fields of %s: %w", gvk, err)
	}
	var doc struct {
		Components struct {
			Schemas map[string]json.RawMessage `json:"schemas"`
		} `json:"components"`
	}
	if err := json.NewDecoder(z).Decode(&doc); err != nil {
		return nil, fmt.Errorf("fields of %s: %w", gvk, err)
	}
	all := doc.Components.Schemas
	root, err := schemaNamed(all, gvk)
	if err != nil {
		return nil, err
	}
	found := make(map[string]*spec.Schema)
	for todo := []string{root}; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		if found[name] != nil {
			continue
		}
		s := &spec.Schema{}
		if err := json.Unmarshal(all[name], s); err != nil {
			return nil, fmt.Errorf("fields of %s: %s: %w", gvk, name, err)
		}
		found[name] = s
		todo = append(todo, refs(all[name])...)
	}
	return found, nil
}

// schemaNamed finds the name of a kind's schema.
func schemaNamed(all map[string]json.RawMessage, gvk schema.GroupVersionKind) (string, error) {
	for name, raw := range all {
		if !strings.HasSuffix(name, "."+gvk.Kind) {
			continue
		}
		var s struct {
			Kinds []schema.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
		}
		if json.Unmarshal(raw, &s) == nil && len(s.Kinds) == 1 && s.Kinds[0] == gvk {
			return name, nil
		}
	}
	return "", fmt.Errorf("the fields of %s are not known here", gvk)
}

// refs are the names of the schemas that a schema refers to.
func refs(raw []byte) (names []string) {
	for _, part := range strings.Split(string(raw), `"`+schemaRef)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		names = append(names, name)
	}
	return names
}
