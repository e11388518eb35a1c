package image

import (
	"archive/tar"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// setAttributes sets owner, extended attributes and mode, in this order: chown clears set-uid bits and capabilities.
func setAttributes(parent int, base string, hdr *tar.Header) error {
	if err := unix.Fchownat(parent, base, hdr.Uid, hdr.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := setXattrs(procPath(parent, base), hdr); err != nil {
		return err
	}
	if hdr.Typeflag == tar.TypeSymlink {
		return nil
	}
	return unix.Fchmodat(parent, base, tarMode(hdr), 0) // base is ours and no symlink
}

// setXattrs sets what tar keeps as PAX records. trusted.* is overlayfs' own; a layer that could set it could redirect
// its directories into others. What the file system does not know (SELinux labels, ...) is dropped, as tar does.
func setXattrs(file string, hdr *tar.Header) error {
	for key, value := range hdr.PAXRecords {
		attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || !strings.HasPrefix(attr, "user.") && !strings.HasPrefix(attr, "security.") {
			continue
		}
		err := unix.Lsetxattr(file, attr, []byte(value), 0)
		unsuited := err == unix.EPERM && hdr.Typeflag != tar.TypeReg && hdr.Typeflag != tar.TypeDir // xattr(7), user.*
		if err != nil && err != unix.ENOTSUP && !unsuited {
			return fmt.Errorf("extended attribute %.100q: %w", attr, err)
		}
	}
	return nil
}

// procPath names base in an open directory, or the directory itself, for calls that have no *at form.
func procPath(dir int, base string) string {
	if base == "" {
		return fmt.Sprintf("/proc/self/fd/%d", dir)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir, base)
}

func tarMode(hdr *tar.Header) uint32 { return uint32(hdr.Mode & 0o7777) }

// tarTimes clamps what does not fit a file system's inode.
func tarTimes(hdr *tar.Header) []unix.Timespec {
	access := hdr.AccessTime
	if access.IsZero() {
		access = hdr.ModTime
	}
	return []unix.Timespec{timespec(access), timespec(hdr.ModTime)}
}

func timespec(t time.Time) unix.Timespec {
	sec := min(max(t.Unix(), 0), math.MaxUint32)
	return unix.Timespec{Sec: sec, Nsec: int64(t.Nanosecond())}
}
