package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	v1 "k8s.io/api/core/v1"
)

// What an fsGroup's members may do, at least (pkg/volume volume_linux.go).
const (
	readableByGroup = fs.FileMode(0o440)
	writableByGroup = fs.FileMode(0o660)
	passableByGroup = fs.FileMode(0o110) // directories
)

// SetOwnership gives the directory dir and everything in it to the group: members may read, and write unless readOnly;
// what is made in its directories belongs to the group as well. With policy OnRootMismatch it does nothing when the
// directory itself is right, which is why that is done last. Links are given away but never followed.
//
// It is for volumes that arrive with data in them; Setup makes its own right from the start. Like the kubelet it goes on
// past what it cannot change (an NFS server that squashes root); unlike the kubelet it says so.
func SetOwnership(ctx context.Context, dir string, group int64, readOnly bool, policy *v1.PodFSGroupChangePolicy) error {
	need := ownership{group: int(group), mode: writableByGroup}
	if readOnly {
		need.mode = readableByGroup
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("give volume to its fsGroup: %w", err)
	}
	defer root.Close()
	if policy != nil && *policy == v1.FSGroupChangeOnRootMismatch {
		info, err := root.Stat(".")
		if err == nil && need.met(info) {
			return nil
		}
	}
	if err := need.tree(ctx, root); err != nil {
		return fmt.Errorf("give volume to its fsGroup: %w", err)
	}
	return nil
}

// ownership is what the files of a volume need.
type ownership struct {
	group int
	mode  fs.FileMode
}

// met says whether the directory of a volume is as it should be (requiresPermissionChange).
func (o ownership) met(dir fs.FileInfo) bool {
	_, gid := owner(dir)
	need := o.mode | passableByGroup
	return gid == o.group && dir.Mode().Perm()&need == need && dir.Mode()&fs.ModeSetgid != 0
}

// tree changes what is in dir and then dir. Each directory is entered through its parent, so a container that swaps one
// for a link cannot lead it outside. The first thing that could not be changed is reported.
func (o ownership) tree(ctx context.Context, dir *os.Root) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return err
	}
	var first error
	for _, e := range entries {
		if err := o.entry(ctx, dir, e); err != nil && first == nil && !errors.Is(err, fs.ErrNotExist) {
			first = err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	if err := o.change(dir, "."); first == nil {
		first = err
	}
	return first
}

func (o ownership) entry(ctx context.Context, dir *os.Root, e fs.DirEntry) error {
	if !e.IsDir() {
		return o.change(dir, e.Name())
	}
	sub, err := dir.OpenRoot(e.Name())
	if err != nil {
		return err
	}
	defer sub.Close()
	return o.tree(ctx, sub)
}

// change gives name away and adds the bits it lacks. A link's own mode means nothing.
func (o ownership) change(dir *os.Root, name string) error {
	info, err := dir.Lstat(name)
	if err != nil {
		return err
	}
	if err := dir.Lchown(name, -1, o.group); err != nil {
		return err
	}
	mode := info.Mode() | o.mode
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return nil
	case info.IsDir():
		mode |= passableByGroup | fs.ModeSetgid
	}
	return dir.Chmod(name, mode)
}

// owner is the user and group of a file on Linux.
func owner(info fs.FileInfo) (uid, gid int) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1, -1
	}
	return int(st.Uid), int(st.Gid)
}
