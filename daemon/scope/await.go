package scope

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/cpuset"
)

// directory is a scope's cgroup; "": it has just ended.
func (h *onSystemd) directory(name string) (string, error) {
	dirs, err := scopes(filepath.Join(h.root, h.prefix))
	i := slices.IndexFunc(dirs, func(dir string) bool { return filepath.Base(dir) == name })
	if err != nil || i < 0 {
		return "", err
	}
	return dirs[i], nil
}

// awaitCPUs returns when the kernel has what systemd was told: it answers
// first, and writes to the cgroup soon after. Who is given processors to itself
// must not begin before the others have left them. Without the controller there
// is nothing to wait for.
func awaitCPUs(ctx context.Context, dir string, want cpuset.CPUSet) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		text, err := words(dir, "cpuset.cpus")
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		got, err := cpuset.Parse(strings.Join(text, ""))
		if err == nil && got.Equals(want) {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("systemd has not put cpuset.cpus = %s of %s in force: it is %s", want, dir, got)
		}
	}
}
