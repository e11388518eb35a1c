package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// makeUpper makes the upper directory of an overlay over the host's root, in which the secrets below this overlay's
// lower directory are empty. (They cannot be a layer of their own: the kernel allows an upper directory inside a lower
// one, but no lower inside another.) Deleting what hides a secret leaves a whiteout, which hides it as well. root is the
// directory that img's paths are relative to.
func (o *overlay) makeUpper(root string, img Image, ids *UserNS) error {
	upper, lower := filepath.Join(o.state, "upper"), o.lowers[0]
	if _, err := os.Lstat(upper); err == nil {
		return nil
	}
	fresh := filepath.Join(o.state, "upper.new") // renamed when whole
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.MkdirAll(fresh, 0o755); err != nil {
		return err
	}
	for _, secret := range img.Masked {
		file := filepath.Join(root, secret)
		if !isBelow(file, lower) || o.coveredBy(root, secret, img.Submounts) {
			continue
		}
		if err := emptyAt(lower, fresh, strings.TrimPrefix(strings.TrimPrefix(file, lower), "/")); err != nil {
			return err
		}
	}
	if ids != nil {
		if err := shift(fresh, ids.First); err != nil {
			return err
		}
	}
	return os.Rename(fresh, upper)
}

// coveredBy says whether a secret is in a deeper submount than this overlay's: that one masks it.
func (o *overlay) coveredBy(root, secret string, submounts []string) bool {
	for _, sub := range submounts {
		at := filepath.Join(root, sub)
		if at != o.lowers[0] && isBelow(at, o.lowers[0]) && isBelow(filepath.Join(root, secret), at) {
			return true
		}
	}
	return false
}

// emptyAt makes name in upper an empty file or an opaque directory, with the attributes it has in lower.
func emptyAt(lower, upper, name string) error {
	var info os.FileInfo
	parts := strings.Split(name, "/")
	for i := range parts {
		at := filepath.Join(parts[:i+1]...)
		var err error
		if info, err = os.Lstat(filepath.Join(lower, at)); errors.Is(err, os.ErrNotExist) {
			return nil // gone meanwhile
		} else if err != nil {
			return err
		}
		if !info.IsDir() {
			break
		}
		if err := os.Mkdir(filepath.Join(upper, at), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := likeDir(filepath.Join(lower, at), filepath.Join(upper, at)); err != nil {
			return err
		}
	}
	hidden := filepath.Join(upper, name)
	if info.IsDir() {
		return unix.Setxattr(hidden, opaqueXattr, []byte("y"), 0)
	}
	f, err := os.OpenFile(hidden, os.O_CREATE|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	return errors.Join(f.Chown(int(st.Uid), int(st.Gid)), f.Chmod(info.Mode().Perm()), f.Close())
}
