package scope

import (
	"maps"
	"path/filepath"
)

// Tree is where the cgroups of all pods are, for those who read them.
type Tree struct {
	// Dir is the directory of cgroup v2 that all pods are below, Path the same
	// as seen from the root of the hierarchy. Empty on a host without cgroups.
	Dir, Path string
	// V1 is where the hierarchies of cgroup v1 are mounted that pods are limited
	// by, by controller; empty where limits are in cgroup v2.
	V1 map[string]string
}

// TreeOf is where h makes cgroups.
func TreeOf(h Host) Tree {
	switch h := h.(type) {
	case *onSystemd:
		path := filepath.Join("/", h.prefix, RootSlice)
		return Tree{Dir: filepath.Join(h.root, path), Path: path}
	case *plain:
		path := filepath.Join("/", h.under, RootSlice)
		return Tree{Dir: filepath.Join(h.root, path), Path: path, V1: maps.Clone(h.v1)}
	}
	return Tree{}
}
