package image

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stack makes n directories that a store could have made, each with a file of its own.
func stack(t testing.TB, n int) Image {
	t.Helper()
	needRoot(t)
	base := t.TempDir()
	var img Image
	for i := range n {
		dir := filepath.Join(base, fmt.Sprintf("%x", i), "diff")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{fmt.Sprintf("f%d", i), "top"} {
			if err := os.WriteFile(filepath.Join(dir, name), fmt.Append(nil, i), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		img.Layers = append(img.Layers, dir)
	}
	return img
}

func TestManyLayers(t *testing.T) {
	for _, n := range []int{1, 2, 60, 127, 400} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			img := stack(t, n)
			cwd, _ := os.Getwd()
			root := mounted(t, img)
			if top, err := os.ReadFile(filepath.Join(root, "top")); string(top) != "0" {
				t.Errorf("top layer: %s, %v", top, err)
			}
			if entries, _ := os.ReadDir(root); len(entries) != n+1 {
				t.Errorf("%d files, want %d", len(entries), n+1)
			}
			if now, _ := os.Getwd(); now != cwd {
				t.Errorf("the working directory became %s", now)
			}
		})
	}
}

func TestMountAgainChangesNothing(t *testing.T) {
	img := stack(t, 2)
	dir := t.TempDir()
	for range 3 {
		merged, err := MountRoot(img, dir, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(merged, "mine"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n := mountsBelow(t, dir); n != 1 {
		t.Errorf("%d mounts, want 1", n)
	}
	for range 2 {
		if err := Unmount(dir); err != nil {
			t.Fatal(err)
		}
	}
	if n := mountsBelow(t, dir); n != 0 {
		t.Errorf("%d mounts left", n)
	}
	if _, err := os.Stat(filepath.Join(dir, "upper/mine")); err != nil {
		t.Errorf("what the container wrote is gone: %v", err)
	}
	if entries, _ := os.ReadDir(img.Layers[0]); len(entries) != 2 {
		t.Errorf("the layer was written: %v", entries)
	}
	if err := Unmount(filepath.Join(dir, "never")); err != nil {
		t.Errorf("nothing there: %v", err)
	}
}

func mountsBelow(t testing.TB, dir string) int {
	t.Helper()
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(table), " "+dir+"/")
}

func TestBusyRootIsUnmounted(t *testing.T) {
	img := stack(t, 2)
	dir := t.TempDir()
	merged, err := MountRoot(img, dir, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(merged, "top"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Unmount(dir); err != nil || mountsBelow(t, dir) != 0 {
		t.Errorf("got %v, %d mounts left", err, mountsBelow(t, dir))
	}
}

func TestReadOnlyRoot(t *testing.T) {
	for _, n := range []int{1, 3} {
		dir := t.TempDir()
		merged, err := MountRoot(stack(t, n), dir, true, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(merged, "x"), nil, 0o600); err == nil {
			t.Errorf("%d layers: written", n)
		}
		if err := Unmount(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestRootfsPathsMayHoldSeparators(t *testing.T) {
	needRoot(t)
	for _, name := range []string{"a:b", "a,b", `a\b`, "a b", `x,lowerdir=:\`} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		img, err := openRootfs("rootfs://" + dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := listing(t, mounted(t, img)); got != "f x\n" {
			t.Errorf("%q: got %q", name, got)
		}
	}
}

func TestHostRootIsSeenWithoutItsSecretsAndNotWritten(t *testing.T) {
	needRoot(t)
	s := openStore(t, Config{})
	img, err := s.Get("rootfs:///")
	if err != nil {
		t.Fatal(err)
	}
	if !img.HostRoot || !strings.Contains(fmt.Sprint(img.Masked), "/etc/shadow") {
		t.Fatalf("got %+v", img)
	}
	root := mounted(t, img)
	want, _ := os.ReadFile("/etc/passwd")
	if got, err := os.ReadFile(filepath.Join(root, "etc/passwd")); string(got) != string(want) {
		t.Errorf("/etc/passwd: %v", err)
	}
	for _, secret := range img.Masked {
		info, err := os.Lstat(filepath.Join(root, secret))
		if err != nil {
			t.Errorf("%s: %v", secret, err)
			continue
		}
		host, _ := os.Lstat(secret)
		if info.Mode() != host.Mode() {
			t.Errorf("%s: mode %v, on the host %v", secret, info.Mode(), host.Mode())
		}
		if info.IsDir() {
			if entries, err := os.ReadDir(filepath.Join(root, secret)); err != nil || len(entries) != 0 {
				t.Errorf("%s shows %v, %v", secret, entries, err)
			}
		} else if info.Size() != 0 {
			t.Errorf("%s shows %d bytes", secret, info.Size())
		}
	}
	mine := fmt.Sprintf("etc/shoal-test-%d", os.Getpid())
	if err := os.WriteFile(filepath.Join(root, mine), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/" + mine); err == nil {
		os.Remove("/" + mine)
		t.Error("the host's root was written")
	}
}

// A tree with a file system of its own inside stands for a host whose /usr is one, with a secret in each.
func TestSubmountsOfTheHostRootAreSeen(t *testing.T) {
	host := smallDisk(t, 1<<20)
	write := func(name, content string) {
		p := filepath.Join(host, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("etc/key", "secret")
	write("usr/behind", "not seen on the host")
	if err := unix.Mount("tmpfs", filepath.Join(host, "usr"), "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	write("usr/bin/prog", "program")
	write("usr/lib/key", "secret")
	img := Image{HostRoot: true, Layers: []string{host}, Submounts: []string{"/usr"}, Masked: []string{"/etc/key", "/usr/lib/key"}}
	root := mounted(t, img)
	want := "etc/\netc/key \nusr/\nusr/bin/\nusr/bin/prog program\nusr/lib/\nusr/lib/key \n"
	if got := listing(t, root); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if err := os.RemoveAll(filepath.Join(root, "etc/key")); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(root, "etc/key")); err == nil {
		t.Error("removing what hides a secret shows it")
	}
	dir := t.TempDir()
	merged, err := MountRoot(img, dir, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := listing(t, merged); got != want {
		t.Errorf("read-only: got:\n%s\nwant:\n%s", got, want)
	}
	if err := os.WriteFile(filepath.Join(merged, "usr/x"), nil, 0o600); err == nil {
		t.Error("a read-only root was written")
	}
	if err := Unmount(dir); err != nil || mountsBelow(t, dir) != 0 {
		t.Errorf("unmount: %v, %d left", err, mountsBelow(t, dir))
	}
	if err := os.WriteFile(filepath.Join(root, "usr/new"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(host, "usr/new")); err == nil {
		t.Error("the host's /usr was written")
	}
}

func TestSubmountsAreFound(t *testing.T) {
	const kinds = "nodev\tsysfs\nnodev\ttmpfs\nnodev\toverlay\nnodev\tzfs\n\text4\n\tbtrfs\n"
	const table = `1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
2 1 8:2 / /usr rw shared:2 - ext4 /dev/sda2 rw
3 1 0:5 / /var rw - zfs pool/var rw
4 3 8:3 / /var/lib/shoal rw - ext4 /dev/sda3 rw
5 3 8:4 / /var/with\040space rw master:1 propagate_from:2 - btrfs /dev/sdb rw
6 1 0:6 / /run rw - tmpfs tmpfs rw
7 3 0:7 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
8 1 8:5 / /home rw - ext4 /dev/sda5 rw
9 1 8:6 / /usrlocal rw - ext4 /dev/sda6 rw
`
	if got, want := fmt.Sprintf("%q", submounts(table, kinds)), `["/usr" "/var" "/var/with space"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
