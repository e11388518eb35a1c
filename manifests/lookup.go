package manifests

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// wrongType is an apiVersion and kind that cannot be declared.
type wrongType struct {
	field, message, suggestion string
}

// The release of Kubernetes whose types these are. API versions that it does
// not serve any more are refused, though their Go types exist.
const majorRelease, minorRelease = 1, 36

// newObject makes an empty object for an apiVersion and kind.
func newObject(apiVersion, kind string) (runtime.Object, *wrongType) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil, &wrongType{"apiVersion", fmt.Sprintf("expected group/version, such as apps/v1, found %q", apiVersion), ""}
	}
	gvk := gv.WithKind(kind)
	known, declared := kinds[gvk.GroupKind()]
	if obj, err := Scheme.New(gvk); err == nil && gv.Version != runtime.APIVersionInternal {
		removed, replacement := lifecycle(obj)
		switch {
		case declared && !removed:
			return obj, nil
		case removed:
			return nil, &wrongType{"apiVersion", fmt.Sprintf("no matches for kind %q in version %q: it was removed from Kubernetes", kind, apiVersion), replacement}
		}
		return nil, &wrongType{"kind", fmt.Sprintf("%s is not an object that a file can declare", kind), ""}
	}
	w := &wrongType{"apiVersion", fmt.Sprintf("no matches for kind %q in version %q", kind, apiVersion), ""}
	switch {
	case declared:
		w.suggestion = schema.GroupVersion{Group: gv.Group, Version: known.version}.String()
	case gv.Group == "kustomize.config.k8s.io":
		w.field = "kind"
		w.message = "a kustomization is built, not run: put the output of kustomize build here"
	case gv.Group == "apiextensions.k8s.io":
		w.field = "kind"
		w.message += ": Shoal has no custom resources"
	default:
		w.guess(gv, kind)
	}
	return nil, w
}

// guess finds what was meant: the kind in another group, a kind of a similar
// name, or a group of a similar name.
func (w *wrongType) guess(gv schema.GroupVersion, kind string) {
	inGroup, groups := map[string]string{}, []string{}
	byKind := map[string]string{}
	for gk, k := range kinds {
		apiVersion := schema.GroupVersion{Group: gk.Group, Version: k.version}.String()
		byKind[gk.Kind] = apiVersion
		if gk.Group == gv.Group {
			inGroup[gk.Kind] = apiVersion
		}
		groups = append(groups, apiVersion)
	}
	if apiVersion, ok := byKind[kind]; ok {
		w.suggestion = apiVersion
		return
	}
	w.field = "kind"
	if guess := closest(kind, keysOf(inGroup)); guess != "" {
		w.suggestion = guess
	} else if guess := closest(kind, keysOf(byKind)); guess != "" {
		w.suggestion = fmt.Sprintf("kind %s in %s", guess, byKind[guess])
	} else if len(inGroup) == 0 {
		w.field = "apiVersion"
		w.suggestion = closest(gv.String(), groups)
		w.message += ": Shoal has no custom resources"
	}
}

// lifecycle says whether a type's version is no longer served, and by what it
// was replaced.
func lifecycle(obj runtime.Object) (removed bool, replacement string) {
	versioned, ok := obj.(interface{ APILifecycleRemoved() (major, minor int) })
	if !ok {
		return false, ""
	}
	major, minor := versioned.APILifecycleRemoved()
	if major > majorRelease || major == majorRelease && minor > minorRelease {
		return false, ""
	}
	if by, ok := obj.(interface {
		APILifecycleReplacement() schema.GroupVersionKind
	}); ok {
		gvk := by.APILifecycleReplacement()
		return true, gvk.GroupVersion().String()
	}
	return true, ""
}

// isList says whether an object is a list of objects to take apart.
func isList(apiVersion, kind string, n *node) bool {
	if _, ok := n.fields["items"]; !ok || !strings.HasSuffix(kind, "List") {
		return false
	}
	gv, err := schema.ParseGroupVersion(apiVersion)
	return err == nil && (kind == "List" && apiVersion == "v1" || Scheme.Recognizes(gv.WithKind(kind)))
}

func keysOf[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
