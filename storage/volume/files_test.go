package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var stamp = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

// openRoot opens a new directory for a volume of files.
func openRoot(t *testing.T) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// tree is every entry of a volume, one a line: links with their target, files with mode and text.
func tree(t *testing.T, root *os.Root) string {
	t.Helper()
	var b strings.Builder
	err := fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		switch {
		case e.Type() == fs.ModeSymlink:
			target, err := root.Readlink(name)
			fmt.Fprintf(&b, "%s -> %s\n", name, target)
			return err
		case e.IsDir():
			fmt.Fprintf(&b, "%s/ %04o\n", name, info.Mode().Perm())
			return nil
		}
		data, err := root.ReadFile(name)
		fmt.Fprintf(&b, "%s %04o %q\n", name, info.Mode().Perm(), data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// own makes the files the test's user's, so that it needs no root.
func own(files ...File) []File {
	for i := range files {
		files[i].UID, files[i].GID = os.Getuid(), os.Getgid()
	}
	return files
}

func TestFilesFollowTheAtomicWriterProtocol(t *testing.T) {
	root := openRoot(t)
	files := own(File{Path: "k", Data: []byte("v"), Mode: 0o400}, File{Path: "x/y/z", Data: []byte("w"), Mode: 0o644})
	if err := writeFiles(root, files, owners{}, stamp); err != nil {
		t.Fatal(err)
	}
	want := `..2026_01_02_15_04_05.000000000/ 0755
..2026_01_02_15_04_05.000000000/k 0400 "v"
..2026_01_02_15_04_05.000000000/x/ 0755
..2026_01_02_15_04_05.000000000/x/y/ 0755
..2026_01_02_15_04_05.000000000/x/y/z 0644 "w"
..data -> ..2026_01_02_15_04_05.000000000
k -> ..data/k
x -> ..data/x
`
	if got := tree(t, root); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestEachChangeIsSeen(t *testing.T) {
	base := func() []File {
		return own(File{Path: "a", Data: []byte("1"), Mode: 0o644}, File{Path: "d/b", Data: []byte("2"), Mode: 0o644})
	}
	for name, change := range map[string]func([]File) []File{
		"data":           func(f []File) []File { f[0].Data = []byte("9"); return f },
		"same size data": func(f []File) []File { f[1].Data = []byte("8"); return f },
		"mode":           func(f []File) []File { f[0].Mode = 0o600; return f },
		"removed":        func(f []File) []File { return f[:1] },
		"added":          func(f []File) []File { return append(f, own(File{Path: "d/c", Mode: 0o644})...) },
		"all removed":    func(f []File) []File { return nil },
		"file to dir":    func(f []File) []File { f[0].Path = "a/x"; return f },
	} {
		root := openRoot(t)
		if err := writeFiles(root, base(), owners{}, stamp); err != nil {
			t.Fatal(err)
		}
		before := tree(t, root)
		if err := writeFiles(root, base(), owners{}, stamp.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if got := tree(t, root); got != before {
			t.Errorf("%s: the same files were written again:\n%s", name, got)
		}
		changed, fresh := change(base()), openRoot(t)
		if err := errors.Join(writeFiles(root, changed, owners{}, stamp.Add(time.Minute)), writeFiles(fresh, changed, owners{}, stamp.Add(time.Minute))); err != nil {
			t.Fatal(err)
		}
		if got, want := tree(t, root), tree(t, fresh); got != want {
			t.Errorf("%s: got:\n%swant, as if written fresh:\n%s", name, got, want)
		}
	}
}

// TestReadersSeeOldOrNewNeverBoth swaps two generations while readers compare the files of one ..data directory.
func TestReadersSeeOldOrNewNeverBoth(t *testing.T) {
	root := openRoot(t)
	generation := func(n int) []File {
		text := fmt.Appendf(nil, "%d", n)
		return own(File{Path: "a", Data: text, Mode: 0o644}, File{Path: "b", Data: text, Mode: 0o644})
	}
	if err := writeFiles(root, generation(0), owners{}, stamp); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for i := 1; i <= 100; i++ {
			if err := writeFiles(root, generation(i), owners{}, stamp.Add(time.Duration(i))); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	complete := 0
	for {
		select {
		case err := <-done:
			if err != nil || complete == 0 {
				t.Errorf("error %v after %d complete reads", err, complete)
			}
			return
		default:
		}
		if _, err := root.Stat("a"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		dir, err := root.OpenRoot("..data")
		if errors.Is(err, fs.ErrNotExist) {
			continue // the link was read, then its target replaced
		}
		if err != nil {
			t.Fatal(err)
		}
		a, errA := dir.ReadFile("a")
		b, errB := dir.ReadFile("b")
		dir.Close()
		if errA == nil && errB == nil {
			complete++
			if string(a) != string(b) {
				t.Fatalf("a is of generation %s, b of %s", a, b)
			}
		}
	}
}

// TestInterruptedWritesAreFinished starts from whatever a killed call can leave behind.
func TestInterruptedWritesAreFinished(t *testing.T) {
	old := own(File{Path: "a", Data: []byte("1"), Mode: 0o644}, File{Path: "gone", Data: []byte("1"), Mode: 0o644})
	files := own(File{Path: "a", Data: []byte("2"), Mode: 0o644}, File{Path: "new/x", Data: []byte("2"), Mode: 0o644})
	half := stamp.Add(time.Second).Format(stampFormat)
	for name, leave := range map[string]func(*os.Root) error{
		"empty data directory": func(r *os.Root) error { return r.Mkdir(half, 0o700) },
		"half a file": func(r *os.Root) error {
			return errors.Join(r.Mkdir(half, 0o700), r.WriteFile(half+"/a", nil, 0o600))
		},
		"new link not renamed": func(r *os.Root) error {
			return errors.Join(publish(r, half, files, owners{}), r.Rename(dataLink, newDataLink), r.Symlink(stamp.Format(stampFormat), dataLink))
		},
		"swapped, links missing": func(r *os.Root) error { return publish(r, half, files, owners{}) },
		"linked, old not removed": func(r *os.Root) error {
			return errors.Join(publish(r, half, files, owners{}), link(r, files, owners{}))
		},
		"data directory lost": func(r *os.Root) error { return r.RemoveAll(stamp.Format(stampFormat)) },
		"file cut by a crash": func(r *os.Root) error {
			return errors.Join(publish(r, half, files, owners{}), r.WriteFile(half+"/a", nil, 0o644))
		},
	} {
		root := openRoot(t)
		if err := errors.Join(writeFiles(root, old, owners{}, stamp), leave(root)); err != nil {
			t.Fatal(name, err)
		}
		if err := writeFiles(root, files, owners{}, stamp.Add(time.Minute)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var names []string
		entries, _ := fs.ReadDir(root.FS(), ".")
		for _, e := range entries[1:] { // but the data directory, whose name differs
			names = append(names, e.Name())
		}
		if want := []string{"..data", "a", "new"}; !slices.Equal(names, want) {
			t.Errorf("%s: got %v, want %v", name, names, want)
		}
		for path := range map[string]bool{"a": true, "new/x": true} {
			if b, err := root.ReadFile(path); string(b) != "2" {
				t.Errorf("%s: %s: got %q, %v", name, path, b, err)
			}
		}
	}
}

func TestAFullVolumeKeepsItsOldFiles(t *testing.T) {
	needMounts(t)
	dir := t.TempDir()
	if err := mountTmpfs(filepath.Join(dir, "v"), tmpfs{size: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	defer Teardown(t.Context(), dir)
	root, err := os.OpenRoot(filepath.Join(dir, "v"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := writeFiles(root, []File{{Path: "a", Data: []byte("1"), Mode: 0o644}}, owners{}, stamp); err != nil {
		t.Fatal(err)
	}
	before := tree(t, root)
	if err := writeFiles(root, []File{{Path: "a", Data: make([]byte, 1<<20), Mode: 0o644}}, owners{}, stamp.Add(1)); err == nil {
		t.Error("1 MiB fits 64 KiB")
	}
	if got := tree(t, root); got != before {
		t.Errorf("got:\n%swant:\n%s", got, before)
	}
}

// TestNoPathLeavesTheVolume writes whatever checkPath accepts and looks at what appeared outside.
func TestNoPathLeavesTheVolume(t *testing.T) {
	element := rapid.SampledFrom([]string{"a", "b", "..", ".", "", "..data", "..data_tmp", "...", " ", "\x00", "-", "a..", strings.Repeat("n", 255), strings.Repeat("n", 256)})
	rapid.Check(t, func(rt *rapid.T) {
		parent, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		volume := filepath.Join(parent, "v")
		if err := os.Mkdir(volume, 0o700); err != nil {
			rt.Fatal(err)
		}
		p := payload{}
		for range rapid.IntRange(1, 4).Draw(rt, "files") {
			p.add(strings.Join(rapid.SliceOfN(element, 1, 4).Draw(rt, "path"), "/"), File{Mode: 0o644})
		}
		files, err := finish(p, nil)
		if err != nil {
			return
		}
		root, err := os.OpenRoot(volume)
		if err != nil {
			rt.Fatal(err)
		}
		defer root.Close()
		if err := writeFiles(root, own(files...), owners{}, stamp); err != nil {
			rt.Fatalf("accepted, then refused: %v: %v", files, err)
		}
		for _, f := range files {
			if info, err := root.Stat(f.Path); err != nil || !info.Mode().IsRegular() {
				rt.Fatalf("%q is not there: %v", f.Path, err)
			}
		}
		if entries, _ := os.ReadDir(parent); len(entries) != 1 {
			rt.Fatalf("outside the volume: %v", entries)
		}
	})
}
