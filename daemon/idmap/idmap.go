// Package idmap shows files with the IDs of a user namespace: where the disk has
// the owner 0, processes in the namespace see 0, and what they make belongs to 0
// on the disk (mount_setattr(2), MOUNT_ATTR_IDMAP; Linux 5.12, and each file
// system from a version of its own).
package idmap

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Unsupported is why a file or directory can't be shown so.
type Unsupported struct {
	Path string
	Kind string // of its file system: "overlay"
}

func (e *Unsupported) Error() string {
	return fmt.Sprintf("%s lies on a file system (%s) that can't show a user namespace's IDs (idmapped mounts): "+
		"ext4, xfs, btrfs and, from Linux 6.3, tmpfs can", e.Path, e.Kind)
}

// Clone is a mount of what lies at path, without mounts below it and attached
// nowhere, with the IDs of userNS, an open /proc/PID/ns/user. attrs are further
// ones of the mount (MOUNT_ATTR_RDONLY). The error is [*Unsupported] where the
// file system can't.
func Clone(path string, userNS *os.File, attrs uint64) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	tree := os.NewFile(uintptr(fd), path)
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{
		Attr_set: unix.MOUNT_ATTR_IDMAP | attrs, Userns_fd: uint64(userNS.Fd())})
	if err == nil {
		return tree, nil
	}
	defer tree.Close()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return nil, &Unsupported{Path: path, Kind: kind(fd)}
	}
	return nil, &os.PathError{Op: "mount_setattr", Path: path, Err: err}
}

// kinds are file systems that people may meet here (statfs(2)).
var kinds = map[int64]string{
	unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.TMPFS_MAGIC: "tmpfs", unix.NFS_SUPER_MAGIC: "nfs", unix.FUSE_SUPER_MAGIC: "fuse",
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", 0x2fc12fc1: "zfs",
	unix.V9FS_MAGIC: "9p", unix.SMB2_SUPER_MAGIC: "cifs", 0x6a656a63: "virtiofs", unix.PROC_SUPER_MAGIC: "proc",
	unix.SYSFS_MAGIC: "sysfs", unix.CGROUP2_SUPER_MAGIC: "cgroup2", unix.RAMFS_MAGIC: "ramfs", unix.MSDOS_SUPER_MAGIC: "vfat",
}

func kind(fd int) string {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return "unknown"
	}
	if name := kinds[int64(st.Type)]; name != "" {
		return name
	}
	return fmt.Sprintf("type 0x%x", st.Type)
}
