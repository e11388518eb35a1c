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

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
)

func TestTeardownLeavesNothingAndTouchesNoHostPath(t *testing.T) {
	needMounts(t)
	base := t.TempDir()
	host, podDir := filepath.Join(base, "host"), filepath.Join(base, "pod dir\t\\040")
	if err := errors.Join(os.Mkdir(host, 0o755), os.WriteFile(filepath.Join(host, "keep"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	pod := newPod(nil, emptyDir("disk", "", ""), emptyDir("mem", "Memory", ""), configMapVolume("cfg", "app"), secretVolume("sec", "tls"),
		v1.Volume{Name: "host", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: host}}})
	ready := mustSetup(t, pod, filepath.Join(podDir, "volumes"), someObjects)
	mounts := []Mount{{Volume: "host", Source: host, SubPath: "sub"}, {Volume: "mem", Source: ready["mem"].Path, SubPath: "s"}}
	if _, err := BindSubPaths(filepath.Join(podDir, "subpaths"), "c", mounts); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(host, filepath.Join(ready["disk"].Path, "link")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Teardown(t.Context(), podDir); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(podDir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("still there: %v", err)
		}
		if left, _ := mountsBelow(podDir); len(left) > 0 {
			t.Errorf("mounts left: %v", left)
		}
	}
	for _, name := range []string{"keep", "sub"} {
		if _, err := os.Stat(filepath.Join(host, name)); err != nil {
			t.Error(err)
		}
	}
}

// TestTeardownDoesNotUnmountTheHostsOwnMounts: below the copy of a shared mount lie copies of what the host mounts
// there, and an unmount would travel back.
func TestTeardownDoesNotUnmountTheHostsOwnMounts(t *testing.T) {
	volume, private := subPaths(t)
	if err := errors.Join(unix.Mount("tmpfs", volume, "tmpfs", 0, ""), unix.Mount("", volume, "", unix.MS_SHARED, "")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(volume, unix.MNT_DETACH)
	if _, err := BindSubPaths(private, "c", []Mount{{Volume: "v", Source: volume, SubPath: "s", Propagation: v1.MountPropagationBidirectional}}); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(volume, "s/disk")
	if err := errors.Join(os.Mkdir(disk, 0o755), unix.Mount("tmpfs", disk, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	if mounts, _ := mountsBelow(private); len(mounts) != 2 {
		t.Fatalf("the host's mount does not show below the subPath: %v", mounts)
	}
	if err := Teardown(t.Context(), private); err != nil {
		t.Fatal(err)
	}
	if ok, err := isTmpfs(disk); !ok {
		t.Errorf("the host's own mount is gone: %v", err)
	}
}

func TestTeardownUnwindsStackedHiddenAndBusyMounts(t *testing.T) {
	needMounts(t)
	dir := filepath.Join(t.TempDir(), "pod")
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, on := range []string{"a/b", "a/b", "a", "a"} { // those on a hide those on a/b
		if err := unix.Mount("tmpfs", filepath.Join(dir, on), "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	busy, err := os.Create(filepath.Join(dir, "a/open"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := Teardown(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if left, _ := mountsBelow(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestRemovalStopsAtAMount(t *testing.T) {
	needMounts(t)
	for _, at := range []string{"mnt", "x/mnt", "x/y/mnt"} {
		base := t.TempDir()
		host, dir := filepath.Join(base, "host"), filepath.Join(base, "pod")
		keep, inner := filepath.Join(host, "keep"), filepath.Join(dir, at)
		if err := errors.Join(os.Mkdir(host, 0o755), os.WriteFile(keep, nil, 0o600), os.MkdirAll(inner, 0o755),
			unix.Mount(host, inner, "", unix.MS_BIND, "")); err != nil { // the same filesystem: device numbers tell nothing
			t.Fatal(err)
		}
		if err := removeTree(t.Context(), dir); err == nil {
			t.Errorf("%s: removed a directory with a mount in it", at)
		}
		if _, err := os.Stat(keep); err != nil {
			t.Error(at, err)
		}
		if err := Teardown(t.Context(), dir); err != nil {
			t.Error(at, err)
		}
		if _, err := os.Stat(keep); err != nil {
			t.Error(at, err)
		}
	}
}

// nest makes a directory deeper than any path may be, as a container can.
func nest(t *testing.T, dir string, depth int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		if err := unix.Mkdirat(fd, "deeper", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "deeper", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	unix.Close(fd)
}

func TestTeardownRemovesWhatContainersCanMake(t *testing.T) {
	needMounts(t)
	dir := filepath.Join(t.TempDir(), "pod")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, ".gone-1/.gone-2"), 0o755), os.Mkdir(filepath.Join(dir, "closed"), 0o000),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600), os.Symlink("/etc", filepath.Join(dir, "etc"))); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nest(t, dir, 1000)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := unix.Rlimit{Cur: 256, Max: limit.Max} // fewer than there are levels
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	if err := Teardown(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Fatal(err)
	}
}

func TestUsageCountsWhatDuCounts(t *testing.T) {
	needMounts(t)
	dir := t.TempDir()
	write := func(name string, size int) {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "sub"), 0o755), os.Mkdir(filepath.Join(dir, "mnt"), 0o755),
		unix.Mount("tmpfs", filepath.Join(dir, "mnt"), "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	defer unmount(filepath.Join(dir, "mnt"))
	empty, inodes, err := Usage(t.Context(), dir)
	if err != nil || inodes != 2 {
		t.Fatalf("%d inodes, %v", inodes, err)
	}
	write("f", 8192)
	write("sub/g", 4096)
	write("mnt/not counted", 1<<20)
	if err := errors.Join(os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "sub/hard")), os.Symlink("/", filepath.Join(dir, "sub/root")),
		os.Truncate(filepath.Join(dir, "f"), 1<<30)); err != nil { // a hole takes no blocks
		t.Fatal(err)
	}
	bytes, inodes, err := Usage(t.Context(), dir)
	if err != nil || bytes-empty != 12288 || inodes != 5 {
		t.Errorf("got %d bytes, %d inodes, %v", bytes-empty, inodes, err)
	}
	nest(t, dir, maxDepth+1)
	if _, inodes, err = Usage(t.Context(), dir); !errors.Is(err, ErrTooDeep) || inodes != 5+maxDepth+1 {
		t.Errorf("too deep: %d inodes, %v", inodes, err)
	}
}

func TestOwnershipFollowsTheKubelet(t *testing.T) {
	needMounts(t)
	onMismatch, always := v1.FSGroupChangeOnRootMismatch, v1.FSGroupChangeAlways
	setup := func() string {
		dir := t.TempDir()
		if err := errors.Join(os.Chmod(dir, 0o700), os.Mkdir(filepath.Join(dir, "d"), 0o700), os.WriteFile(filepath.Join(dir, "d/f"), nil, 0o600),
			os.Symlink("/etc/passwd", filepath.Join(dir, "l"))); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	passwd := describe(t, "/etc/passwd")
	for _, tc := range []struct {
		readOnly      bool
		policy        *v1.PodFSGroupChangePolicy
		right         bool // the root is right beforehand
		root, d, file string
	}{
		{false, nil, false, "dgrwxrwx--- 2000 disk", "dgrwxrwx--- 2000 disk", "-rw-rw---- 2000 disk"},
		{true, nil, false, "dgrwxr-x--- 2000 disk", "dgrwxr-x--- 2000 disk", "-rw-r----- 2000 disk"},
		{false, &always, true, "dgrwxrwx--- 2000 disk", "dgrwxrwx--- 2000 disk", "-rw-rw---- 2000 disk"},
		{false, &onMismatch, false, "dgrwxrwx--- 2000 disk", "dgrwxrwx--- 2000 disk", "-rw-rw---- 2000 disk"},
		{false, &onMismatch, true, "dgrwxrwx--- 2000 disk", "drwx------ 0 disk", "-rw------- 0 disk"},
	} {
		dir := setup()
		if tc.right {
			if err := errors.Join(os.Chown(dir, -1, 2000), os.Chmod(dir, 0o770|os.ModeSetgid)); err != nil {
				t.Fatal(err)
			}
		}
		if err := SetOwnership(t.Context(), dir, 2000, tc.readOnly, tc.policy); err != nil {
			t.Error(err)
		}
		got := []string{describe(t, dir), describe(t, filepath.Join(dir, "d")), describe(t, filepath.Join(dir, "d/f"))}
		if want := []string{tc.root, tc.d, tc.file}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := describe(t, "/etc/passwd"); got != passwd {
		t.Errorf("a link was followed: %s", got)
	}
}

func TestPropagationIsRefusedWhereItCannotWork(t *testing.T) {
	host := []mount{{path: "/"}, {path: "/shared", shared: true}, {path: "/slave", slave: true}, {path: "/shared/private"}}
	for _, tc := range []struct {
		path string
		mode v1.MountPropagationMode
		want string
	}{
		{"/shared/x", v1.MountPropagationBidirectional, "<nil>"},
		{"/shared", v1.MountPropagationHostToContainer, "<nil>"},
		{"/slave/x", v1.MountPropagationHostToContainer, "<nil>"},
		{"/slave/x", v1.MountPropagationBidirectional, `path "/slave/x" is mounted on "/slave" but it is not a shared mount`},
		{"/sharedness", v1.MountPropagationBidirectional, `path "/sharedness" is mounted on "/" but it is not a shared mount`},
		{"/shared/private/x", v1.MountPropagationHostToContainer, `path "/shared/private/x" is mounted on "/shared/private" but it is not a shared or slave mount`},
	} {
		if got := fmt.Sprint(propagates(tc.path, tc.mode, host)); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}

func TestMountinfoIsReadAsTheKernelWritesIt(t *testing.T) {
	text := `22 1 0:20 / /a\040b\134c rw,relatime - tmpfs tmpfs rw
23 22 0:21 /x /s rw shared:7 master:3 propagate_from:2 - ext4 /dev/x rw
`
	got, err := parseMountinfo(text)
	if want := []mount{{path: `/a b\c`}, {path: "/s", shared: true, slave: true}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"x\n", "1 2 3 4 5 - tmpfs\n", "1 2 3 4 /p rw shared:1\n"} {
		if m, err := parseMountinfo(bad); err == nil {
			t.Errorf("%q: got %v", bad, m)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		path := "/" + strings.ReplaceAll(rapid.String().Draw(rt, "path"), "\x00", "")
		mangled := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(path)
		if got := unescape(mangled); got != path {
			rt.Fatalf("got %q, want %q", got, path)
		}
	})
}
