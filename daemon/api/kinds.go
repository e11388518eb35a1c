package api

import (
	"encoding/json"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/api/openapi"
	"github.com/shoal-project/shoal/daemon/view"
	"github.com/shoal-project/shoal/manifests"
)

// resource is a kind in one version, as paths name it.
type resource struct {
	openapi.Resource
	subresources []subresource
	only         []string // verbs of a kind that is no object: measured, or answered and not kept; nil: all
}

type subresource struct {
	name, group, version, kind string // kind, group and version of its body
	verbs                      []string
}

// podSubresources is what kubectl looks for in discovery before it tries.
var podSubresources = []subresource{
	{"attach", "", "", "PodAttachOptions", []string{"create", "get"}},
	{"ephemeralcontainers", "", "", "Pod", []string{"get", "patch", "update"}},
	{"eviction", "policy", "v1", "Eviction", []string{"create"}},
	{"exec", "", "", "PodExecOptions", []string{"create", "get"}},
	{"log", "", "", "Pod", []string{"get"}},
	{"portforward", "", "", "PodPortForwardOptions", []string{"create", "get"}},
	{"status", "", "", "Pod", []string{"get", "patch", "update"}},
}

func (r *resource) gv() schema.GroupVersion {
	return schema.GroupVersion{Group: r.Group, Version: r.Version}
}
func (r *resource) gvk() schema.GroupVersionKind { return r.gv().WithKind(r.Kind) }
func (r *resource) gr() schema.GroupResource {
	return r.gv().WithResource(r.Resource.Resource).GroupResource()
}
func (r *resource) groupKind() schema.GroupKind { return r.gvk().GroupKind() }
func (r *resource) key(ns, name string) manifests.Key {
	return manifests.Key{Group: r.Group, Kind: r.Kind, Namespace: ns, Name: name}
}

// kinds is what the API serves, in discovery's order.
type kinds struct {
	all    []*resource
	byPath map[schema.GroupVersionResource]*resource
}

// loadKinds is every resource of Kubernetes' discovery documents that the
// scheme knows.
func loadKinds() *kinds {
	var all []openapi.Resource
	if err := json.Unmarshal([]byte(openapi.Resources), &all); err != nil {
		panic(fmt.Sprintf("embedded resources.json: %v", err))
	}
	k := &kinds{byPath: make(map[schema.GroupVersionResource]*resource)}
	for _, one := range all {
		r := &resource{Resource: one}
		if !manifests.Scheme.Recognizes(r.gvk()) {
			continue
		}
		if r.gvk() == (schema.GroupVersionKind{Version: "v1", Kind: "Pod"}) {
			r.subresources = podSubresources
		} else if scales(r) {
			r.subresources = scaleSubresources
		}
		if r.gvk() == (schema.GroupVersionKind{Version: "v1", Kind: "ServiceAccount"}) {
			r.subresources = accountSubresources
		}
		k.all = append(k.all, r)
		k.byPath[r.gv().WithResource(r.Resource.Resource)] = r
	}
	return k
}

// as is an object as clients of that version see it: a copy with its TypeMeta
// set that shares everything below the top level. It must not be changed.
func as(o view.Object, gvk schema.GroupVersionKind) (view.Object, error) {
	if _, measured := usageKinds[gvk]; measured {
		return o, nil // it was made for this answer
	}
	types, _, err := manifests.Scheme.ObjectKinds(o)
	if err != nil {
		return nil, fmt.Errorf("serve %T: %w", o, err)
	}
	if types[0].Version != gvk.Version {
		if o, err = convert(o, gvk); err != nil {
			return nil, err
		}
	}
	top := reflect.New(reflect.TypeOf(o).Elem())
	top.Elem().Set(reflect.ValueOf(o).Elem())
	out := top.Interface().(view.Object)
	out.GetObjectKind().SetGroupVersionKind(gvk)
	return out, nil
}

func convert(o view.Object, gvk schema.GroupVersionKind) (view.Object, error) {
	hub := schema.GroupVersion{Group: gvk.Group, Version: runtime.APIVersionInternal}
	internal, err := manifests.Scheme.ConvertToVersion(o, hub)
	if err != nil {
		return nil, fmt.Errorf("convert to %s: %w", gvk, err)
	}
	out, err := manifests.Scheme.ConvertToVersion(internal, gvk.GroupVersion())
	if err != nil {
		return nil, fmt.Errorf("convert to %s: %w", gvk, err)
	}
	return out.(view.Object), nil
}
