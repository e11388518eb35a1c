package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// emptyDirMode is the kubelet's: any user of the pod may write. A tmpfs has the kernel's own 01777, as the kubelet's.
const emptyDirMode = os.FileMode(0o777)

// makeDir makes the directory name below parent with its mode and group, all at once: as long as the rename has not
// happened there is no volume, and once it has nothing is ever changed again (a database may have closed its directory
// to others).
func makeDir(parent, name string, who owners) error {
	path := filepath.Join(parent, name)
	switch info, err := os.Lstat(path); {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("make volume: %s is not a directory", path)
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("make volume: %w", err)
	}
	fresh := filepath.Join(parent, ".new-"+name)
	if err := os.Mkdir(fresh, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make volume: %w", err)
	}
	mode := emptyDirMode
	if who.fsGroup {
		mode |= os.ModeSetgid
	}
	if who != (owners{}) {
		if err := os.Chown(fresh, who.uid, who.gid); err != nil {
			return fmt.Errorf("give volume to its fsGroup: %w", err)
		}
	}
	if err := os.Chmod(fresh, mode); err != nil { // Mkdir's mode is cut by the umask
		return fmt.Errorf("make volume: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("make volume: %w", err)
	}
	return nil
}

// tmpfs is a volume in memory.
type tmpfs struct {
	size int64 // bytes; 0: the kernel's default, half the RAM
	who  owners
}

// options is tmpfs' mount data (tmpfs(5)). Owner and mode are part of the mount, so there is no moment without them.
func (t tmpfs) options() string {
	o := "mode=1777"
	if t.who.fsGroup {
		o = "mode=3777"
	}
	if t.who != (owners{}) {
		o += fmt.Sprintf(",uid=%d,gid=%d", t.who.uid, t.who.gid)
	}
	if t.size > 0 {
		o += fmt.Sprintf(",size=%d", t.size)
	}
	return o
}

// mountTmpfs makes path a directory with a tmpfs on it, unless it is that already.
func mountTmpfs(path string, t tmpfs) error {
	if err := os.Mkdir(path, 0o750); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make volume: %w", err)
	}
	if ok, err := isTmpfs(path); err != nil || ok {
		return err
	}
	// Linux 6.4 can keep a tmpfs out of swap, as the kubelet does where it can; older kernels and user namespaces
	// answer EINVAL.
	err := unix.Mount("tmpfs", path, "tmpfs", 0, t.options()+",noswap")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("tmpfs", path, "tmpfs", 0, t.options())
	}
	if err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", path, err)
	}
	return nil
}

// isTmpfs says whether a tmpfs is mounted on path. A path that is not there is none.
func isTmpfs(path string) (bool, error) {
	mounted, err := isMountpoint(path)
	if err != nil || !mounted {
		return false, err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return false, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return fs.Type == unix.TMPFS_MAGIC, nil
}

// isMountpoint says whether something is mounted on path itself, which may be a file (statx(2), Linux 5.8). A path that
// is not there is none.
func isMountpoint(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return false, &os.PathError{Op: "statx", Path: path, Err: errors.New("the kernel does not tell mount points (Linux 5.8 does)")}
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
