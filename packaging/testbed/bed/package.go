package bed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Package is the path of the Debian package to test: $SHOAL_DEB, or one that is built, once, from the tree that the current
// directory is in.
var Package = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("SHOAL_DEB"); path != "" {
		return filepath.Abs(path)
	}
	module, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	top := filepath.Dir(strings.TrimSpace(string(module)))
	if out, err := exec.Command("make", "-s", "-C", top, "deb").CombinedOutput(); err != nil {
		return "", fmt.Errorf("make deb: %w: %s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(top, "bin", "shoal_*.deb"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("want one package in bin, got %q (%w)", found, err)
	}
	return found[0], nil
})
