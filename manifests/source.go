package manifests

import (
	"path/filepath"
	"strings"
)

// Source is a directory whose files declare objects. Of two sources that
// declare one object the one of higher precedence wins.
type Source struct {
	Dir        string `json:"dir"` // absolute
	Precedence int    `json:"precedence"`
	// Written files are the API's own: metadata.managedFields counts in them.
	Written bool `json:"written,omitempty"`
}

// StandardSources are the directories of the host's root ("/", another in
// tests): people's, the running system's, the API's, packages'.
func StandardSources(root string) []Source {
	return []Source{
		{Dir: filepath.Join(root, "etc/shoal/manifests"), Precedence: 4},
		{Dir: filepath.Join(root, "run/shoal/manifests"), Precedence: 3},
		{Dir: filepath.Join(root, "var/lib/shoal/manifests"), Precedence: 2, Written: true},
		{Dir: filepath.Join(root, "usr/lib/shoal/manifests"), Precedence: 1},
	}
}

// StaticPods is the directory of pods that are this host's alone. It is no
// standard source: what it declares is not shared, so it has a Reader of its own.
func StaticPods(root string) Source {
	return Source{Dir: filepath.Join(root, "etc/shoal/static-pods")}
}

// temporary says whether a name is one of those under which editors, package
// managers and deployment tools keep a file for a moment. Such files, and
// hidden ones, are not even mentioned.
func temporary(name string) bool {
	switch {
	case strings.HasPrefix(name, "."), // .x.swp, .#x, .ansible_tmpX, .git, ..data
		strings.HasPrefix(name, "#"), // emacs
		strings.HasSuffix(name, "~"),
		name == "4913": // vim, to see whether it may write here
		return true
	}
	for _, suffix := range []string{".swp", ".swx", ".swo", ".tmp", ".temp", ".bak", ".orig", ".rej", ".part"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	for _, part := range []string{".dpkg-", ".ucf-", ".ansible_tmp", ".rpmnew", ".rpmsave"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// isManifest says whether a file of this name is read.
func isManifest(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// ignored is why a file that is no temporary one is not read; "" if it is.
func ignored(name string) string {
	switch {
	case !isManifest(name):
		return "its name does not end in .yaml, .yml or .json"
	case strings.EqualFold(strings.TrimSuffix(name, filepath.Ext(name)), "kustomization"):
		return "a kustomization is built, not run: put the output of kustomize build here"
	}
	return ""
}

// chartFile marks a directory as a Helm chart, whose files are templates.
const chartFile = "Chart.yaml"
