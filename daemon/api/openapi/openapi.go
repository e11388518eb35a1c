// Package openapi holds Kubernetes' descriptions of its objects, trimmed and
// compressed at build time: they lie in the binary's read-only pages, not on
// the heap of a daemon that hardly anybody asks for them.
package openapi

import (
	"embed"
	"strings"
)

//go:generate go run github.com/shoal-project/shoal/daemon/api/openapi/gen

//go:embed v3/*.json.gz
var v3 embed.FS

// V2 is the OpenAPI v2 document: gzipped protobuf (gnostic's openapi.v2.Document).
//
//go:embed v2.pb.gz
var V2 string

// Resources is what discovery lists: JSON, an array of Resource.
//
//go:embed resources.json
var Resources string

// Resource is a kind that the API can serve, as Kubernetes' own discovery
// documents describe it.
type Resource struct {
	Group, Version, Resource, Singular, Kind string
	Namespaced                               bool
	ShortNames, Categories                   []string
}

// V3 is the gzipped OpenAPI v3 document of a group and version, which is named
// by its path: "api/v1", "apis/apps/v1".
func V3(path string) ([]byte, bool) {
	b, err := v3.ReadFile("v3/" + strings.ReplaceAll(path, "/", "__") + ".json.gz")
	return b, err == nil
}
