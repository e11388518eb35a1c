// Package gate is the lease process of a host: it opens and shuts the slice
// that exclusive pods live in, by what daemon/lease decides. It needs neither the
// daemon nor systemd to shut it.
package gate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Slice is the cgroup v2 directory below which all exclusive pods are.
type Slice string

// Prepare makes the slice, shut, where it is not there yet, and says if the
// kernel can't do what a lease needs of it.
func (s Slice) Prepare() error {
	var at unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(string(s)), &at); err != nil {
		return fmt.Errorf("%s: %w", filepath.Dir(string(s)), err)
	}
	if at.Type != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("%s is not in a cgroup v2 hierarchy: exclusive pods need one", s)
	}
	if err := os.Mkdir(string(s), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, name := range []string{"cgroup.freeze", "cgroup.kill"} {
		if _, err := os.Stat(filepath.Join(string(s), name)); err != nil {
			return fmt.Errorf("the kernel lacks %s: exclusive pods need Linux 5.14 or newer", name)
		}
	}
	return s.Shut()
}

// Shut freezes the slice and kills all that is in it. Frozen first: what is
// started in it from then on, in whatever cgroup below, runs no instruction.
func (s Slice) Shut() error {
	return errors.Join(s.write("cgroup.freeze", "1"), s.write("cgroup.kill", "1"))
}

// Open thaws it.
func (s Slice) Open() error { return s.write("cgroup.freeze", "0") }

func (s Slice) write(name, value string) error {
	// Not WriteFile: that would make the file where the cgroup is gone.
	f, err := os.OpenFile(filepath.Join(string(s), name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// Look is whether processes are in it, and whether it is frozen with all of them.
func (s Slice) Look() (populated, frozen bool, err error) {
	data, err := os.ReadFile(filepath.Join(string(s), "cgroup.events"))
	if err != nil {
		return true, false, err
	}
	for line := range strings.Lines(string(data)) {
		switch strings.TrimSpace(line) {
		case "populated 1":
			populated = true
		case "frozen 1":
			frozen = true
		}
	}
	return populated, frozen, nil
}
