package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MountRoot makes the root file system of a container below dir and returns where it is mounted, dir/merged. What the
// container writes goes to dir/upper. Both are kept by Unmount; whoever owns dir removes it. If the root is mounted
// already, nothing happens.
//
// With readOnly there is no upper directory and the root cannot be written by anybody: it suits image volumes. A
// container with readOnlyRootFilesystem wants a writable root that its OCI runtime makes read-only, because the runtime
// creates mount points in it first.
//
// For the host's own root (rootfs:///) the lower directory is / itself: the kernel allows an upper directory inside a
// lower one on the same file system since Linux 5.13 ("ovl: allow upperdir inside lowerdir"). img.Masked is hidden by
// empty files and directories in the upper one, which the container can neither unmount nor look behind. An overlay
// shows a snapshot of no kind: packages that the host installs appear in the container, files that it replaces may
// appear in either version until the container restarts, and the kernel promises only not to crash.
//
// With ids, files are shown with the IDs of that user namespace; dir/upper has them as the host counts them, so what is
// there can be mounted again for a namespace with the same IDs alone.
func MountRoot(img Image, dir string, readOnly bool, ids *UserNS) (merged string, err error) {
	if len(img.Layers) == 0 {
		return "", fmt.Errorf("mount root of %s: image has no layers", img.ID)
	}
	merged = filepath.Join(dir, "merged")
	if err := mountRoot(img, dir, merged, readOnly, ids); err != nil {
		return "", fmt.Errorf("mount root at %s: %w", merged, orDiskFull(err))
	}
	return merged, nil
}

func mountRoot(img Image, dir, merged string, readOnly bool, ids *UserNS) error {
	if err := os.MkdirAll(merged, 0o755); err != nil {
		return err
	}
	whole := overlay{lowers: img.Layers, state: dir, target: merged, readOnly: readOnly}
	if !img.HostRoot {
		return whole.mount(ids)
	}
	root := img.Layers[0]
	whole.upper = true
	parts := []overlay{whole}
	for i, sub := range img.Submounts {
		parts = append(parts, overlay{
			lowers:   []string{filepath.Join(root, sub)},
			state:    filepath.Join(dir, "sub", strconv.Itoa(i)),
			target:   filepath.Join(merged, sub),
			readOnly: readOnly, upper: true,
		})
	}
	for _, p := range parts {
		if err := p.makeUpper(root, img, ids); err != nil {
			return fmt.Errorf("hide secrets: %w", err)
		}
		if err := p.mount(ids); err != nil {
			return err
		}
	}
	return nil
}

// Unmount undoes MountRoot. It is no error if nothing is mounted. What is still in use (by a process that outlived its
// container, say) goes when that ends.
func Unmount(dir string) error {
	merged := filepath.Join(dir, "merged")
	for {
		err := unix.Unmount(merged, unix.UMOUNT_NOFOLLOW)
		if err == unix.EBUSY {
			err = unix.Unmount(merged, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		switch err {
		case nil: // there may be another below
		case unix.EINVAL, unix.ENOENT:
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", merged, err)
		}
	}
}

// overlay is one mount.
type overlay struct {
	lowers   []string // topmost first
	state    string   // holds upper and work
	target   string
	readOnly bool
	upper    bool // even if it is read-only
}

func (o overlay) mount(ids *UserNS) error {
	if ids != nil {
		return o.mountFor(*ids)
	}
	if is, err := isMountPoint(o.target); err != nil || is {
		return err
	}
	if o.readOnly && !o.upper && len(o.lowers) == 1 {
		return bindReadOnly(o.lowers[0], o.target)
	}
	var rest string
	if !o.readOnly || o.upper {
		upper, work := filepath.Join(o.state, "upper"), filepath.Join(o.state, "work")
		for _, d := range []string{upper, work} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		// The merged root shows upper's attributes.
		if err := likeDir(o.lowers[0], upper); err != nil {
			return err
		}
		rest = ",upperdir=" + escape(upper, ",") + ",workdir=" + escape(work, ",")
	}
	var flags uintptr
	if o.readOnly {
		flags = unix.MS_RDONLY
	}
	// Kernels differ in their default for index, which refuses an upper directory whose lower one was replaced.
	return mountLowers(o.lowers, o.target, flags, rest+",index=off")
}

// likeDir gives to the attributes of from, an overlay's topmost directory.
func likeDir(from, to string) error {
	src, err := openDir(from)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := openDir(to)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	return copyAttributes(src, dst)
}

// mountLowers calls mount(2), whose options must fit a page, on Linux 6.1 as on newer ones. Where they do not, the lower
// directories are given relative to the directory that holds them all: the store keeps that short ("1a/diff").
func mountLowers(lowers []string, target string, flags uintptr, rest string) error {
	options := lowerOption(lowers) + rest
	if len(options) < os.Getpagesize() {
		return mountAs(lowers, target, flags, options)
	}
	base, relative := relativeTo(lowers)
	options = lowerOption(relative) + rest
	if len(options) >= os.Getpagesize() {
		return invalidf("%d layers do not fit into the kernel's page of mount options", len(lowers))
	}
	failed := make(chan error, 1)
	go func() {
		// The thread gets a working directory of its own; not unlocked, it ends with the goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			failed <- err
			return
		}
		if err := unix.Chdir(base); err != nil {
			failed <- err
			return
		}
		failed <- mountAs(lowers, target, flags, options)
	}()
	return <-failed
}

func mountAs(lowers []string, target string, flags uintptr, options string) error {
	if err := unix.Mount("overlay", target, "overlay", flags, options); err != nil {
		return fmt.Errorf("overlay of %d layers: %w%s", len(lowers), err, overlayHint(err))
	}
	return nil
}

func overlayHint(err error) string {
	switch {
	case errors.Is(err, unix.ENODEV):
		return " (the kernel has no overlayfs: modprobe overlay)"
	case errors.Is(err, unix.EINVAL):
		return " (the kernel's log says why: the file system of the upper directory may be an overlay itself or lack extended attributes)"
	}
	return ""
}

func lowerOption(lowers []string) string {
	escaped := make([]string, len(lowers))
	for i, l := range lowers {
		escaped[i] = escape(l, ":,")
	}
	return "lowerdir=" + strings.Join(escaped, ":")
}

// escape puts a backslash before what separates options or directories in overlayfs' options.
func escape(path, separators string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if c == '\\' || strings.IndexByte(separators, c) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// relativeTo finds the deepest directory above all paths.
func relativeTo(paths []string) (base string, relative []string) {
	base = filepath.Dir(paths[0])
	for _, p := range paths {
		for !isBelow(p, base) {
			base = filepath.Dir(base)
		}
	}
	for _, p := range paths {
		relative = append(relative, strings.TrimPrefix(strings.TrimPrefix(p, base), "/"))
	}
	return base, relative
}

func bindReadOnly(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", from, err)
	}
	if err := unix.Mount("", to, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return errors.Join(fmt.Errorf("make %s read-only: %w", from, err), unix.Unmount(to, unix.MNT_DETACH))
	}
	return nil
}

func isMountPoint(dir string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st); err != nil {
		return false, &os.PathError{Op: "statx", Path: dir, Err: err}
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
