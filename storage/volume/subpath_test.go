package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// subPaths is a volume and the private directory for its subPaths.
func subPaths(t *testing.T) (volume, private string) {
	t.Helper()
	needMounts(t)
	dir := t.TempDir()
	volume, private = filepath.Join(dir, "volume"), filepath.Join(dir, "subpaths")
	if err := os.Mkdir(volume, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Teardown(context.Background(), private); err != nil { // t.Context is over by now
			t.Error(err)
		}
	})
	return volume, private
}

func bind(t *testing.T, private, volume, sub string) (string, error) {
	t.Helper()
	mounts, err := BindSubPaths(private, "c", []Mount{{Volume: "v", Source: volume, SubPath: sub, Propagation: v1.MountPropagationNone}})
	if err != nil {
		return "", err
	}
	return mounts[0].Source, nil
}

func TestSubPathsAreMadeWithTheVolumesMode(t *testing.T) {
	volume, private := subPaths(t)
	if err := errors.Join(os.Chown(volume, -1, 2000), os.Chmod(volume, 0o777|os.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	old := unix.Umask(0o077)
	source, err := bind(t, private, volume, "x/y")
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(volume, "x"), filepath.Join(volume, "x/y"), source} {
		if got, want := describe(t, path), "dgrwxrwxrwx 2000 disk"; got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if want := filepath.Join(private, "c/0"); source != want {
		t.Errorf("got %s, want %s", source, want)
	}
}

func TestSubPathShowsFilesAndFollowsLinksInside(t *testing.T) {
	volume, private := subPaths(t)
	if err := errors.Join(
		os.Mkdir(filepath.Join(volume, "dir"), 0o755),
		os.WriteFile(filepath.Join(volume, "dir/file"), []byte("text"), 0o644),
		os.Symlink("dir", filepath.Join(volume, "relative")),
		os.Symlink(filepath.Join(volume, "dir"), filepath.Join(volume, "absolute")),
	); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"dir/file", "relative/file", "absolute/file"} {
		source, err := bind(t, private, volume, sub)
		if err != nil {
			t.Fatal(sub, err)
		}
		if b, err := os.ReadFile(source); string(b) != "text" {
			t.Errorf("%s: got %q, %v", sub, b, err)
		}
	}
	if source, err := bind(t, private, volume, "absolute/new"); err != nil || describe(t, source) != "drwx------ 0 disk" {
		t.Errorf("below an absolute link: %v", err)
	}
}

func TestSubPathNeverLeavesTheVolume(t *testing.T) {
	volume, private := subPaths(t)
	outside := filepath.Join(filepath.Dir(volume), "outside")
	if err := errors.Join(
		os.Mkdir(outside, 0o755), os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600),
		os.Symlink(outside, filepath.Join(volume, "absolute")),
		os.Symlink("../outside", filepath.Join(volume, "relative")),
		os.Symlink("/proc/self/root", filepath.Join(volume, "magic")),
		os.Symlink("loop", filepath.Join(volume, "loop")),
		os.Symlink("nowhere", filepath.Join(volume, "dangling")),
		os.WriteFile(filepath.Join(volume, "file"), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"absolute", "absolute/secret", "absolute/new", "relative/secret", "relative/new",
		"magic/etc", "loop", "dangling/x", "file/x"} {
		_, err := bind(t, private, volume, sub)
		var sube *SubPathError
		if !errors.As(err, &sube) || sube.Err == nil {
			t.Errorf("%s: got %v", sub, err)
			continue
		}
		text := `failed to ` + sube.Doing + ` for volumeMount "v" of container "c"`
		if err.Error() != text {
			t.Errorf("%s: the message gives the host away: %v", sub, err)
		}
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 1 {
		t.Errorf("made outside the volume: %v", entries)
	}
}

// TestSubPathCannotBeRedirectedByRenaming is CVE-2017-1002101 and CVE-2021-25741: a container exchanges its directory
// with a link to the host's root while the subPath is being bound.
func TestSubPathCannotBeRedirectedByRenaming(t *testing.T) {
	volume, private := subPaths(t)
	outside := filepath.Join(filepath.Dir(volume), "outside")
	if err := errors.Join(
		os.Mkdir(outside, 0o755), os.Mkdir(filepath.Join(outside, "sub"), 0o755),
		os.Mkdir(filepath.Join(volume, "dir"), 0o755), os.Mkdir(filepath.Join(volume, "dir/sub"), 0o755),
		os.Symlink(outside, filepath.Join(volume, "link")),
	); err != nil {
		t.Fatal(err)
	}
	inside, err := os.Stat(filepath.Join(volume, "dir/sub"))
	if err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, filepath.Join(volume, "dir"), unix.AT_FDCWD, filepath.Join(volume, "link"), unix.RENAME_EXCHANGE)
			}
		}
	}()
	good, refused := 0, 0
	for i := 0; i < 20000 && (i < 1500 || good == 0 || refused == 0); i++ {
		source, err := bind(t, private, volume, "dir/sub")
		if err != nil {
			refused++
			continue
		}
		if info, err := os.Stat(source); err != nil || !os.SameFile(info, inside) {
			t.Fatalf("bound something outside the volume (%v), round %d", err, i)
		}
		good++
		if err := unmount(source); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	<-stopped
	if good == 0 || refused == 0 {
		t.Errorf("the race never happened: %d bound, %d refused", good, refused)
	}
}

func TestBindingAgainKeepsOrReplaces(t *testing.T) {
	volume, private := subPaths(t)
	file := filepath.Join(volume, "f")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := bind(t, private, volume, "f"); err != nil {
			t.Fatal(err)
		}
	}
	if mounts, err := mountsBelow(private); err != nil || !slices.Equal(mounts, []string{filepath.Join(private, "c/0")}) {
		t.Errorf("mounts: %v, %v", mounts, err)
	}
	if err := errors.Join(os.WriteFile(file+".new", []byte("new"), 0o644), os.Rename(file+".new", file)); err != nil {
		t.Fatal(err)
	}
	source, err := bind(t, private, volume, "f")
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(source); string(b) != "new" {
		t.Errorf("a container that starts again sees %q", b)
	}
	if err := errors.Join(os.Remove(file), os.Mkdir(file, 0o700)); err != nil {
		t.Fatal(err)
	}
	if source, err = bind(t, private, volume, "f"); err != nil || describe(t, source) != "drwx------ 0 disk" {
		t.Errorf("a file became a directory: %v", err)
	}
}

func TestSubPathOfAConfigMapKeepsItsFileWhileTheVolumeChanges(t *testing.T) {
	_, private := subPaths(t)
	dir := filepath.Join(filepath.Dir(private), "volumes")
	pod := newPod(nil, configMapVolume("cfg", "app"))
	ready := mustSetup(t, pod, dir, someObjects)
	source, err := bind(t, private, ready["cfg"].Path, "a")
	if err != nil {
		t.Fatal(err)
	}
	mustSetup(t, pod, dir, objects{configMaps: []v1.ConfigMap{configMap("app", map[string]string{"a": "changed"})}})
	if b, _ := os.ReadFile(source); string(b) != "1" {
		t.Errorf("subPath shows %q", b)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "cfg/a")); string(b) != "changed" {
		t.Errorf("volume shows %q", b)
	}
}

func TestPropagationOfABoundSubPath(t *testing.T) {
	volume, private := subPaths(t)
	if err := errors.Join(unix.Mount("tmpfs", volume, "tmpfs", 0, ""), unix.Mount("", volume, "", unix.MS_SHARED, "")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(volume, unix.MNT_DETACH)
	var mounts []Mount
	for _, p := range []v1.MountPropagationMode{v1.MountPropagationNone, v1.MountPropagationHostToContainer, v1.MountPropagationBidirectional} {
		mounts = append(mounts, Mount{Volume: "v", Source: volume, SubPath: "s", Propagation: p})
	}
	if err := CheckPropagation(mounts); err != nil {
		t.Error(err)
	}
	if _, err := BindSubPaths(private, "c", mounts); err != nil {
		t.Fatal(err)
	}
	host, err := readMounts()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []mount{{}, {slave: true}, {shared: true}} {
		want.path = filepath.Join(private, "c", string(rune('0'+i)))
		if got, _ := covering(want.path, host); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}
