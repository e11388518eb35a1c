package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// SubPathError is why part of a volume cannot be mounted. Its text is the kubelet's, which keeps quiet about the host's
// files, because whoever may write a pod may read it; the detail is in Unwrap, for the journal.
type SubPathError struct {
	Doing     string // "create subPath directory" or "prepare subPath"
	Volume    string
	Container string
	Err       error
}

func (e *SubPathError) Error() string {
	return fmt.Sprintf("failed to %s for volumeMount %q of container %q", e.Doing, e.Volume, e.Container)
}

func (e *SubPathError) Unwrap() error { return e.Err }

// BindSubPaths makes each mount with a SubPath safe to hand to a container runtime: the part of the volume is opened
// without leaving the volume, made if it is not there, and bound to dir/container/N, where N is its place in mounts.
// What containers do to the volume later cannot redirect that. The result is mounts with those sources; Teardown of dir
// (which only root may write) undoes it.
//
// A container that starts again may find other files at its subPath: call this before each start, never while the
// container runs.
func BindSubPaths(dir, container string, mounts []Mount) ([]Mount, error) {
	bound := make([]Mount, len(mounts))
	for i, m := range mounts {
		bound[i] = m
		if m.SubPath == "" {
			continue
		}
		target := filepath.Join(dir, container, strconv.Itoa(i))
		if err := makeSubPath(m.Source, m.SubPath, m.FirstID); err != nil {
			return nil, &SubPathError{"create subPath directory", m.Volume, container, err}
		}
		if err := bindSubPath(m, target); err != nil {
			return nil, &SubPathError{"prepare subPath", m.Volume, container, err}
		}
		bound[i].Source, bound[i].SubPath = target, ""
	}
	return bound, nil
}

// makeSubPath makes the directories of sub that the volume lacks, with the volume's own mode (the kubelet's
// SafeMakeDir); a setgid volume passes its group on. Each is made and entered through its parent's descriptor, so a
// container that swaps one for a link changes nothing elsewhere.
//
// first is the owner, as NodeInfo.FirstID; a setgid directory gives its own group.
func makeSubPath(volume, sub string, first uint32) error {
	names := strings.Split(sub, "/")
	parent, found, err := openDeepest(volume, names)
	if err != nil || found == len(names) {
		return err
	}
	defer func() { parent.Close() }()
	info, err := os.Stat(volume)
	if err != nil {
		return err
	}
	for _, name := range names[found:] {
		err := unix.Mkdirat(int(parent.Fd()), name, 0o700)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return &os.PathError{Op: "mkdir", Path: name, Err: err}
		}
		made := err == nil
		dir, err := openDir(int(parent.Fd()), name, unix.RESOLVE_BENEATH)
		if err != nil {
			return err
		}
		parent.Close()
		parent = dir
		if made && first != 0 {
			group := int(first)
			if info.Mode()&fs.ModeSetgid != 0 {
				group = -1
			}
			if err := dir.Chown(int(first), group); err != nil {
				return err
			}
		}
		if made {
			if err := dir.Chmod(info.Mode()); err != nil { // past the umask
				return err
			}
		}
	}
	return nil
}

// openDeepest opens the longest existing beginning of the path names and says how many of them it has. All of them are
// found, without a descriptor, when the path is there or is something that bindSubPath will refuse.
func openDeepest(volume string, names []string) (*os.File, int, error) {
	for n := len(names); ; n-- {
		f, err := openBeneath(volume, filepath.Join(append([]string{"."}, names[:n]...)...))
		switch {
		case err == nil && n == len(names):
			return nil, n, f.Close()
		case err == nil:
			return f, n, nil
		case n == len(names) && !errors.Is(err, fs.ErrNotExist):
			return nil, n, nil
		case n == 0 || !errors.Is(err, fs.ErrNotExist):
			return nil, 0, err
		}
	}
}

// bindSubPath mounts m's part of the volume on target.
func bindSubPath(m Mount, target string) error {
	part, err := openBeneath(m.Source, m.SubPath)
	if err != nil {
		return err
	}
	defer part.Close()
	info, err := part.Stat()
	if err != nil {
		return err
	}
	if ok, err := alreadyBound(target, info); err != nil || ok {
		return err
	}
	if err := makeTarget(target, info.IsDir()); err != nil {
		return err
	}
	// The descriptor cannot be redirected, a path could be.
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", part.Fd()), target, "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "bind", Path: target, Err: err}
	}
	if err := unix.Mount("", target, "", propagationFlag(m.Propagation), ""); err != nil {
		return &os.PathError{Op: "set propagation", Path: target, Err: err}
	}
	return nil
}

// propagationFlag says which mounts of the host may appear below the bound part, and the other way round. Without it
// the copy of a shared mount is shared.
func propagationFlag(mode v1.MountPropagationMode) uintptr {
	switch mode {
	case v1.MountPropagationBidirectional:
		return unix.MS_SHARED
	case v1.MountPropagationHostToContainer:
		return unix.MS_SLAVE
	}
	return unix.MS_PRIVATE
}

// alreadyBound says whether target shows the file part, and takes away what else is mounted there: an interrupted call
// may have bound a file that has been replaced since.
func alreadyBound(target string, part fs.FileInfo) (bool, error) {
	for {
		mounted, err := isMountpoint(target)
		if err != nil || !mounted {
			return false, err
		}
		if there, err := os.Lstat(target); err == nil && os.SameFile(there, part) {
			return true, nil
		}
		if err := unmount(target); err != nil {
			return false, err
		}
	}
}

// makeTarget makes an empty directory or file to mount on, as private as its content may be.
func makeTarget(target string, directory bool) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	if info, err := os.Lstat(target); err == nil && info.IsDir() != directory {
		if err := os.Remove(target); err != nil {
			return err
		}
	}
	if directory {
		if err := os.Mkdir(target, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o640)
	if err != nil {
		return err
	}
	return f.Close()
}

// openBeneath opens part sub of the directory base as O_PATH, whatever it is. No link leads out of base (openat2(2),
// Linux 5.6). Absolute links, which on a hostPath mean the host's paths, are resolved beforehand and then not followed
// any more, as in the kubelet's subpath.doBindSubPath.
func openBeneath(base, sub string) (*os.File, error) {
	f, err := openat2(base, sub, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_MAGICLINKS)
	if !errors.Is(err, unix.EXDEV) {
		return f, err
	}
	realBase, err2 := filepath.EvalSymlinks(base)
	realPath, err3 := filepath.EvalSymlinks(filepath.Join(base, sub))
	if errors.Is(err3, fs.ErrNotExist) {
		return nil, err3 // makeSubPath may make it
	}
	if err2 != nil || err3 != nil {
		return nil, err
	}
	rel, err2 := filepath.Rel(realBase, realPath)
	if err2 != nil {
		return nil, err
	}
	return openat2(realBase, rel, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}

func openat2(base, sub string, resolve uint64) (*os.File, error) {
	dir, err := os.OpenFile(base, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve}
	fd, err := retryOpenat2(int(dir.Fd()), sub, &how)
	if err != nil {
		return nil, &os.PathError{Op: "openat2", Path: filepath.Join(base, sub), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(base, sub)), nil
}

// retryOpenat2 tries again while the kernel cannot tell whether ".." in a link stayed beneath, because something was
// renamed meanwhile; a container that renames all the time gets an error in the end.
func retryOpenat2(dir int, sub string, how *unix.OpenHow) (fd int, err error) {
	for range 128 {
		fd, err = unix.Openat2(dir, sub, how)
		if err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return fd, err
}
