package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
)

// v2 writes the OpenAPI v2 document as protobuf, the only form that kubectl
// before 1.24 (Debian 12 has 1.20) asks for.
func v2(api string) error {
	var doc map[string]any
	if err := read(filepath.Join(api, "openapi-spec/swagger.json"), &doc); err != nil {
		return err
	}
	stubs(doc, func(name string) any {
		return map[string]any{"in": "query", "name": name, "type": "string"}
	})
	paths := doc["paths"].(map[string]any)
	for path := range paths {
		if !slices.ContainsFunc(groupVersions, func(gv string) bool { return strings.HasPrefix(path, "/"+root(gv)+"/") }) {
			delete(paths, path)
		}
	}
	doc["definitions"] = reachable(doc["definitions"].(map[string]any))
	delete(doc, "security")
	delete(doc, "securityDefinitions")
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	parsed, err := openapi_v2.ParseDocument(b)
	if err != nil {
		return err
	}
	b, err = proto.MarshalOptions{Deterministic: true}.Marshal(parsed)
	if err != nil {
		return err
	}
	return compressed(filepath.Join(out, "v2.pb.gz"), b)
}

// reachable is the definitions of the kinds in groupVersions and all that they
// refer to.
func reachable(all map[string]any) map[string]any {
	kept := map[string]any{}
	var keep func(name string)
	var follow func(v any)
	keep = func(name string) {
		if _, done := kept[name]; done || all[name] == nil {
			return
		}
		kept[name] = all[name]
		follow(all[name])
	}
	follow = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				keep(strings.TrimPrefix(ref, "#/definitions/"))
			}
			for _, e := range v {
				follow(e)
			}
		case []any:
			for _, e := range v {
				follow(e)
			}
		}
	}
	for name, def := range all {
		kinds, _ := def.(map[string]any)["x-kubernetes-group-version-kind"].([]any)
		for _, k := range kinds {
			m := k.(map[string]any)
			gv := m["version"].(string)
			if g := m["group"].(string); g != "" {
				gv = g + "/" + gv
			}
			if len(kinds) == 1 && slices.Contains(groupVersions, gv) {
				keep(name)
			}
		}
	}
	return kept
}
