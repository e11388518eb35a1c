package image

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// impliedDirs lists them outermost first.
func (u *unpacker) impliedDirs() []string {
	var names []string
	if !u.rooted {
		names = append(names, "")
	}
	for name := range u.implied {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// settle gives the implied directories of a layer the attributes that they have in the layers below it (topmost first),
// since overlayfs shows those of the topmost layer: a layer with nothing but tmp/x must not turn /tmp's 1777 into 0755.
func settle(dir string, implied []string, below []string) error {
	if len(implied) == 0 || len(below) == 0 {
		return nil
	}
	root, err := openDir(dir)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	var lowers []int
	defer func() {
		for _, fd := range lowers {
			unix.Close(fd)
		}
	}()
	for _, b := range below {
		fd, err := openDir(b)
		if err != nil {
			return err
		}
		lowers = append(lowers, fd)
	}
	for _, name := range implied {
		if err := settleOne(root, name, lowers); err != nil {
			return fmt.Errorf("attributes of %q: %w", name, err)
		}
	}
	return nil
}

func settleOne(root int, name string, lowers []int) error {
	for _, lower := range lowers {
		from, err := openDirIn(lower, name)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			return nil // hidden or replaced there: the directory is new
		}
		if err != nil {
			return err
		}
		defer unix.Close(from)
		to, err := openDirIn(root, name)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			return nil // replaced later in the same layer
		}
		if err != nil {
			return err
		}
		defer unix.Close(to)
		return copyAttributes(from, to)
	}
	return nil
}

// copyAttributes copies owner, mode, times and extended attributes but overlayfs' own between open directories.
func copyAttributes(from, to int) error {
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := copyXattrs(from, to); err != nil {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, procPath(to, ""), []unix.Timespec{st.Atim, st.Mtim}, 0)
}

func copyXattrs(from, to int) error {
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Flistxattr(from, list)
	if err != nil {
		return ignoreUnsupported(err)
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for attr := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if !strings.HasPrefix(attr, "user.") && !strings.HasPrefix(attr, "security.") {
			continue
		}
		n, err := unix.Fgetxattr(from, attr, value)
		if err == nil {
			err = unix.Fsetxattr(to, attr, value[:n], 0)
		}
		if ignoreUnsupported(err) != nil {
			return err
		}
	}
	return nil
}

func ignoreUnsupported(err error) error {
	if err == unix.ENOTSUP {
		return nil
	}
	return err
}

func openDir(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", dir, err)
	}
	return fd, nil
}

// openDirIn opens a directory below root, following no symlink on the way.
func openDirIn(root int, name string) (int, error) {
	if name == "" {
		name = "."
	}
	return unix.Openat2(root, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
}
