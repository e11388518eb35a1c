package manifests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckPath(t *testing.T) {
	dir := t.TempDir()
	tmp := filepath.Join(dir, ".ansible_tmpAbC") // the name that Ansible's validate has
	if err := os.WriteFile(tmp, []byte(configMap("ok")), 0o600); err != nil {
		t.Fatal(err)
	}
	if set, err := CheckPath(tmp); err != nil || len(set.Claims) != 1 || len(set.AllProblems()) > 0 {
		t.Errorf("a file of another name: %v, %v", set, err)
	}
	for name, text := range map[string]string{"a.yaml": configMap("a"), "b.yaml": configMap("a"), "sub/c.yaml": "kind: Pod\n"} {
		os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set, err := CheckPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := `
DIR/a.yaml 1 objects
DIR/b.yaml 1 objects
DIR/sub/c.yaml refused, nothing in force
claim /ConfigMap/default/a at DIR/a.yaml:1:1, over DIR/b.yaml:1:1
problem DIR/b.yaml:1:1: ConfigMap default/a is already declared at DIR/a.yaml:1:1, which counts; this one is passed over
problem DIR/sub/c.yaml:1:1: apiVersion: Required value: every object needs an apiVersion and a kind
`
	if got := strings.ReplaceAll(set.String(), dir, "DIR"); got != want[1:] {
		t.Errorf("got:\n%s\nwant:%s", got, want)
	}
	for _, path := range []string{filepath.Join(dir, "nothing"), "/dev/null"} {
		if _, err := CheckPath(path); err == nil {
			t.Errorf("%s was read", path)
		}
	}
}
