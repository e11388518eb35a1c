package container

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEachContainerKeepsItsOCIRuntime: whoever made a container is asked for all
// that is done with it, by a daemon that was configured otherwise, too.
func TestEachContainerKeepsItsOCIRuntime(t *testing.T) {
	b := newBed(t)
	said := filepath.Join(t.TempDir(), "said")
	own := filepath.Join(t.TempDir(), filepath.Base(b.oci("")))
	script := fmt.Sprintf("#!/bin/sh\necho \"$@\" >>%s\nexec %s \"$@\"\n", said, b.oci(""))
	if err := os.WriteFile(own, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := b.config("echo alive; sleep 1000")
	cfg.OCI = own
	b.create(cfg)
	other := &Runtime{
		Conmon: b.Conmon, OCI: "/nonexistent/runtime", Root: b.Root, ExitDir: b.ExitDir, CgroupManager: b.CgroupManager, Log: b.Runtime.Log,
	}
	if err := other.Start(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := other.Exec(t.Context(), cfg.Dir, ExecOptions{Cmd: []string{"echo", "inside"}, Stdout: &out}); err != nil {
		t.Error(err)
	}
	if err := other.Delete(t.Context(), cfg.Dir); err != nil {
		t.Error(err)
	}
	text, _ := os.ReadFile(said)
	for _, verb := range []string{"create", "exec", "delete"} {
		if !strings.Contains(string(text), " "+verb+" ") {
			t.Errorf("its own runtime was not asked to %s: %s", verb, text)
		}
	}
	if out.String() != "inside\n" {
		t.Errorf("got %q", out.String())
	}
}
