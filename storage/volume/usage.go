package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// maxDepth is how deep Usage looks: it holds a descriptor for each level, and a hostile container can nest as deep as it
// likes.
const maxDepth = 512

// ErrTooDeep says that a volume has directories nested deeper than Usage counts. Evict the pod, or use a quota.
var ErrTooDeep = fmt.Errorf("directories nested deeper than %d", maxDepth)

// Usage is what the files in dir take: bytes as du(1) counts them (blocks, hard links once) and inodes, dir's own
// included, as the kubelet's fs.DiskUsage. It counts neither what is mounted below dir nor what links lead to. Files
// that vanish while it looks are not counted. With ErrTooDeep the numbers are what was counted.
func Usage(ctx context.Context, dir string) (bytes, inodes int64, err error) {
	root, err := openDir(unix.AT_FDCWD, dir, unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return 0, 0, fmt.Errorf("measure volume: %w", err)
	}
	defer root.Close()
	u := usage{ctx: ctx, seen: map[uint64]bool{}}
	if err := u.tree(root, 0); err != nil {
		return u.bytes, u.inodes, fmt.Errorf("measure volume: %w", err)
	}
	return u.bytes, u.inodes, nil
}

// usage is one count in progress.
type usage struct {
	ctx           context.Context
	seen          map[uint64]bool // inodes with several names
	bytes, inodes int64
}

// tree counts dir and all below it, and closes nothing but what it opens.
func (u *usage) tree(dir *os.File, depth int) error {
	var self unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &self); err != nil {
		return err
	}
	u.add(&self)
	var deep error
	for {
		if u.ctx.Err() != nil {
			return context.Cause(u.ctx)
		}
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			switch err := u.entry(dir, name, depth); {
			case errors.Is(err, ErrTooDeep):
				deep = err
			case err != nil:
				return err
			}
		}
		if len(names) == 0 {
			return errors.Join(deep, ignoreEOF(err))
		}
	}
}

func (u *usage) entry(dir *os.File, name string, depth int) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		u.add(&st)
		return nil
	}
	if depth >= maxDepth {
		u.add(&st)
		return ErrTooDeep
	}
	sub, err := openDir(int(dir.Fd()), name, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV)
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil // a mount, or it changed under our hands
	}
	if err != nil {
		return err
	}
	defer sub.Close()
	return u.tree(sub, depth+1)
}

func (u *usage) add(st *unix.Stat_t) {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if u.seen[st.Ino] {
			return
		}
		u.seen[st.Ino] = true
	}
	u.bytes += st.Blocks * 512
	u.inodes++
}

// ignoreEOF is for directory reads: their end is not an error.
func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
