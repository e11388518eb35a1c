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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	defaults "k8s.io/kubernetes/pkg/apis/core/v1"
)

// newPod is a defaulted pod with these volumes.
func newPod(group *int64, vols ...v1.Volume) *v1.Pod {
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u"},
		Spec: v1.PodSpec{
			SecurityContext: &v1.PodSecurityContext{FSGroup: group},
			Containers:      []v1.Container{{Name: "c", Image: "i"}},
			Volumes:         vols,
		},
	}
	defaults.SetObjectDefaults_Pod(pod)
	return pod
}

func emptyDir(name string, medium v1.StorageMedium, limit string) v1.Volume {
	src := &v1.EmptyDirVolumeSource{Medium: medium}
	if limit != "" {
		q := resource.MustParse(limit)
		src.SizeLimit = &q
	}
	return v1.Volume{Name: name, VolumeSource: v1.VolumeSource{EmptyDir: src}}
}

func configMap(name string, data map[string]string) v1.ConfigMap {
	return v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"}, Data: data}
}

func configMapVolume(name, of string) v1.Volume {
	return v1.Volume{Name: name, VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{
		LocalObjectReference: v1.LocalObjectReference{Name: of}}}}
}

func secretVolume(name, of string) v1.Volume {
	return v1.Volume{Name: name, VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: of}}}
}

var someObjects = objects{
	configMaps: []v1.ConfigMap{configMap("app", map[string]string{"a": "1", "b": "2"})},
	secrets: []v1.Secret{{ObjectMeta: metav1.ObjectMeta{Name: "tls", Namespace: "ns"},
		Data: map[string][]byte{"key": []byte("s3cret")}}},
}

// mustSetup fails the test on any error.
func mustSetup(t *testing.T, pod *v1.Pod, dir string, objs Objects) map[string]Mounted {
	t.Helper()
	ready, err := Setup(t.Context(), pod, dir, objs, testNode)
	if err != nil {
		t.Fatal(err)
	}
	return ready
}

// describe is mode, group and filesystem of a path, following links.
func describe(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		t.Fatal(err)
	}
	medium := "disk"
	if st.Type == unix.TMPFS_MAGIC {
		medium = "tmpfs"
	}
	_, gid := owner(info)
	return fmt.Sprintf("%v %d %s", info.Mode(), gid, medium)
}

func TestVolumesHaveTheKubeletsModesAndMedia(t *testing.T) {
	needMounts(t)
	group := int64(2000)
	for _, tc := range []struct {
		group *int64
		want  map[string]string
	}{
		{nil, map[string]string{
			"disk":       "drwxrwxrwx 0 disk",
			"mem":        "dtrwxrwxrwx 0 tmpfs",
			"cfg":        "drwxrwxrwx 0 disk",
			"cfg/a":      "-rw-r--r-- 0 disk",
			"sec":        "dtrwxrwxrwx 0 tmpfs",
			"sec/key":    "-rw-r--r-- 0 tmpfs",
			"cfg/..data": "drwxr-xr-x 0 disk",
		}},
		{&group, map[string]string{
			"disk":       "dgrwxrwxrwx 2000 disk",
			"mem":        "dgtrwxrwxrwx 2000 tmpfs",
			"cfg":        "dgrwxrwxrwx 2000 disk",
			"cfg/a":      "-rw-r--r-- 2000 disk",
			"sec":        "dgtrwxrwxrwx 2000 tmpfs",
			"sec/key":    "-rw-r--r-- 2000 tmpfs",
			"cfg/..data": "dgrwxr-xr-x 2000 disk",
		}},
	} {
		old := unix.Umask(0o077) // a service may have any
		dir := filepath.Join(t.TempDir(), "volumes")
		pod := newPod(tc.group, emptyDir("disk", "", ""), emptyDir("mem", "Memory", "1Mi"),
			configMapVolume("cfg", "app"), secretVolume("sec", "tls"))
		ready := mustSetup(t, pod, dir, someObjects)
		unix.Umask(old)
		for path, want := range tc.want {
			if got := describe(t, filepath.Join(dir, path)); got != want {
				t.Errorf("%s: got %s, want %s", path, got, want)
			}
		}
		for name, readOnly := range map[string]bool{"disk": false, "mem": false, "cfg": true, "sec": true} {
			if got, want := ready[name], (Mounted{Path: filepath.Join(dir, name), ReadOnly: readOnly}); got != want {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
		}
		if err := Teardown(t.Context(), dir); err != nil {
			t.Error(err)
		}
	}
}

func TestMemoryVolumeHoldsItsSizeLimit(t *testing.T) {
	needMounts(t)
	dir := t.TempDir()
	ready := mustSetup(t, newPod(nil, emptyDir("mem", "Memory", "1Mi")), dir, objects{})
	defer Teardown(t.Context(), dir)
	err := os.WriteFile(filepath.Join(ready["mem"].Path, "big"), make([]byte, 2<<20), 0o600)
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v, want ENOSPC", err)
	}
}

func TestSizeOfAMemoryVolume(t *testing.T) {
	memory := func(s string) v1.ResourceRequirements {
		if s == "" {
			return v1.ResourceRequirements{}
		}
		return v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceMemory: resource.MustParse(s)}}
	}
	for _, tc := range []struct {
		name   string
		limits []string
		size   string
		node   NodeInfo
		want   string
	}{
		{"node", []string{""}, "", testNode, "8Gi"},
		{"pod limit", []string{"1Gi", "2Gi"}, "", testNode, "3Gi"},
		{"one container without a limit", []string{"1Gi", ""}, "", testNode, "8Gi"},
		{"sizeLimit", []string{"1Gi"}, "10Mi", testNode, "10Mi"},
		{"sizeLimit above the pod", []string{"1Gi"}, "2Gi", testNode, "1Gi"},
		{"sizeLimit zero", []string{""}, "0", testNode, "8Gi"},
		{"unknown node", []string{""}, "", NodeInfo{}, "0"},
		{"unknown node with sizeLimit", []string{""}, "5Mi", NodeInfo{}, "5Mi"},
	} {
		pod := newPod(nil)
		pod.Spec.Containers = nil
		for _, l := range tc.limits {
			pod.Spec.Containers = append(pod.Spec.Containers, v1.Container{Resources: memory(l)})
		}
		want := resource.MustParse(tc.want)
		if got := tmpfsSize(pod, emptyDir("m", "", tc.size).EmptyDir.SizeLimit, tc.node); got != want.Value() {
			t.Errorf("%s: got %d, want %s", tc.name, got, tc.want)
		}
	}
}

func TestSetupAgainLeavesContainersWorkAlone(t *testing.T) {
	needMounts(t)
	dir := t.TempDir()
	pod := newPod(nil, emptyDir("disk", "", ""), emptyDir("mem", "Memory", ""), configMapVolume("cfg", "app"), secretVolume("sec", "tls"))
	ready := mustSetup(t, pod, dir, someObjects)
	defer Teardown(t.Context(), dir)
	for _, name := range []string{"disk", "mem"} {
		if err := errors.Join(os.WriteFile(filepath.Join(ready[name].Path, "x"), []byte("x"), 0o600),
			os.Chmod(ready[name].Path, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Readlink(filepath.Join(dir, "cfg/..data"))
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := mountsBelow(dir)
	if err != nil {
		t.Fatal(err)
	}
	mustSetup(t, pod, dir, someObjects)
	for name, want := range map[string]string{"disk": "drwx------ 0 disk", "mem": "drwx------ 0 tmpfs", "mem/x": "-rw------- 0 tmpfs"} {
		if got := describe(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if after, _ := os.Readlink(filepath.Join(dir, "cfg/..data")); after != before {
		t.Errorf("unchanged content was written again: %s, %s", before, after)
	}
	if again, _ := mountsBelow(dir); !slices.Equal(again, mounts) {
		t.Errorf("mounts got %v, want %v", again, mounts)
	}
}

func TestSecretsNeverLieOnDisk(t *testing.T) {
	needMounts(t)
	dir := t.TempDir()
	mustSetup(t, newPod(nil, secretVolume("sec", "tls")), dir, someObjects)
	defer Teardown(t.Context(), dir)
	if err := unmount(filepath.Join(dir, "sec")); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "sec"))
	if err != nil || len(entries) > 0 {
		t.Errorf("below the tmpfs: %v, %v", entries, err)
	}
	// As after a reboot: the directory is there, the tmpfs is not.
	mustSetup(t, newPod(nil, secretVolume("sec", "tls")), dir, someObjects)
	if got, want := describe(t, filepath.Join(dir, "sec/key")), "-rw-r--r-- 0 tmpfs"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestOneBadVolumeDoesNotHideTheOthers(t *testing.T) {
	needMounts(t)
	dir := t.TempDir()
	pvc := v1.Volume{Name: "pvc", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "x"}}}
	pod := newPod(nil, configMapVolume("gone", "nope"), emptyDir("huge", "HugePages-2Mi", ""), pvc, emptyDir("disk", "", ""))
	ready, err := Setup(t.Context(), pod, dir, objects{}, testNode)
	if len(ready) != 1 || ready["disk"].Path == "" {
		t.Errorf("ready: %v", ready)
	}
	want := `MountVolume.SetUp failed for volume "gone" : configmap "nope" not found; ` +
		`MountVolume.SetUp failed for volume "huge" : storage medium "HugePages-2Mi" is not supported; ` +
		`MountVolume.SetUp failed for volume "pvc" : volume "pvc": persistentVolumeClaim is not implemented yet`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	var errs Errors
	var notYet *NotYet
	if !errors.As(err, &errs) || len(errs) != 3 || !errors.As(err, &notYet) || notYet.Volume != "pvc" || !apierrors.IsNotFound(errs[0]) {
		t.Errorf("errors cannot be told apart: %#v", err)
	}
}

func TestAReadyVolumeOutlivesItsConfigMap(t *testing.T) {
	needMounts(t)
	dir := t.TempDir()
	pod := newPod(nil, configMapVolume("cfg", "app"), secretVolume("sec", "tls"))
	mustSetup(t, pod, dir, someObjects)
	defer Teardown(t.Context(), dir)
	ready, err := Setup(t.Context(), pod, dir, objects{}, testNode)
	if err == nil || len(ready) != 2 {
		t.Errorf("ready %v, error %v", ready, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "cfg/a")); string(b) != "1" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestHostPathTypes(t *testing.T) {
	needMounts(t) // mknod
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(
		os.Mkdir(at("dir"), 0o700), os.WriteFile(at("file"), nil, 0o600),
		unix.Mknod(at("sock"), unix.S_IFSOCK|0o600, 0),
		unix.Mknod(at("char"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))),
		unix.Mknod(at("block"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 250))),
		unix.Mkfifo(at("fifo"), 0o600), os.Symlink("dir", at("dirlink")), os.Symlink("file/x", at("broken")),
	); err != nil {
		t.Fatal(err)
	}
	is := map[v1.HostPathType]string{"Directory": "dir", "DirectoryOrCreate": "dir", "File": "file", "FileOrCreate": "file",
		"Socket": "sock", "CharDevice": "char", "BlockDevice": "block"}
	nouns := map[v1.HostPathType]string{"Directory": "a directory", "DirectoryOrCreate": "a directory", "File": "a file",
		"FileOrCreate": "a file", "Socket": "a socket file", "CharDevice": "a character device", "BlockDevice": "a block device"}
	for want, right := range is {
		for _, there := range []string{"dir", "file", "sock", "char", "block", "fifo", "dirlink", "missing"} {
			os.RemoveAll(at("missing"))
			_, err := hostPath(&v1.HostPathVolumeSource{Path: at(there), Type: &want})
			ok := there == right || there == "dirlink" && right == "dir" || there == "missing" && strings.HasSuffix(string(want), "OrCreate")
			text := fmt.Sprintf("hostPath type check failed: %s is not %s", at(there), nouns[want])
			if there == "missing" {
				text += ": it does not exist"
			}
			if ok && err != nil || !ok && (err == nil || err.Error() != text) {
				t.Errorf("%s as %s: got %v", there, want, err)
			}
		}
	}
	for _, tc := range []struct {
		path string
		typ  v1.HostPathType
		want string // of the error, or how the result looks
	}{
		{"new/deep", "DirectoryOrCreate", "drwxr-xr-x 0 disk"},
		{"newfile", "FileOrCreate", "-rw-r--r-- 0 disk"},
		{"nodir/file", "FileOrCreate", "open " + at("nodir/file") + ": no such file or directory"},
		{"unset/deep", "", "drwxr-xr-x 0 disk"},
		{"fifo", "", "prw------- 0 disk"},
		{"dir", "Weird", "Weird is an invalid volume type"},
		{"file/x", "DirectoryOrCreate", "mkdir " + at("file") + ": not a directory"},
	} {
		m, err := hostPath(&v1.HostPathVolumeSource{Path: at(tc.path), Type: &tc.typ})
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = describe(t, m.Path)
		}
		if got != tc.want {
			t.Errorf("%s as %q: got %s, want %s", tc.path, tc.typ, got, tc.want)
		}
	}
	_, err := hostPath(&v1.HostPathVolumeSource{Path: "/a/../b"})
	if err == nil || err.Error() != "invalid HostPath `/a/../b`: must not contain '..'" {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat("/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("/b was made")
	}
}

func TestNestedMountpointsAreMadeBeforeFilesAndStay(t *testing.T) {
	needMounts(t)
	dir := t.TempDir()
	pod := newPod(nil, configMapVolume("cfg", "app"), emptyDir("e", "", ""))
	pod.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "cfg", MountPath: "/etc/app"}, {Name: "e", MountPath: "/etc/app/a/deep"}}
	for range 2 {
		mustSetup(t, pod, dir, someObjects)
		for path, want := range map[string]string{"cfg/a/deep": "drwxr-xr-x 0 disk", "cfg/b": "-rw-r--r-- 0 disk"} {
			if got := describe(t, filepath.Join(dir, path)); got != want {
				t.Errorf("%s: got %s, want %s", path, got, want)
			}
		}
	}
}
