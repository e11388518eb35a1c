package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestADirectoryThatAPodsUsersMayNotPassIsNamed(t *testing.T) {
	base := t.TempDir()
	closed := filepath.Join(base, "closed")
	below := filepath.Join(closed, "below")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir, mode := range map[string]os.FileMode{filepath.Dir(base): 0o711, base: 0o755, below: 0o711, closed: 0o750} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{below, closed} {
		if err := passable(dir); err == nil || !strings.Contains(err.Error(), closed+" has mode 0750") || !strings.HasSuffix(err.Error(), "chmod o+x "+closed) {
			t.Errorf("%s: got %v", dir, err)
		}
	}
	if err := os.Chmod(closed, 0o751); err != nil {
		t.Fatal(err)
	}
	if err := passable(below); err != nil {
		t.Errorf("all are open: %v", err)
	}
}
