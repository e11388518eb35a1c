package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

func unpackInto(t testing.TB, dir string, entries ...entry) (unpacked, error) {
	t.Helper()
	return unpack(t.Context(), bytes.NewReader(tarOf(t, entries...)), dir)
}

func TestHostileLayersStayInside(t *testing.T) {
	needRoot(t)
	tests := map[string][]entry{
		"dot dot":                  {file("../../outside/x", "evil")},
		"dot dot in the middle":    {directory("a", 0o755), file("a/../../outside/x", "evil")},
		"absolute name":            {file("/outside/x", "evil")},
		"relative symlink":         {link(tar.TypeSymlink, "a", "../../outside"), file("a/x", "evil")},
		"absolute symlink":         {link(tar.TypeSymlink, "a", "OUTSIDE"), file("a/x", "evil")},
		"new file by symlink":      {link(tar.TypeSymlink, "a", "OUTSIDE"), file("a/new", "evil")},
		"new directory by symlink": {link(tar.TypeSymlink, "a", "OUTSIDE/sub"), directory("a/new", 0o777), file("a/b/c", "evil")},
		"new device by dot dot":    {link(tar.TypeSymlink, "a", "../outside"), {Header: tar.Header{Typeflag: tar.TypeChar, Name: "a/null", Devmajor: 1, Devminor: 3}}},
		"whiteout of new name":     {link(tar.TypeSymlink, "a", "OUTSIDE"), file("a/.wh.new", "")},
		"chain of symlinks":        {link(tar.TypeSymlink, "a", "b/.."), link(tar.TypeSymlink, "b", "OUTSIDE/sub"), file("a/x", "evil")},
		"symlink as file":          {link(tar.TypeSymlink, "x", "OUTSIDE/x"), file("x", "evil")},
		"symlink as directory":     {link(tar.TypeSymlink, "a", "OUTSIDE"), directory("a", 0o777)},
		"proc as a way out":        {link(tar.TypeSymlink, "a", "/proc/self/root/OUTSIDE"), file("a/x", "evil")},
		"hard link to outside":     {link(tar.TypeLink, "a", "OUTSIDE/x"), file("a", "evil")},
		"hard link by dot dot":     {link(tar.TypeLink, "a", "../outside/x"), file("a", "evil")},
		"hard link via symlink":    {link(tar.TypeSymlink, "s", "OUTSIDE"), link(tar.TypeLink, "a", "s/x"), file("a", "evil")},
		"whiteout of dot dot":      {file("..wh", ""), file(".wh...", ""), file(".wh..", ""), file("a/.wh...", "")},
		"whiteout through symlink": {link(tar.TypeSymlink, "s", "OUTSIDE"), file("s/.wh.x", ""), file("s/.wh..wh..opq", "")},
		"chmod through hard link":  {link(tar.TypeSymlink, "s", "OUTSIDE/x"), link(tar.TypeLink, "h", "s"), {Header: tar.Header{Typeflag: tar.TypeDir, Name: "h", Mode: 0o777}}},
		"replaced parent":          {directory("d", 0o755), file("d/1", ""), link(tar.TypeSymlink, "d", "OUTSIDE"), file("d/x", "evil")},
	}
	for name, entries := range tests {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			outside, inside := filepath.Join(base, "outside"), filepath.Join(base, "layer")
			for _, d := range []string{filepath.Join(outside, "sub"), inside} {
				if err := os.MkdirAll(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(outside, "x"), []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			for i := range entries {
				entries[i].Linkname = strings.ReplaceAll(entries[i].Linkname, "OUTSIDE", outside)
			}
			before := outsideState(t, base, outside)
			_, err := unpackInto(t, inside, entries...)
			if err != nil && !errors.Is(err, ErrInvalid) {
				t.Errorf("error is not ErrInvalid: %v", err)
			}
			if got := outsideState(t, base, outside); got != before {
				t.Errorf("outside changed:\n%s\nwas:\n%s\nerror: %v", got, before, err)
			}
		})
	}
}

func outsideState(t testing.TB, base, outside string) string {
	t.Helper()
	var st, dir unix.Stat_t
	if err := errors.Join(unix.Stat(filepath.Join(outside, "x"), &st), unix.Stat(outside, &dir)); err != nil {
		return err.Error()
	}
	names, err := os.ReadDir(base)
	if err != nil {
		t.Fatal(err)
	}
	opaque, _ := unix.Lgetxattr(base, opaqueXattr, make([]byte, 10))
	return fmt.Sprintf("%s%v mode=%o links=%d dir=%o opaque=%d", listing(t, outside), names, st.Mode, st.Nlink, dir.Mode, opaque)
}

func TestLayerKeepsOwnersModesTimesLinksAndAttributes(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	when := time.Unix(1_234_567_890, 0)
	_, err := unpackInto(t, dir,
		entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o711, Uid: 5, Gid: 6, ModTime: when}},
		entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o1777, Uid: 1, Gid: 2, ModTime: when}},
		entry{tar.Header{Typeflag: tar.TypeReg, Name: "d/suid", Mode: 0o4755, Uid: 3, Gid: 4, Size: 2, ModTime: when,
			PAXRecords: map[string]string{"SCHILY.xattr.user.k": "v", "SCHILY.xattr.trusted.overlay.redirect": "/etc"}}, "hi"},
		link(tar.TypeLink, "d/same", "d/suid"),
		entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "d/sym", Linkname: "/nowhere", Uid: 9, Gid: 9, ModTime: when}},
		entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "d/null", Mode: 0o666, Devmajor: 1, Devminor: 3}},
		entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "d/fifo", Mode: 0o622}},
	)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		".":      "40711 5:6",
		"d":      "41777 1:2 mtime=1234567890",
		"d/suid": "104755 3:4 mtime=1234567890",
		"d/same": "104755 3:4 mtime=1234567890",
		"d/sym":  "120777 9:9 mtime=1234567890",
		"d/null": "20666 0:0",
		"d/fifo": "10622 0:0",
	} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%o %d:%d mtime=%d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
		if (name == "d/suid" || name == "d/same") && st.Nlink != 2 {
			t.Errorf("%s: %d links, want 2", name, st.Nlink)
		}
		if name == "d/null" && st.Rdev != unix.Mkdev(1, 3) {
			t.Errorf("%s: device %d", name, st.Rdev)
		}
	}
	value := make([]byte, 10)
	if n, err := unix.Lgetxattr(filepath.Join(dir, "d/suid"), "user.k", value); err != nil || string(value[:n]) != "v" {
		t.Errorf("user.k: got %q, %v", value[:max(n, 0)], err)
	}
	if _, err := unix.Lgetxattr(filepath.Join(dir, "d/suid"), "trusted.overlay.redirect", value); err != unix.ENODATA {
		t.Errorf("a layer set trusted.overlay.redirect: %v", err)
	}
}

// Layers on top of: a/{1,2} b/{1,2} c/1 f(ile) tmp/ (1777).
func TestWhiteoutsOnARealOverlay(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name  string
		upper []entry
		want  string
	}{
		{"file", []entry{file("a/.wh.1", "")}, "a/\na/2 2\nb/\nb/1 1\nb/2 2\nc/\nc/1 1\nf f\ntmp/\n"},
		{"directory", []entry{file(".wh.a", ""), file(".wh.f", "")}, "b/\nb/1 1\nb/2 2\nc/\nc/1 1\ntmp/\n"},
		{"opaque", []entry{directory("a", 0o755), file("a/3", "new"), file("a/.wh..wh..opq", "")}, "a/\na/3 new\nb/\nb/1 1\nb/2 2\nc/\nc/1 1\nf f\ntmp/\n"},
		{"opaque marker first", []entry{file("a/.wh..wh..opq", ""), directory("a", 0o755), file("a/3", "new")}, "a/\na/3 new\nb/\nb/1 1\nb/2 2\nc/\nc/1 1\nf f\ntmp/\n"},
		{"whiteout then directory of that name", []entry{file(".wh.a", ""), directory("a", 0o755), file("a/3", "new")}, "a/\na/3 new\nb/\nb/1 1\nb/2 2\nc/\nc/1 1\nf f\ntmp/\n"},
		{"whiteout then implied directory", []entry{file(".wh.a", ""), file("a/3", "new")}, "a/\na/3 new\nb/\nb/1 1\nb/2 2\nc/\nc/1 1\nf f\ntmp/\n"},
		{"directory then whiteout of it", []entry{directory("a", 0o755), file("a/3", "new"), file(".wh.a", "")}, "a/\na/3 new\nb/\nb/1 1\nb/2 2\nc/\nc/1 1\nf f\ntmp/\n"},
		{"file then whiteout of it", []entry{file("f", "new"), file(".wh.f", "")}, "a/\na/1 1\na/2 2\nb/\nb/1 1\nb/2 2\nc/\nc/1 1\nf new\ntmp/\n"},
		{"directory becomes file", []entry{file("a", "now a file")}, "a now a file\nb/\nb/1 1\nb/2 2\nc/\nc/1 1\nf f\ntmp/\n"},
		{"file becomes directory", []entry{directory("f", 0o755), file("f/x", "")}, "a/\na/1 1\na/2 2\nb/\nb/1 1\nb/2 2\nc/\nc/1 1\nf/\nf/x \ntmp/\n"},
		{"aufs bookkeeping", []entry{directory(".wh..wh.plnk", 0o700), file(".wh..wh.plnk/1.2", "x"), file(".wh..wh.aufs", "")}, "a/\na/1 1\na/2 2\nb/\nb/1 1\nb/2 2\nc/\nc/1 1\nf f\ntmp/\n"},
		{"implied directory keeps its mode", []entry{file("tmp/x", "")}, "a/\na/1 1\na/2 2\nb/\nb/1 1\nb/2 2\nc/\nc/1 1\nf f\ntmp/\ntmp/x \n"},
	}
	bottom := layerOf(t, directory("./", 0o751), directory("a", 0o755), file("a/1", "1"), file("a/2", "2"), directory("b", 0o755),
		file("b/1", "1"), file("b/2", "2"), directory("c", 0o700), file("c/1", "1"), file("f", "f"), directory("tmp", 0o1777))
	reg := newRegistry(t)
	s := openStore(t, Config{})
	for i, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			repo := fmt.Sprintf("wh:%d", i)
			reg.push(t, repo, hostImage(t, bottom, layerOf(t, tc.upper...)))
			img, err := s.Pull(t.Context(), reg.host+"/"+repo, PullOptions{})
			if err != nil {
				t.Fatal(err)
			}
			root := mounted(t, img)
			if got := listing(t, root); got != tc.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tc.want)
			}
			for name, want := range map[string]os.FileMode{".": 0o751 | os.ModeDir, "tmp": 0o777 | os.ModeDir | os.ModeSticky} {
				if info, err := os.Lstat(filepath.Join(root, name)); err != nil || info.Mode() != want {
					t.Errorf("%s: got %v, want %v (%v)", name, info.Mode(), want, err)
				}
			}
		})
	}
}

// containerd's unpacker is the oracle for what two independent readers must agree on: layers that describe their
// directories and do not contradict themselves.
func TestRandomLayersUnpackAsContainerdDoes(t *testing.T) {
	needRoot(t)
	for seed := range uint64(60) {
		raw := tarOf(t, randomLayer(rand.New(rand.NewPCG(seed, 1)))...)
		ours, theirs := t.TempDir(), t.TempDir()
		if _, err := unpack(t.Context(), bytes.NewReader(raw), ours); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if _, err := archive.Apply(t.Context(), theirs, bytes.NewReader(raw), archive.WithConvertWhiteout(archive.OverlayConvertWhiteout)); err != nil {
			t.Fatalf("seed %d: containerd: %v", seed, err)
		}
		if got, want := fullListing(t, ours), fullListing(t, theirs); got != want {
			t.Fatalf("seed %d: got:\n%s\nwant:\n%s", seed, got, want)
		}
	}
}

func randomLayer(r *rand.Rand) []entry {
	dirs := []string{""}
	var files []string
	var list []entry
	for i := range 5 + r.IntN(40) {
		name := dirs[r.IntN(len(dirs))] + fmt.Sprintf("n%d", i)
		var e entry
		switch k := r.IntN(8); {
		case k < 2:
			e = directory(name+"/", int64(r.IntN(0o2000)))
			dirs = append(dirs, name+"/")
		case k == 2:
			e = link(tar.TypeSymlink, name, "/x/../y")
		case k == 3 && len(files) > 0:
			list = append(list, link(tar.TypeLink, name, files[r.IntN(len(files))]))
			continue // containerd sets a link's attributes again, we do not
		case k == 4:
			e = file(dirs[r.IntN(len(dirs))]+".wh."+fmt.Sprintf("gone%d", i), "")
		case k == 5:
			e = file(dirs[r.IntN(len(dirs))]+".wh..wh..opq", "")
			if e.Name == ".wh..wh..opq" {
				continue
			}
		default:
			e = file(name, strings.Repeat("x", r.IntN(5000)))
			e.Mode = int64(r.IntN(0o10000))
			files = append(files, name)
		}
		e.Uid, e.Gid = r.IntN(70000), r.IntN(70000)
		if strings.Contains(e.Name, ".wh.") {
			e.Uid, e.Gid = 0, 0
		}
		e.ModTime = time.Unix(int64(r.IntN(2_000_000_000)), 0)
		list = append(list, e)
	}
	for i := range list {
		if list[i].Typeflag == tar.TypeLink {
			for _, e := range list {
				if e.Name == list[i].Linkname {
					list[i].Mode, list[i].Uid, list[i].Gid, list[i].ModTime = e.Mode, e.Uid, e.Gid, e.ModTime
				}
			}
		}
	}
	return list
}

func fullListing(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(listing(t, dir)) {
		name, _, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(line), "/"), " ")
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
			t.Fatal(err)
		}
		value := make([]byte, 10)
		n, _ := unix.Lgetxattr(filepath.Join(dir, name), opaqueXattr, value)
		mtime := st.Mtim.Sec
		if st.Mode&unix.S_IFMT == unix.S_IFCHR {
			mtime = 0 // a whiteout's is nobody's business
		}
		fmt.Fprintf(&b, "%o %d:%d links=%d size=%d mtime=%d opaque=%q %s", st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, mtime, value[:max(n, 0)], line)
	}
	return b.String()
}

func TestCompressionIsFoundByContent(t *testing.T) {
	needRoot(t)
	raw := tarOf(t, file("x", "hello"))
	var gz, zs bytes.Buffer
	g := gzip.NewWriter(&gz)
	z, _ := zstd.NewWriter(&zs)
	for _, w := range []io.WriteCloser{g, z} {
		if _, err := w.Write(raw); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range map[string][]byte{"plain": raw, "gzip": gz.Bytes(), "zstd": zs.Bytes()} {
		dir := t.TempDir()
		out, err := unpack(t.Context(), bytes.NewReader(b), dir)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if out.DiffID != hashOf(raw) || listing(t, dir) != "x hello\n" {
			t.Errorf("%s: diff id %s, files %q", name, out.DiffID, listing(t, dir))
		}
	}
	if _, err := unpack(t.Context(), strings.NewReader("BZh91AY"), t.TempDir()); !errors.Is(err, ErrInvalid) {
		t.Errorf("bzip2: got %v, want ErrInvalid", err)
	}
}

func TestLayerCannotFillTheDisk(t *testing.T) {
	dir := smallDisk(t, 20<<20)
	zeros := io.MultiReader(bytes.NewReader(headerOnly(t, 1<<40)), zeroes{})
	_, err := unpack(t.Context(), zeros, dir)
	if !errors.Is(err, ErrDiskFull) {
		t.Fatalf("got %v, want ErrDiskFull", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Bavail == 0 {
		t.Error("no block is left")
	}
}

// GNU tar's sparse formats let a header of a kilobyte stand for a file of any size.
func TestSparseFilesAreRefused(t *testing.T) {
	needRoot(t)
	src := t.TempDir()
	f, err := os.Create(filepath.Join(src, "holes"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(1<<40), f.Close()); err != nil {
		t.Skipf("no large sparse files here: %v", err)
	}
	for _, format := range []string{"gnu", "pax"} {
		raw, err := exec.Command("tar", "--sparse", "--format="+format, "-C", src, "-c", "holes").Output()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unpack(t.Context(), bytes.NewReader(raw), t.TempDir()); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "sparse") {
			t.Errorf("%s: got %v", format, err)
		}
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func headerOnly(t testing.TB, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "big", Size: size, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// smallDisk mounts a file system of its own.
func smallDisk(t testing.TB, size int64) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// FuzzUnpack looks for layers that get out, that crash the reader, or that fail with an error of no kind.
func FuzzUnpack(f *testing.F) {
	needRoot(f)
	f.Add(tarOf(f, file("a/b", "x"), link(tar.TypeSymlink, "l", "../.."), file("l/etc/x", "y"), file("a/.wh..wh..opq", ""), file(".wh.a", "")))
	f.Add(tarOf(f, link(tar.TypeLink, "h", "/etc/passwd"), directory("d", 0o1777), link(tar.TypeSymlink, "d", "/"), file("d/tmp/x", "y")))
	f.Add(tarOf(f, file(".wh.d", ""), directory("d", 0o755), file("d/.wh...", ""), entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "c", Devmajor: 1, Devminor: 3}}))
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0})
	base := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		outer, err := os.MkdirTemp(base, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(outer)
		dir := filepath.Join(outer, "layer")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := unpack(context.Background(), bytes.NewReader(raw), dir)
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("error of no kind: %v", err)
		}
		if err == nil {
			if err := settle(dir, out.Implied, []string{base}); err != nil {
				t.Errorf("settle: %v", err)
			}
		}
		entries, err := os.ReadDir(outer)
		if err != nil || len(entries) != 1 {
			t.Errorf("outside of the layer: %v, %v", entries, err)
		}
	})
}

// BenchmarkUnpack compares with tar and containerd on one layer: Debian-like, 4,000 files, 80 MB, gzip.
func BenchmarkUnpack(b *testing.B) {
	needRoot(b)
	raw := bigLayer(b)
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	if _, err := w.Write(raw); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	layer := filepath.Join(b.TempDir(), "layer.tar.gz")
	if err := os.WriteFile(layer, gz.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	run := func(name string, unpackTo func(b *testing.B, dir string) error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				b.StopTimer()
				dir, err := os.MkdirTemp(b.TempDir(), "")
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := unpackTo(b, dir); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				os.RemoveAll(dir)
				b.StartTimer()
			}
		})
	}
	run("shoal", func(b *testing.B, dir string) error {
		_, err := unpack(b.Context(), bytes.NewReader(gz.Bytes()), dir)
		return err
	})
	run("tar", func(b *testing.B, dir string) error {
		return exec.Command("tar", "-xzf", layer, "-C", dir).Run()
	})
	run("containerd", func(b *testing.B, dir string) error {
		r, err := gzip.NewReader(bytes.NewReader(gz.Bytes()))
		if err != nil {
			return err
		}
		_, err = archive.Apply(b.Context(), dir, r, archive.WithConvertWhiteout(archive.OverlayConvertWhiteout))
		return err
	})
}

// bigLayer has content that compresses about as well as programs do.
func bigLayer(b *testing.B) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	words := make([]byte, 1<<16)
	for i := range words {
		words[i] = byte(r.IntN(256))
	}
	var list []entry
	for d := range 200 {
		list = append(list, directory(fmt.Sprintf("usr/share/d%d/", d), 0o755))
		for f := range 20 {
			var body strings.Builder
			for body.Len() < 20_000 {
				at := r.IntN(len(words) - 64)
				body.Write(words[at : at+4+r.IntN(60)])
			}
			list = append(list, file(fmt.Sprintf("usr/share/d%d/f%d", d, f), body.String()))
		}
	}
	return tarOf(b, append([]entry{directory("usr", 0o755), directory("usr/share", 0o755)}, list...)...)
}
