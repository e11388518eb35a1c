package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// Names in a volume of files, as Kubernetes' AtomicWriter has them: programs watch dataLink for a rename.
const (
	dataLink    = "..data"
	newDataLink = "..data_tmp"
	stampFormat = "..2006_01_02_15_04_05.000000000"
)

// writeFiles makes root show exactly files: readers see all of the old ones or all of the new ones. It changes nothing
// when they are there already, and finishes or removes what an interrupted call left. who owns directories and links.
//
// Order matters: the files, then the swap, then links to new names, then links to old names and old files go. Whoever
// is killed in between leaves either the old content or the new one in force.
func writeFiles(root *os.Root, files []File, who owners, now time.Time) error {
	current, err := dataDir(root)
	if err != nil {
		return err
	}
	if current == "" || !holds(root, current, files) {
		next := now.UTC().Format(stampFormat)
		if err := publish(root, next, files, who); err != nil {
			return errors.Join(fmt.Errorf("write volume: %w", err), root.RemoveAll(next))
		}
		current = next
	}
	if err := link(root, files, who); err != nil {
		return fmt.Errorf("write volume: %w", err)
	}
	if err := prune(root, current, files); err != nil {
		return fmt.Errorf("write volume: remove old files: %w", err)
	}
	return nil
}

// dataDir is the directory in force, "" before the first write.
func dataDir(root *os.Root) (string, error) {
	target, err := root.Readlink(dataLink)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("write volume: %w", err)
	}
	return target, nil
}

// holds says whether dir has exactly files, with their owners and modes. What cannot be read is not as it should be.
func holds(root *os.Root, dir string, files []File) bool {
	want := make(map[string]File, len(files))
	for _, f := range files {
		want[path.Join(dir, f.Path)] = f
	}
	err := fs.WalkDir(root.FS(), dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		f, ok := want[name]
		if !ok || !sameFile(root, name, f) {
			return errors.New("differs")
		}
		delete(want, name)
		return nil
	})
	return err == nil && len(want) == 0
}

func sameFile(root *os.Root, name string, f File) bool {
	info, err := root.Lstat(name)
	if err != nil || info.Mode() != f.Mode || info.Size() != int64(len(f.Data)) {
		return false
	}
	if uid, gid := owner(info); uid != f.UID || gid != f.GID {
		return false
	}
	b, err := root.ReadFile(name)
	return err == nil && bytes.Equal(b, f.Data)
}

// publish writes files into the new directory dir and puts it in force.
func publish(root *os.Root, dir string, files []File, who owners) error {
	if err := makeDataDir(root, dir, who); err != nil {
		return err
	}
	for _, f := range files {
		if err := makeParents(root, dir, f.Path, who); err != nil {
			return err
		}
		if err := writeFile(root, path.Join(dir, f.Path), f); err != nil {
			return err
		}
	}
	if err := root.Remove(newDataLink); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeLink(root, dir, newDataLink, who); err != nil {
		return err
	}
	return root.Rename(newDataLink, dataLink)
}

func makeParents(root *os.Root, dir, file string, who owners) error {
	for i, c := range file {
		if c != '/' {
			continue
		}
		if err := makeDataDir(root, path.Join(dir, file[:i]), who); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// makeDataDir makes one directory that everyone may pass, whatever the umask; with an fsGroup it is the group's, and
// so is what is made in it (pkg/volume changeFilePermission).
func makeDataDir(root *os.Root, dir string, who owners) error {
	if err := root.Mkdir(dir, 0o700); err != nil {
		return err
	}
	mode := fs.FileMode(0o755)
	if who.fsGroup {
		mode |= fs.ModeSetgid
	}
	if who != (owners{}) {
		if err := root.Lchown(dir, who.uid, who.gid); err != nil {
			return err
		}
	}
	return root.Chmod(dir, mode)
}

func writeFile(root *os.Root, name string, f File) (err error) {
	// Nobody may read it before it has its owner and mode.
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := out.Write(f.Data); err != nil {
		return err
	}
	if err := out.Chown(f.UID, f.GID); err != nil {
		return err
	}
	return out.Chmod(f.Mode)
}

// link shows the first element of each path, through the data link. A name that is something else already is a
// mountpoint for another volume: it stays, and hides the file.
func link(root *os.Root, files []File, who owners) error {
	for top := range tops(files) {
		err := makeLink(root, path.Join(dataLink, top), top, who)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// makeLink makes a link that belongs to whom its directory does: in a sticky directory, as a tmpfs is, the kernel
// follows no others (fs.protected_symlinks). The pod's fsGroup says nothing of links.
func makeLink(root *os.Root, to, name string, who owners) error {
	if err := root.Symlink(to, name); err != nil || who.uid == 0 {
		return err
	}
	return root.Lchown(name, who.uid, who.uid)
}

// prune removes links to names that are no longer there, and every data directory but current.
func prune(root *os.Root, current string, files []File) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return err
	}
	shown := tops(files)
	for _, e := range entries {
		name := e.Name()
		switch {
		case e.IsDir() && isStamp(name) && name != current:
			err = root.RemoveAll(name)
		case name == newDataLink:
			err = root.Remove(name)
		case e.Type() == fs.ModeSymlink && name != dataLink && !shown[name]:
			err = root.Remove(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isStamp tells a data directory from a mountpoint for another volume.
func isStamp(name string) bool {
	_, err := time.Parse(stampFormat, name)
	return err == nil
}

// tops is the first elements of all paths.
func tops(files []File) map[string]bool {
	names := map[string]bool{}
	for _, f := range files {
		top, _, _ := strings.Cut(f.Path, "/")
		names[top] = true
	}
	return names
}
