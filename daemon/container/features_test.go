package container

import (
	"os"
	"path/filepath"
	"testing"
)

func TestARuntimeTellsWhetherItHasUserNamespaces(t *testing.T) {
	for _, c := range []struct {
		name, features, version string
		want                    bool
	}{
		{"runc", `echo '{"linux":{"mountExtensions":{"idmap":{"enabled":true}}}}'`, "", true},
		{"runc", `echo '{"linux":{"mountExtensions":{"idmap":{"enabled":false}}}}'`, "runc version 1.2.0", false},
		{"runc", `echo '{"linux":{"namespaces":["user"]}}'`, "", false},
		{"runc", `exit 1`, "runc version 1.9.0", false},
		{"runc", `echo nonsense`, "", false},
		{"crun", `exit 1`, "crun version 1.8.1", true},
		{"crun", `echo '{"linux":{}}'`, "crun version 1.11", true},
		{"crun", `exit 1`, "crun version 1.7.2", false},
		{"crun", `exit 1`, "crun version 0.17", false},
		{"crun", `exit 1`, "crun version 2", true},
		{"crun", `exit 1`, "crun version UNKNOWN", false},
		{"crun", `exit 1`, "", false},
	} {
		path := filepath.Join(t.TempDir(), c.name)
		script := "#!/bin/sh\ncase $1 in features) " + c.features + ";; --version) echo \"" + c.version + "\"; echo commit: 1;; esac\n"
		if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := UserNamespaces(t.Context(), path); (err == nil) != c.want {
			t.Errorf("%s, features: %s, %q: got %v", c.name, c.features, c.version, err)
		}
	}
	if err := UserNamespaces(t.Context(), "/nonexistent/crun"); err == nil {
		t.Error("a missing runtime has them")
	}
}
