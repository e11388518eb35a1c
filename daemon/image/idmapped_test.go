package image

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/daemon/idmap"
)

const testFirst = 1_900_544_000 // a multiple of 65536

// userNS is a user namespace with its IDs from testFirst on.
func userNS(t testing.TB) *UserNS {
	t.Helper()
	needRoot(t)
	ids := []syscall.SysProcIDMap{{HostID: testFirst, Size: 65536}}
	holder := exec.Command("cat")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Skipf("no user namespaces here: %v", err)
	}
	t.Cleanup(func() {
		in.Close()
		holder.Wait()
	})
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", holder.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return &UserNS{NS: ns, First: testFirst}
}

func owners(t testing.TB, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d %v", st.Uid, st.Gid, info.Mode())
}

func mountedFor(t testing.TB, img Image, dir string, readOnly bool, ids *UserNS) string {
	t.Helper()
	merged, err := MountRoot(img, dir, readOnly, ids)
	if u := (*idmap.Unsupported)(nil); errors.As(err, &u) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Unmount(dir); err != nil || mountsBelow(t, dir) != 0 {
			t.Errorf("unmount: %v, %d mounts left", err, mountsBelow(t, dir))
		}
	})
	return merged
}

func TestRootShowsTheIDsOfAUserNamespace(t *testing.T) {
	ids := userNS(t)
	for _, n := range []int{1, 2, 127, 400} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			img := stack(t, n)
			if err := os.Chown(filepath.Join(img.Layers[n-1], "top"), 1000, 50); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(img.Layers[n-1], "su"), nil, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Join(img.Layers[n-1], "su"), 0o755|os.ModeSetuid); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			root := mountedFor(t, img, dir, false, ids)
			mountedFor(t, img, dir, false, ids)
			if got := mountsBelow(t, dir); got != 1 {
				t.Errorf("%d mounts, want 1", got)
			}
			want := map[string]string{
				".":  fmt.Sprintf("%d:%d drwxr-xr-x", testFirst, testFirst),
				"su": fmt.Sprintf("%d:%d urwxr-xr-x", testFirst, testFirst),
			}
			if n == 1 {
				want["top"] = fmt.Sprintf("%d:%d -rw-r--r--", testFirst+1000, testFirst+50)
			}
			for name, want := range want {
				if got := owners(t, filepath.Join(root, name)); got != want {
					t.Errorf("%s: got %s, want %s", name, got, want)
				}
			}
			// Copied up: the upper directory has the host's IDs, the layer stays as it is.
			if err := os.Chmod(filepath.Join(root, "f0"), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, want := owners(t, filepath.Join(dir, "upper/f0")), fmt.Sprintf("%d:%d -rw-------", testFirst, testFirst); got != want {
				t.Errorf("copied up: got %s, want %s", got, want)
			}
			if got, want := owners(t, filepath.Join(img.Layers[0], "f0")), "0:0 -rw-r--r--"; got != want {
				t.Errorf("layer: got %s, want %s", got, want)
			}
		})
	}
}

func TestReadOnlyRootShowsTheIDsOfAUserNamespace(t *testing.T) {
	ids := userNS(t)
	for _, n := range []int{1, 3} {
		root := mountedFor(t, stack(t, n), t.TempDir(), true, ids)
		if got, want := owners(t, filepath.Join(root, "f0")), fmt.Sprintf("%d:%d -rw-r--r--", testFirst, testFirst); got != want {
			t.Errorf("%d layers: got %s, want %s", n, got, want)
		}
		if err := os.WriteFile(filepath.Join(root, "x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("%d layers: written: %v", n, err)
		}
	}
}

// What hides secrets belongs to whom the secret belongs, as the namespace counts.
func TestHiddenSecretsBelongToTheUserNamespace(t *testing.T) {
	ids := userNS(t)
	img := stack(t, 1)
	host := img.Layers[0]
	if err := os.MkdirAll(filepath.Join(host, "etc/keys"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(host, "etc/shadow"), []byte("secret"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(host, "etc/shadow"), 0, 42); err != nil {
		t.Fatal(err)
	}
	img.HostRoot, img.Masked = true, []string{"/etc/shadow", "/etc/keys"}
	root := mountedFor(t, img, t.TempDir(), false, ids)
	if b, err := os.ReadFile(filepath.Join(root, "etc/shadow")); err != nil || len(b) != 0 {
		t.Errorf("a secret shows: %q, %v", b, err)
	}
	for name, want := range map[string]string{
		"etc":        fmt.Sprintf("%d:%d drwxr-xr-x", testFirst, testFirst),
		"etc/keys":   fmt.Sprintf("%d:%d drwxr-x---", testFirst, testFirst),
		"etc/shadow": fmt.Sprintf("%d:%d -rw-r-----", testFirst, testFirst+42),
	} {
		if name == "etc" { // made with the umask of whoever runs this
			want = fmt.Sprintf("%d:%d %v", testFirst, testFirst, mode(t, filepath.Join(host, "etc")))
		}
		if got := owners(t, filepath.Join(root, name)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func mode(t testing.TB, path string) os.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

func TestAFileSystemWithoutIDMappingIsNamed(t *testing.T) {
	ids := userNS(t)
	_, err := MountRoot(Image{ID: "x", Layers: []string{"/proc"}}, t.TempDir(), false, ids)
	if u := (*idmap.Unsupported)(nil); !errors.As(err, &u) || u.Kind != "proc" || u.Path != "/proc" {
		t.Errorf("got %v, want that /proc on proc can't", err)
	}
}
