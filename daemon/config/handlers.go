package config

import (
	"maps"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Handler is how containers are run whose pods have a RuntimeClass with this
// handler. "crun" and "runc" are there without being named, where they are
// installed.
type Handler struct {
	// OCI is the OCI runtime, as Runtime.OCI; required.
	OCI string `toml:"oci"`
}

// validOCI says whether a runtime is named as it must be.
func validOCI(oci string) bool { return oci == "crun" || oci == "runc" || filepath.IsAbs(oci) }

func (r *Runtime) validateHandlers(bad func(key, value, want string, args ...any)) {
	for _, name := range slices.Sorted(maps.Keys(r.Handlers)) {
		for _, msg := range validation.IsDNS1123Label(name) {
			bad("runtime.handlers."+name, name, "%s", msg)
		}
		if oci := r.Handlers[name].OCI; !validOCI(oci) {
			bad("runtime.handlers."+name+".oci", oci, `want "crun", "runc" or an absolute path`)
		}
	}
}
