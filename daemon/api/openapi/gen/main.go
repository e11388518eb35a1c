// Command gen makes the documents that package openapi embeds, from the
// specifications which the module k8s.io/kubernetes carries (Apache-2.0).
//
//	go generate ./daemon/api/openapi
//
// It keeps the groups that Shoal serves, every schema that they reach, and of
// the paths only what kubectl looks at: the kind of a path, and whether PATCH
// takes fieldValidation and dryRun. That makes 1 MB out of 16.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shoal-project/shoal/daemon/api/openapi"
)

// out is where they go, seen from the directory of go generate.
const out = "."

// groupVersions is what the node's API can serve, in the order in which
// discovery lists it; package api drops what manifests.Scheme does not know.
var groupVersions = []string{
	"v1", "apps/v1", "autoscaling/v2", "autoscaling/v1", "batch/v1", "networking.k8s.io/v1", "policy/v1",
	"rbac.authorization.k8s.io/v1", "storage.k8s.io/v1", "admissionregistration.k8s.io/v1", "scheduling.k8s.io/v1",
	"coordination.k8s.io/v1", "node.k8s.io/v1", "discovery.k8s.io/v1",
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes").Output()
	if err != nil {
		return fmt.Errorf("find k8s.io/kubernetes: %w", err)
	}
	api := filepath.Join(strings.TrimSpace(string(module)), "api")
	if err := os.MkdirAll(filepath.Join(out, "v3"), 0o755); err != nil {
		return err
	}
	for _, gv := range groupVersions {
		if err := v3(api, gv); err != nil {
			return fmt.Errorf("OpenAPI v3 of %s: %w", gv, err)
		}
	}
	if err := v2(api); err != nil {
		return fmt.Errorf("OpenAPI v2: %w", err)
	}
	return resources(api)
}

// v3 writes the OpenAPI v3 document of one group and version.
func v3(api, gv string) error {
	var doc map[string]any
	name := strings.ReplaceAll(root(gv), "/", "__") + "_openapi.json"
	if err := read(filepath.Join(api, "openapi-spec/v3", name), &doc); err != nil {
		return err
	}
	stubs(doc, func(name string) any {
		return map[string]any{"in": "query", "name": name, "schema": map[string]any{"type": "string"}}
	})
	delete(doc["components"].(map[string]any), "securitySchemes")
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return compressed(filepath.Join(out, "v3", strings.ReplaceAll(root(gv), "/", "__")+".json.gz"), b)
}

// stubs reduces the paths of a document to what kubectl asks of them.
func stubs(doc map[string]any, parameter func(name string) any) {
	paths := doc["paths"].(map[string]any)
	for path, item := range paths {
		stub := map[string]any{}
		for _, verb := range []string{"get", "patch"} {
			op, ok := item.(map[string]any)[verb].(map[string]any)
			if !ok || op["x-kubernetes-group-version-kind"] == nil || strings.Contains(path, "/watch/") {
				continue
			}
			kept := map[string]any{
				"x-kubernetes-group-version-kind": op["x-kubernetes-group-version-kind"],
				"responses":                       map[string]any{"200": map[string]any{"description": "OK"}},
			}
			if verb == "patch" {
				kept["parameters"] = []any{parameter("dryRun"), parameter("fieldValidation")}
			}
			stub[verb] = kept
		}
		if len(stub) == 0 {
			delete(paths, path)
			continue
		}
		paths[path] = stub
	}
}

// resources writes the resources of every group and version, taken from the
// discovery documents. What has not all eight verbs is no object: left out.
func resources(api string) error {
	var all []openapi.Resource
	for _, gv := range groupVersions {
		var list struct {
			Resources []struct {
				Name, SingularName, Kind string
				Namespaced               bool
				ShortNames, Categories   []string
				Verbs                    []string
			}
		}
		if err := read(filepath.Join(api, "discovery", strings.ReplaceAll(root(gv), "/", "__")+".json"), &list); err != nil {
			return err
		}
		group, version, ok := strings.Cut(gv, "/")
		if !ok {
			group, version = "", gv
		}
		for _, r := range list.Resources {
			if strings.Contains(r.Name, "/") || !slices.Contains(r.Verbs, "list") {
				continue
			}
			if !slices.Contains(r.Verbs, "watch") {
				continue
			}
			all = append(all, openapi.Resource{
				Group: group, Version: version, Resource: r.Name, Singular: r.SingularName, Kind: r.Kind,
				Namespaced: r.Namespaced, ShortNames: r.ShortNames, Categories: r.Categories,
			})
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		return err
	}
	b = bytes.ReplaceAll(b, []byte("},{"), []byte("},\n{"))
	return os.WriteFile(filepath.Join(out, "resources.json"), append(b, '\n'), 0o644)
}

// root is a group and version's path: api/v1, apis/apps/v1.
func root(gv string) string {
	if !strings.Contains(gv, "/") {
		return "api/" + gv
	}
	return "apis/" + gv
}

func read(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

func compressed(path string, b []byte) error {
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(b); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, buf.Bytes(), 0o644)
}
