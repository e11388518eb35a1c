package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Teardown unmounts everything on and below dir and removes dir with all that is in it. It never enters a mount to
// delete: if something cannot be unmounted, nothing below it is removed and the error says so. The pod's containers
// must be gone. dir is an absolute path that only root can write; if it is not there, Teardown is done.
//
// dir may be the directory given to Setup, the one given to BindSubPaths, or a parent of both.
func Teardown(ctx context.Context, dir string) error {
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir)) // mountinfo has no links in its paths
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("tear down volumes: %w", err)
	}
	dir = filepath.Join(parent, filepath.Base(dir))
	if err := unmountBelow(ctx, dir); err != nil {
		return fmt.Errorf("tear down volumes: %w", err)
	}
	if err := removeTree(ctx, dir); err != nil {
		return fmt.Errorf("tear down volumes: %w", err)
	}
	return nil
}

// unmountBelow looks again after each round, for a mount may hide others.
func unmountBelow(ctx context.Context, dir string) error {
	for {
		paths, err := mountsBelow(dir)
		if err != nil || len(paths) == 0 {
			return err
		}
		for _, path := range paths {
			_ = makePrivate(path) // all, before the first unmount; what is hidden has its turn later
		}
		var failed error
		progress := false
		for _, path := range paths {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := unmount(path); err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			progress = true
		}
		if !progress {
			return failed
		}
	}
}

func mountsBelow(dir string) ([]string, error) {
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	return below(dir, mounts), nil
}

func readMounts() ([]mount, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMountinfo(string(text))
}

// unmount takes the uppermost mount off path. What is still in use is detached, and freed when its last user closes it.
func unmount(path string) error {
	if err := makePrivate(path); err != nil {
		return err
	}
	err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if err != nil {
		return &os.PathError{Op: "unmount", Path: path, Err: err}
	}
	return nil
}

// makePrivate cuts the mount on path, and those in it, off from their originals: below the copy of a shared mount lie
// copies of what the host mounted there, and unmounting one of those would unmount the host's (mount_namespaces(7)).
func makePrivate(path string) error {
	if err := unix.Mount("", path, "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return &os.PathError{Op: "make private", Path: path, Err: err}
	}
	return nil
}

// removeTree removes dir without ever following a link or entering a mount. A hostile container may nest directories
// deeper than there are file descriptors, so it does not recurse: directories found inside another are moved up to dir,
// until there is nothing but one level.
func removeTree(ctx context.Context, dir string) error {
	top, err := openDir(unix.AT_FDCWD, dir, unix.RESOLVE_NO_MAGICLINKS)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer top.Close()
	r := removal{ctx: ctx, top: top}
	if err := r.empty(top, r.removeDir); err != nil {
		return err
	}
	return os.Remove(dir)
}

// removal is one removeTree.
type removal struct {
	ctx  context.Context
	top  *os.File
	next int // for names that directories get when they move up
}

// empty takes everything out of dir: files are removed, directories are given to do.
func (r *removal) empty(dir *os.File, do func(name string) error) error {
	for {
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		// Removing while reading may skip entries, so each batch starts over.
		if _, err := dir.Seek(0, 0); err != nil {
			return err
		}
		names, err := dir.Readdirnames(1024)
		if len(names) == 0 {
			return ignoreEOF(err)
		}
		for _, name := range names {
			err := unix.Unlinkat(int(dir.Fd()), name, 0)
			if errors.Is(err, unix.EISDIR) {
				err = do(name)
			}
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("remove %s in %s: %w", name, dir.Name(), err)
			}
		}
	}
}

// removeDir removes a directory of top after moving up what directories it has.
func (r *removal) removeDir(name string) error {
	fd := int(r.top.Fd())
	sub, err := openDir(fd, name, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV)
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := r.empty(sub, func(name string) error { return r.moveUp(sub, name) }); err != nil {
		return err
	}
	return unix.Unlinkat(fd, name, unix.AT_REMOVEDIR)
}

// moveUp renames a directory into top, under a name that is free. An empty one is simply removed.
func (r *removal) moveUp(from *os.File, name string) error {
	if err := unix.Unlinkat(int(from.Fd()), name, unix.AT_REMOVEDIR); err == nil {
		return nil
	}
	for {
		r.next++
		to := ".gone-" + strconv.Itoa(r.next)
		err := unix.Renameat2(int(from.Fd()), name, int(r.top.Fd()), to, unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
}

// openDir opens a directory, never through a link.
func openDir(dir int, name string, resolve uint64) (*os.File, error) {
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: resolve | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
