package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/daemon/idmap"
)

// UserNS is the user namespace of a pod that has its own.
type UserNS struct {
	NS    *os.File // an open /proc/PID/ns/user
	First uint32   // the host's ID that is 0 in it
}

// mountFor mounts the overlay for ids. The layers are shown with ids' IDs and the upper directory holds those of the
// host, as an overlay's upper directory can't be ID-mapped (Linux 5.19, "ovl: support idmapped layers").
//
// An overlay takes directories by their path, so the ID-mapped layers must be attached somewhere for a moment. That is
// in a mount namespace of a thread that ends then: whenever the daemon is killed, nothing of it stays.
func (o overlay) mountFor(ids UserNS) error {
	if is, err := isMountPoint(o.target); err != nil || is {
		return err
	}
	tree, err := o.idmapped(ids)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, o.target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach overlay: %w", err)
	}
	return nil
}

// idmapped is the mount, attached nowhere.
func (o overlay) idmapped(ids UserNS) (tree *os.File, err error) {
	if o.readOnly && !o.upper && len(o.lowers) == 1 {
		return idmap.Clone(o.lowers[0], ids.NS, unix.MOUNT_ATTR_RDONLY)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, unless it is the first
		if unix.Gettid() == os.Getpid() {
			defer runtime.UnlockOSThread()
			tree, err = o.idmapped(ids) // on another thread, now that this one is taken
			return
		}
		tree, err = o.idmappedHere(ids)
	}()
	<-done
	return tree, err
}

// idmappedHere takes the thread out of the host's mount namespace.
func (o overlay) idmappedHere(ids UserNS) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("unshare mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	var layers []*os.File
	defer func() {
		for _, l := range layers {
			l.Close()
		}
	}()
	for _, lower := range o.lowers { // before the target, which may be below them, is covered
		layer, err := idmap.Clone(lower, ids.NS, 0)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	rest, err := o.writable(ids, layers[0])
	if err != nil {
		return nil, err
	}
	// The places of the layers, and short names for them: mount options must fit into a page.
	if err := unix.Mount("shoal", o.target, "tmpfs", 0, "mode=700"); err != nil {
		return nil, fmt.Errorf("mount tmpfs: %w", err)
	}
	if err := unix.Chdir(o.target); err != nil {
		return nil, err
	}
	var names []string
	for i, layer := range layers {
		name := strconv.Itoa(i)
		if err := unix.Mkdir(name, 0o700); err != nil {
			return nil, err
		}
		if err := unix.MoveMount(int(layer.Fd()), "", unix.AT_FDCWD, name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return nil, fmt.Errorf("attach layer %s: %w", o.lowers[i], err)
		}
		names = append(names, name)
	}
	if err := unix.Mkdir("root", 0o700); err != nil {
		return nil, err
	}
	var flags uintptr
	if o.readOnly {
		flags = unix.MS_RDONLY
	}
	options := lowerOption(names) + rest + ",index=off"
	if len(options) >= os.Getpagesize() {
		return nil, invalidf("%d layers do not fit into the kernel's page of mount options", len(names))
	}
	if err := unix.Mount("overlay", "root", "overlay", flags, options); err != nil {
		return nil, fmt.Errorf("overlay of %d layers for a user namespace: %w%s", len(names), err, idmappedHint(err))
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, "root", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("open_tree", err)
	}
	return os.NewFile(uintptr(fd), o.target), nil
}

func idmappedHint(err error) string {
	if errors.Is(err, unix.EINVAL) {
		return " (hostUsers: false needs Linux 5.19, and an upper directory that lies on no overlay)"
	}
	return overlayHint(err)
}

// writable makes the upper directory, which gets the attributes of the topmost layer as the namespace sees it, and says
// it in mount options.
func (o overlay) writable(ids UserNS, top *os.File) (string, error) {
	if o.readOnly && !o.upper {
		return "", nil
	}
	upper, work := filepath.Join(o.state, "upper"), filepath.Join(o.state, "work")
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", err
		}
	}
	to, err := openDir(upper)
	if err != nil {
		return "", err
	}
	defer unix.Close(to)
	// A descriptor of a mount (O_PATH) has no attributes to read: this is the same directory, opened.
	from, err := unix.Openat(int(top.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: o.lowers[0], Err: err}
	}
	defer unix.Close(from)
	if err := copyAttributes(from, to); err != nil {
		return "", err
	}
	return ",upperdir=" + escape(upper, ",") + ",workdir=" + escape(work, ","), nil
}

// shift adds first to the owners of everything at and below dir, which nobody else has seen yet.
func shift(dir string, first uint32) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		if err := os.Lchown(path, int(st.Uid+first), int(st.Gid+first)); err != nil || info.Mode()&fs.ModeSymlink != 0 {
			return err
		}
		return os.Chmod(path, info.Mode()) // chown clears set-uid bits
	})
}
