package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// A layer is a tar stream from a stranger, unpacked by root. Three things keep it inside its directory:
//   - the parent of every entry is opened with openat2(RESOLVE_IN_ROOT), so that the kernel resolves "..", absolute
//     symlinks and chains of them as if the layer's directory were /;
//   - the last component is only used with the *at calls that do not follow symlinks;
//   - nobody else can write in the directory meanwhile: the store is mode 0700.
//
// Limits on its size are the disk's (see space) and the ones here.
const (
	maxEntries   = 4 << 20   // files of one layer; a full Debian desktop has 0.3 million
	maxDirBytes  = 256 << 20 // sum of the lengths of directories' names, which are kept in memory until the end
	maxPath      = unix.PathMax - 1
	opaqueXattr  = "trusted.overlay.opaque"
	whiteoutMark = ".wh."
	aufsMark     = ".wh..wh." // aufs' own bookkeeping, to be skipped, save opaqueMark
	opaqueMark   = ".wh..wh..opq"
)

// unpacked is what came out of one layer.
type unpacked struct {
	DiffID  v1.Hash // sha256 of the uncompressed stream
	Size    int64   // bytes in regular files
	Implied []string
	// Implied are directories, outermost first ("" is the layer's root), that the layer uses without describing them.
	// They get the attributes that they have in the layers below: see settle.
}

// unpack writes the layer that r holds (plain, gzip or zstd) into dir, an existing empty directory. Whiteouts become
// overlayfs' (overlayfs.rst: a 0/0 character device, trusted.overlay.opaque=y), as the image specification's layer.md
// wants them applied: they hide lower layers only, never what the same layer brings. It reads r to its end. What it
// leaves in dir after an error is garbage.
func unpack(ctx context.Context, r io.Reader, dir string) (unpacked, error) {
	plain, err := decompress(&ctxReader{ctx, r})
	if err != nil {
		return unpacked{}, err
	}
	defer plain.Close()
	sum := sha256.New()
	stream := io.TeeReader(plain, sum)

	u, err := newUnpacker(dir)
	if err != nil {
		return unpacked{}, err
	}
	defer u.close()
	if err := u.run(tar.NewReader(stream)); err != nil {
		return unpacked{}, streamError(err)
	}
	// The padding after the archive's end belongs to the stream whose digest is the diffID.
	if _, err := io.CopyBuffer(io.Discard, stream, u.buf); err != nil {
		return unpacked{}, streamError(err)
	}
	return unpacked{
		DiffID:  v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))},
		Size:    u.size,
		Implied: u.impliedDirs(),
	}, nil
}

// streamError tells a full disk and a cancelled context apart from what the layer itself is to blame for.
func streamError(err error) error {
	var f *failure
	switch {
	case errors.As(err, &f), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case diskFull(err) != nil:
		return diskFull(err)
	}
	return invalidf("unpack layer: %w", err)
}

type dirTimes struct {
	name  string
	times [2]unix.Timespec
}

type unpacker struct {
	path string // of root, without symlinks
	root int
	free space
	buf  []byte

	parent     int    // descriptor of parentName, or -1: archives come in the order of a walk
	parentName string // relative to root

	dirs     []dirTimes // set at the end, when nothing is created in them any more
	implied  map[string]bool
	rooted   bool // the layer describes its root
	size     int64
	entries  int
	dirBytes int
}

func newUnpacker(dir string) (*unpacker, error) {
	root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", root))
	if err != nil {
		unix.Close(root)
		return nil, err
	}
	return &unpacker{
		path: real, root: root, parent: -1, buf: make([]byte, 128<<10), implied: map[string]bool{},
		free: space{fd: root},
	}, nil
}

func (u *unpacker) close() {
	u.forgetParent()
	unix.Close(u.root)
}

func (u *unpacker) run(tr *tar.Reader) error {
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if u.entries++; u.entries > maxEntries {
			return fmt.Errorf("more than %d files", maxEntries)
		}
		if err := u.free.take(inodeCost); err != nil {
			return err
		}
		if err := u.entry(hdr, tr); err != nil {
			return fmt.Errorf("%.200q: %w", hdr.Name, err)
		}
	}
	return u.setDirTimes()
}

// entry applies one header.
func (u *unpacker) entry(hdr *tar.Header, data io.Reader) error {
	name := path.Clean("/" + hdr.Name)[1:]
	if len(name) > maxPath {
		return errors.New("name is too long")
	}
	if hdr.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if isSparse(hdr) {
		// Some bytes of archive would become exabytes of zeros; layer.md advises against them.
		return errors.New("sparse files are not supported in layers")
	}
	if name == "" {
		return u.describeRoot(hdr)
	}
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if strings.HasPrefix(dir, aufsMark) || strings.Contains(dir, "/"+aufsMark) ||
		strings.HasPrefix(base, aufsMark) && base != opaqueMark {
		return nil
	}
	parent, err := u.openParent(dir)
	if err != nil {
		return err
	}
	if base == opaqueMark {
		return unix.Setxattr(procPath(parent, ""), opaqueXattr, []byte("y"), 0)
	}
	if hidden, ok := strings.CutPrefix(base, whiteoutMark); ok {
		return u.whiteout(parent, hidden)
	}
	return u.create(parent, dir, base, hdr, data)
}

func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (u *unpacker) describeRoot(hdr *tar.Header) error {
	if hdr.Typeflag != tar.TypeDir {
		return errors.New("the root is not a directory")
	}
	u.rooted = true
	if err := unix.Fchown(u.root, hdr.Uid, hdr.Gid); err != nil {
		return err
	}
	if err := unix.Fchmod(u.root, tarMode(hdr)); err != nil {
		return err
	}
	return setXattrs(procPath(u.root, ""), hdr)
}

// whiteout hides name in lower layers. If this layer has already brought that name, lower files are hidden by it, and a
// directory must not be merged with the one below.
func (u *unpacker) whiteout(parent int, name string) error {
	if name == "" || name == "." || name == ".." {
		return errors.New("whiteout of nothing")
	}
	kind, err := kindOf(parent, name)
	switch {
	case err != nil:
		return err
	case kind == isAbsent:
		return unix.Mknodat(parent, name, unix.S_IFCHR, 0)
	case kind == isDir:
		return unix.Setxattr(procPath(parent, name), opaqueXattr, []byte("y"), 0)
	}
	return nil
}

// create makes the file of a header and gives it its attributes.
func (u *unpacker) create(parent int, dir, base string, hdr *tar.Header, data io.Reader) error {
	was, err := kindOf(parent, base)
	if err != nil {
		return err
	}
	merge := was == isDir && hdr.Typeflag == tar.TypeDir
	if was != isAbsent && !merge {
		if err := u.remove(parent, base); err != nil {
			return err
		}
		// The parent itself may have been reached through what is gone now.
		if parent, err = u.openParent(dir); err != nil {
			return err
		}
	}
	if hdr.Typeflag == tar.TypeLink {
		return u.link(parent, base, hdr.Linkname)
	}
	if !merge {
		if err := u.make(parent, base, hdr, data); err != nil {
			return err
		}
	}
	if was == isWhiteout && hdr.Typeflag == tar.TypeDir {
		if err := unix.Setxattr(procPath(parent, base), opaqueXattr, []byte("y"), 0); err != nil {
			return err
		}
	}
	if err := setAttributes(parent, base, hdr); err != nil {
		return err
	}
	if hdr.Typeflag != tar.TypeDir {
		return unix.UtimesNanoAt(parent, base, tarTimes(hdr), unix.AT_SYMLINK_NOFOLLOW)
	}
	return u.describedDir(parent, base, hdr)
}

// describedDir remembers what must wait until the layer's end.
func (u *unpacker) describedDir(parent int, base string, hdr *tar.Header) error {
	in, err := u.nameOf(parent)
	if err != nil {
		return err
	}
	name := path.Join(in, base)
	if u.dirBytes += len(name); u.dirBytes > maxDirBytes {
		return errors.New("too many directories")
	}
	delete(u.implied, name)
	u.dirs = append(u.dirs, dirTimes{name, [2]unix.Timespec(tarTimes(hdr))})
	return nil
}

// make creates what is not a hard link, with no permissions but the owner's until its owner is set.
func (u *unpacker) make(parent int, base string, hdr *tar.Header, data io.Reader) error {
	switch hdr.Typeflag {
	case tar.TypeDir:
		return unix.Mkdirat(parent, base, 0o700)
	case tar.TypeReg, tar.TypeCont:
		return u.writeFile(parent, base, data)
	case tar.TypeSymlink:
		return unix.Symlinkat(hdr.Linkname, parent, base)
	case tar.TypeFifo:
		return unix.Mknodat(parent, base, unix.S_IFIFO|0o600, 0)
	case tar.TypeChar, tar.TypeBlock:
		if hdr.Devmajor < 0 || hdr.Devmajor > math.MaxUint32 || hdr.Devminor < 0 || hdr.Devminor > math.MaxUint32 {
			return errors.New("device number out of range")
		}
		mode := uint32(unix.S_IFCHR)
		if hdr.Typeflag == tar.TypeBlock {
			mode = unix.S_IFBLK
		}
		return unix.Mknodat(parent, base, mode|0o600, int(unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor))))
	}
	return fmt.Errorf("unknown kind of file %q", hdr.Typeflag)
}

func (u *unpacker) writeFile(parent int, base string, data io.Reader) error {
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	// The wrappers keep CopyBuffer from finding a ReaderFrom, and so from allocating a buffer of its own per file.
	n, err := io.CopyBuffer(writeOnly{f, &u.free}, struct{ io.Reader }{data}, u.buf)
	u.size += n
	return errors.Join(err, f.Close())
}

type writeOnly struct {
	f    *os.File
	free *space
}

func (w writeOnly) Write(p []byte) (int, error) {
	if err := w.free.take(len(p)); err != nil {
		return 0, err
	}
	return w.f.Write(p)
}

// link makes base a hard link to target, a name inside the layer. The attributes are the target's, set already.
func (u *unpacker) link(parent int, base, target string) error {
	dir, name := path.Split(path.Clean("/" + target)[1:])
	if name == "" {
		return errors.New("hard link to the root")
	}
	from, err := u.openIn(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return fmt.Errorf("hard link to %.200q: %w", target, err)
	}
	defer unix.Close(from)
	if err := unix.Linkat(from, name, parent, base, 0); err != nil {
		return fmt.Errorf("hard link to %.200q: %w", target, err)
	}
	return nil
}

// openIn opens a directory of the layer as a path only; the kernel keeps it below root.
func (u *unpacker) openIn(dir string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	if dir == "" {
		dir = "."
	}
	for {
		fd, err := unix.Openat2(u.root, dir, &how)
		// EAGAIN: something was renamed anywhere in the system while ".." was resolved (openat2(2)).
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

// openParent opens dir, and makes it where the layer did not care to describe it. The descriptor is u's.
func (u *unpacker) openParent(dir string) (int, error) {
	if u.parent >= 0 && u.parentName == dir {
		return u.parent, nil
	}
	fd, err := u.openIn(dir)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		fd, err = u.makeDirs(dir)
	}
	if err != nil {
		return -1, fmt.Errorf("parent directory: %w", err)
	}
	u.forgetParent()
	u.parent, u.parentName = fd, dir
	return fd, nil
}

func (u *unpacker) makeDirs(dir string) (int, error) {
	above, base := path.Split(dir)
	parent, err := u.openIn(strings.TrimSuffix(above, "/"))
	if err == unix.ENOENT || err == unix.ENOTDIR {
		parent, err = u.makeDirs(strings.TrimSuffix(above, "/"))
	}
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	was, err := kindOf(parent, base)
	if err != nil {
		return -1, err
	}
	if was == isWhiteout {
		if err := unix.Unlinkat(parent, base, 0); err != nil {
			return -1, err
		}
	}
	if was == isAbsent || was == isWhiteout {
		if err := u.makeImplied(parent, base, was == isWhiteout); err != nil {
			return -1, err
		}
	}
	return u.openIn(dir) // fails if there is a file or a dangling symlink
}

func (u *unpacker) makeImplied(parent int, base string, opaque bool) error {
	if err := unix.Mkdirat(parent, base, 0o755); err != nil {
		return err
	}
	if err := unix.Fchmodat(parent, base, 0o755, 0); err != nil { // whatever the umask
		return err
	}
	if opaque {
		return unix.Setxattr(procPath(parent, base), opaqueXattr, []byte("y"), 0)
	}
	in, err := u.nameOf(parent)
	if err != nil {
		return err
	}
	name := path.Join(in, base)
	if u.dirBytes += len(name); u.dirBytes > maxDirBytes {
		return errors.New("too many directories")
	}
	u.implied[name] = true
	return nil
}

func (u *unpacker) forgetParent() {
	if u.parent >= 0 {
		unix.Close(u.parent)
	}
	u.parent = -1
}

// remove deletes what is called base in parent, and whatever is in it, without following symlinks.
func (u *unpacker) remove(parent int, base string) error {
	in, err := u.nameOf(parent)
	if err != nil {
		return err
	}
	u.forgetParent()
	return os.RemoveAll(path.Join(u.path, in, base))
}

// nameOf is the path of an open directory relative to the root, symlinks resolved.
func (u *unpacker) nameOf(dir int) (string, error) {
	full, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir))
	if err != nil {
		return "", err
	}
	if full != u.path && !strings.HasPrefix(full, u.path+"/") {
		return "", fmt.Errorf("%s is outside", full)
	}
	return strings.TrimPrefix(strings.TrimPrefix(full, u.path), "/"), nil
}

func (u *unpacker) setDirTimes() error {
	for _, d := range u.dirs {
		dir, base := path.Split(d.name)
		parent, err := u.openIn(strings.TrimSuffix(dir, "/"))
		if err == nil {
			err = unix.UtimesNanoAt(parent, base, d.times[:], unix.AT_SYMLINK_NOFOLLOW)
			unix.Close(parent)
		}
		// A later entry of the layer may have replaced the directory.
		if err != nil && err != unix.ENOENT && err != unix.ENOTDIR {
			return fmt.Errorf("times of %.200q: %w", d.name, err)
		}
	}
	return nil
}

type fileKind int

const (
	isAbsent fileKind = iota
	isDir
	isWhiteout
	isOther
)

func kindOf(parent int, base string) (fileKind, error) {
	var st unix.Stat_t
	err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		return isAbsent, nil
	case err != nil:
		return isAbsent, err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return isDir, nil
	case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0:
		return isWhiteout, nil
	}
	return isOther, nil
}
