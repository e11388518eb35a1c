package volume

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Linux limits names to NAME_MAX and paths to PATH_MAX bytes.
const (
	maxName = 255
	maxPath = 4096
)

// checkPath refuses a path that could leave the volume or take one of the writer's own names, in the words of
// Kubernetes' AtomicWriter (pkg/volume/util/atomic_writer.go validatePath).
func checkPath(p string) error {
	switch clean := path.Clean(p); {
	case p == "" || clean == ".":
		return fmt.Errorf("invalid path: must not be empty: %q", p)
	case path.IsAbs(p):
		return fmt.Errorf("invalid path: must be relative path: %s", p)
	case len(p) > maxPath:
		return fmt.Errorf("invalid path: must be less than or equal to %d characters", maxPath)
	case strings.ContainsRune(p, 0):
		return fmt.Errorf("invalid path: must not contain a zero byte: %q", p)
	case strings.HasPrefix(clean, "..") && clean != ".." && !strings.HasPrefix(clean, "../"):
		return fmt.Errorf("invalid path: must not start with '..': %s", p)
	}
	for name := range strings.SplitSeq(p, "/") {
		if name == ".." {
			return fmt.Errorf("invalid path: must not contain '..': %s", p)
		}
		if len(name) > maxName {
			return fmt.Errorf("invalid path: filenames must be less than or equal to %d characters", maxName)
		}
	}
	return nil
}

// checkOverlap refuses a file where another file needs a directory. files are sorted by comparePaths, so a file and
// what lies below it are neighbours.
func checkOverlap(files []File) error {
	for i := 1; i < len(files); i++ {
		dir, below := files[i-1].Path, files[i].Path
		if strings.HasPrefix(below, dir+"/") {
			return fmt.Errorf("invalid path: %s is a file, so %s cannot lie below it", dir, below)
		}
	}
	return nil
}

// comparePaths orders by path elements: "a", "a/b", "a.c".
func comparePaths(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

// checkNoBacksteps is the kubelet's ValidatePathNoBacksteps (pkg/volume/validation).
func checkNoBacksteps(p string) error {
	if slices.Contains(strings.Split(p, "/"), "..") {
		return errors.New("must not contain '..'")
	}
	return nil
}
