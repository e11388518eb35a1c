package manifests

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bench is a Reader over a host's root in a temporary directory.
type bench struct {
	t    *testing.T
	root string
	r    *Reader
	fs   *faulty
}

// faulty is the real file system with errors put in at some paths, and with
// device numbers that differ where a test says that a disk is mounted.
type faulty struct {
	osFiles
	fail    map[string]error
	mounted map[string]bool
	reads   int
}

func (f *faulty) ReadDir(dir string) ([]fs.DirEntry, error) {
	if err := f.fail[dir]; err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return f.osFiles.ReadDir(dir)
}

func (f *faulty) Stat(path string) (stamp, error) {
	st, err := f.osFiles.Stat(path)
	if f.mounted[path] {
		st.ID.Dev += 1000
	}
	return st, err
}

func (f *faulty) Read(path string) (content, error) {
	f.reads++
	if err := f.fail[path]; err != nil {
		return content{}, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return f.osFiles.Read(path)
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, root: t.TempDir(), fs: &faulty{fail: map[string]error{}, mounted: map[string]bool{}}}
	b.restart()
	for _, s := range StandardSources(b.root) {
		if err := os.MkdirAll(s.Dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// restart is a new run of the daemon. Files are treated as long settled.
func (b *bench) restart() {
	b.r = NewReader(StandardSources(b.root))
	b.r.files = b.fs
}

func (b *bench) path(name string) string { return filepath.Join(b.root, "etc/shoal/manifests", name) }

// write replaces a file atomically, as every good tool does.
func (b *bench) write(path, text string) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	tmp := filepath.Join(filepath.Dir(path), ".new")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		b.t.Fatal(err)
	}
}

// expect scans and compares the text of the state, with the root cut off.
func (b *bench) expect(want string) Set {
	b.t.Helper()
	set := b.r.Scan()
	got := strings.ReplaceAll(set.String(), b.root, "")
	if want = strings.TrimLeft(want, "\n"); got != want {
		b.t.Fatalf("got:\n%s\nwant:\n%s", got, want)
	}
	return set
}

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\n"
}

func TestHigherPrecedenceWinsAndDuplicatesInOneSourceAreNamed(t *testing.T) {
	b := newBench(t)
	b.write(b.path("b.yaml"), configMap("x"))
	b.write(b.path("a/x.yml"), configMap("x"))
	b.write(filepath.Join(b.root, "usr/lib/shoal/manifests/pkg.json"), `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"}}`)
	b.write(filepath.Join(b.root, "var/lib/shoal/manifests/api.yaml"), configMap("z"))
	b.expect(`
/etc/shoal/manifests/a/x.yml 1 objects
/etc/shoal/manifests/b.yaml 1 objects
/var/lib/shoal/manifests/api.yaml 1 objects
/usr/lib/shoal/manifests/pkg.json 1 objects
claim /ConfigMap/default/x at /etc/shoal/manifests/a/x.yml:1:1, over /etc/shoal/manifests/b.yaml:1:1, over /usr/lib/shoal/manifests/pkg.json:1:1
claim /ConfigMap/default/z at /var/lib/shoal/manifests/api.yaml:1:1
problem /etc/shoal/manifests/b.yaml:1:1: ConfigMap default/x is already declared at /etc/shoal/manifests/a/x.yml:1:1, which counts; this one is passed over
`)
	os.Remove(b.path("a/x.yml"))
	b.expect(`
/etc/shoal/manifests/b.yaml 1 objects
/var/lib/shoal/manifests/api.yaml 1 objects
/usr/lib/shoal/manifests/pkg.json 1 objects
claim /ConfigMap/default/x at /etc/shoal/manifests/b.yaml:1:1, over /usr/lib/shoal/manifests/pkg.json:1:1
claim /ConfigMap/default/z at /var/lib/shoal/manifests/api.yaml:1:1
`)
}

func TestBrokenFileKeepsItsLastGoodVersion(t *testing.T) {
	b := newBench(t)
	b.write(b.path("a.yaml"), configMap("x"))
	b.expect("/etc/shoal/manifests/a.yaml 1 objects\nclaim /ConfigMap/default/x at /etc/shoal/manifests/a.yaml:1:1\n")
	b.write(b.path("a.yaml"), configMap("x")+"dta: {}\n")
	stale := `
/etc/shoal/manifests/a.yaml stale, 1 objects of its last good version
claim /ConfigMap/default/x at /etc/shoal/manifests/a.yaml:1:1
problem /etc/shoal/manifests/a.yaml:4:1: unknown field "dta" (did you mean data?)
`
	set := b.expect(stale)
	if !set.Claims[0].Stale {
		t.Error("the claim does not say that it is stale")
	}
	b.write(b.path("other.yaml"), configMap("z"))
	b.expect(`
/etc/shoal/manifests/a.yaml stale, 1 objects of its last good version
/etc/shoal/manifests/other.yaml 1 objects
claim /ConfigMap/default/x at /etc/shoal/manifests/a.yaml:1:1
claim /ConfigMap/default/z at /etc/shoal/manifests/other.yaml:1:1
problem /etc/shoal/manifests/a.yaml:4:1: unknown field "dta" (did you mean data?)
`)
	// x moves to the other file while its old one is broken: the good file's word counts.
	b.write(b.path("other.yaml"), configMap("x"))
	b.expect(`
/etc/shoal/manifests/a.yaml stale, 1 objects of its last good version
/etc/shoal/manifests/other.yaml 1 objects
claim /ConfigMap/default/x at /etc/shoal/manifests/other.yaml:1:1, over /etc/shoal/manifests/a.yaml:1:1
problem /etc/shoal/manifests/a.yaml:4:1: unknown field "dta" (did you mean data?)
`)
	os.Remove(b.path("other.yaml"))
	os.Remove(b.path("a.yaml"))
	b.expect("\n")
}

func TestLastGoodVersionSurvivesARestart(t *testing.T) {
	b := newBench(t)
	b.write(b.path("a.yaml"), configMap("x"))
	b.write(b.path("gone.yaml"), configMap("gone"))
	mtime := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := os.Chtimes(b.path("a.yaml"), mtime, mtime); err != nil {
		t.Fatal(err)
	}
	before := b.r.Scan()
	stored, err := json.Marshal(before.Memory())
	if err != nil {
		t.Fatal(err)
	}
	b.write(b.path("a.yaml"), "{{ nope")
	os.Remove(b.path("gone.yaml"))
	b.restart()
	var m Memory
	if err := json.Unmarshal(stored, &m); err != nil {
		t.Fatal(err)
	}
	if err := b.r.Restore(m); err != nil {
		t.Fatal(err)
	}
	set := b.r.Scan()
	if len(set.Claims) != 1 || !set.Claims[0].Stale || !set.Claims[0].ModTime.Equal(mtime) || len(set.Files[0].Problems) != 1 {
		t.Fatalf("got %v", set)
	}
	got, want := set.Claims[0].Object, before.Claims[1].Object
	if got.Key != want.Key || string(got.Declared) != string(want.Declared) || got.Pos != want.Pos {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := b.r.Restore(Memory{Version: memoryVersion + 1}); err == nil {
		t.Error("a newer format was accepted")
	}
}

func TestMissingDirectoryIsNoDeletion(t *testing.T) {
	b := newBench(t)
	dir := filepath.Dir(b.path("x"))
	b.write(b.path("sub/a.yaml"), configMap("x"))
	b.expect("/etc/shoal/manifests/sub/a.yaml 1 objects\nclaim /ConfigMap/default/x at /etc/shoal/manifests/sub/a.yaml:1:1\n")
	os.Rename(dir, dir+"-away")
	kept := `
/etc/shoal/manifests/sub/a.yaml stale, 1 objects of its last good version
claim /ConfigMap/default/x at /etc/shoal/manifests/sub/a.yaml:1:1
problem /etc/shoal/manifests: cannot be read: no such file or directory; the 1 objects that its files declared stay in force
problem /etc/shoal/manifests/sub/a.yaml: cannot be read: no such file or directory
`
	b.expect(kept)
	b.expect(kept)
	os.Rename(dir+"-away", dir)
	good := "/etc/shoal/manifests/sub/a.yaml 1 objects\nclaim /ConfigMap/default/x at /etc/shoal/manifests/sub/a.yaml:1:1\n"
	b.expect(good)
	b.fs.fail[filepath.Join(dir, "sub")] = syscall.EIO
	b.expect(`
/etc/shoal/manifests/sub/a.yaml stale, 1 objects of its last good version
claim /ConfigMap/default/x at /etc/shoal/manifests/sub/a.yaml:1:1
problem /etc/shoal/manifests/sub: cannot be read: input/output error; the 1 objects that its files declared stay in force
problem /etc/shoal/manifests/sub/a.yaml: cannot be read: input/output error
`)
	clear(b.fs.fail)
	b.expect(good)
	os.RemoveAll(filepath.Join(dir, "sub"))
	b.expect("\n")
}

func TestUnmountedDiskIsNoDeletion(t *testing.T) {
	b := newBench(t)
	disk := b.path("disk")
	b.write(filepath.Join(disk, "a.yaml"), configMap("x"))
	b.fs.mounted[disk] = true
	b.expect("/etc/shoal/manifests/disk/a.yaml 1 objects\nclaim /ConfigMap/default/x at /etc/shoal/manifests/disk/a.yaml:1:1\n")
	os.Remove(filepath.Join(disk, "a.yaml"))
	b.fs.mounted[disk] = false
	kept := `
/etc/shoal/manifests/disk/a.yaml stale, 1 objects of its last good version
claim /ConfigMap/default/x at /etc/shoal/manifests/disk/a.yaml:1:1
problem /etc/shoal/manifests/disk: cannot be read: it was a mount point and is empty now: its disk seems to be unmounted; the 1 objects that its files declared stay in force
problem /etc/shoal/manifests/disk/a.yaml: cannot be read: it was a mount point and is empty now: its disk seems to be unmounted
`
	set := b.expect(kept)
	b.restart()
	if err := b.r.Restore(set.Memory()); err != nil {
		t.Fatal(err)
	}
	b.expect(kept)
	b.fs.mounted[disk] = true // the disk is back, and the file is deleted from it
	b.expect("\n")
}

func TestLinkToAnUnreachableDirectoryIsNoDeletion(t *testing.T) {
	b := newBench(t)
	far := filepath.Join(b.root, "srv/apps")
	b.write(filepath.Join(far, "a.yaml"), configMap("x"))
	os.Symlink(far, b.path("apps"))
	b.expect("/etc/shoal/manifests/apps/a.yaml 1 objects\nclaim /ConfigMap/default/x at /etc/shoal/manifests/apps/a.yaml:1:1\n")
	os.Rename(far, far+"-away")
	if set := b.r.Scan(); len(set.Claims) != 1 || !set.Claims[0].Stale {
		t.Errorf("got:\n%s", set)
	}
}

func TestOddFilesAreReportedAndHoldNothingUp(t *testing.T) {
	b := newBench(t)
	b.write(b.path("good.yaml"), configMap("x"))
	if err := unix.Mkfifo(b.path("fifo.yaml"), 0o644); err != nil {
		t.Fatal(err)
	}
	os.Symlink("loop.yaml", b.path("loop.yaml"))
	os.Symlink("nowhere.yaml", b.path("dangling.yaml"))
	os.Symlink("/dev/zero", b.path("zero.yaml"))
	os.Symlink(".", b.path("round"))
	if f, err := os.Create(b.path("huge.yaml")); err != nil || f.Truncate(100<<20) != nil {
		t.Fatal("cannot make a large file")
	}
	b.fs.fail[b.path("locked.yaml")] = syscall.EACCES
	b.write(b.path("locked.yaml"), configMap("locked"))
	b.write(b.path("README.md"), "hello")
	b.write(b.path("overlay/kustomization.yaml"), "resources: []")
	b.write(b.path("chart/Chart.yaml"), "name: x")
	b.write(b.path("chart/templates/x.yaml"), "{{ }}")
	for _, name := range []string{".a.yaml.swp", "a.yaml~", ".#a.yaml", "#a.yaml#", "4913", "a.yaml.tmp", ".git/x.yaml", "a.yaml.dpkg-new", ".ansible_tmpa.yaml"} {
		b.write(b.path(name), "not: [yaml")
	}
	os.Mkdir(b.path("dir.yaml"), 0o755)
	b.expect(`
/etc/shoal/manifests/README.md ignored: its name does not end in .yaml, .yml or .json
/etc/shoal/manifests/chart/Chart.yaml ignored: part of a Helm chart: put the output of helm template here
/etc/shoal/manifests/dangling.yaml refused, nothing in force
/etc/shoal/manifests/fifo.yaml refused, nothing in force
/etc/shoal/manifests/good.yaml 1 objects
/etc/shoal/manifests/huge.yaml refused, nothing in force
/etc/shoal/manifests/locked.yaml refused, nothing in force
/etc/shoal/manifests/loop.yaml refused, nothing in force
/etc/shoal/manifests/overlay/kustomization.yaml ignored: a kustomization is built, not run: put the output of kustomize build here
/etc/shoal/manifests/zero.yaml refused, nothing in force
claim /ConfigMap/default/x at /etc/shoal/manifests/good.yaml:1:1
problem /etc/shoal/manifests/round: not entered: a loop of links, or nested too deep
problem /etc/shoal/manifests/dangling.yaml: cannot be read: no such file or directory
problem /etc/shoal/manifests/fifo.yaml: cannot be read: a FIFO, not a regular file
problem /etc/shoal/manifests/huge.yaml: cannot be read: the file has 100 MiB; more than 4 MiB are not read
problem /etc/shoal/manifests/locked.yaml: cannot be read: permission denied
problem /etc/shoal/manifests/loop.yaml: cannot be read: too many levels of symbolic links
problem /etc/shoal/manifests/zero.yaml: cannot be read: a device, not a regular file
`)
}

func TestUnchangedFilesAreNotReadAgain(t *testing.T) {
	b := newBench(t)
	b.write(b.path("a.yaml"), configMap("x"))
	b.r.now = func() time.Time { return time.Now().Add(time.Minute) }
	b.r.Scan()
	reads := b.fs.reads
	first := b.r.Scan()
	if b.fs.reads != reads {
		t.Errorf("an unchanged file was read %d times more", b.fs.reads-reads)
	}
	// The same size, and the time set back: only ctime tells.
	info, err := os.Stat(b.path("a.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.path("a.yaml"), []byte(configMap("z")), 0o644); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(b.path("a.yaml"), info.ModTime(), info.ModTime())
	if set := b.r.Scan(); set.Claims[0].Key.Name != "z" || first.Claims[0].Key.Name != "x" {
		t.Errorf("got %v, then %v", first.Claims[0].Key, set.Claims[0].Key)
	}
}

func TestRecentChangeIsReadAgainThoughItsStampIsTheSame(t *testing.T) {
	b := newBench(t)
	b.write(b.path("a.yaml"), configMap("x"))
	b.r.Scan()
	reads := b.fs.reads
	b.r.Scan()
	if b.fs.reads == reads {
		t.Error("a file changed a moment ago was trusted by its stamp")
	}
}

func TestFileBeingWrittenIsWaitedFor(t *testing.T) {
	b := newBench(t)
	b.write(b.path("a.yaml"), configMap("x"))
	b.r.Scan()
	f, err := os.OpenFile(b.path("a.yaml"), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(configMap("half")); err != nil {
		t.Fatal(err)
	}
	if !beingWrittenWorks(t, b.root) {
		t.Skip("this file system grants read leases although a writer has the file open")
	}
	set := b.r.Scan()
	if !set.Unsettled || len(set.Claims) != 1 || set.Claims[0].Key.Name != "x" {
		t.Fatalf("half a file was taken: unsettled %v\n%s", set.Unsettled, set)
	}
	b.r.now = func() time.Time { return time.Now().Add(writeTime) }
	if set := b.r.Scan(); set.Unsettled || set.Claims[0].Key.Name != "half" {
		t.Errorf("a file that is held open without being written is waited for: unsettled %v\n%s", set.Unsettled, set)
	}
	f.Close()
	b.r.now = time.Now
	b.write(b.path("a.yaml"), configMap("whole"))
	if set := b.r.Scan(); set.Unsettled || set.Claims[0].Key.Name != "whole" {
		t.Errorf("unsettled %v\n%s", set.Unsettled, set)
	}
}

func beingWrittenWorks(t *testing.T, dir string) bool {
	f, err := os.Create(filepath.Join(dir, "probe"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return beingWritten(r)
}

func TestReasonLeavesThePathOut(t *testing.T) {
	err := &fs.PathError{Op: "open", Path: "/x", Err: errors.New("why")}
	if got := reason(err); got != "why" {
		t.Errorf("got %q", got)
	}
}
