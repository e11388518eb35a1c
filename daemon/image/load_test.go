package image

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// dockerArchive is what docker save writes for one image.
func dockerArchive(t testing.TB, tag string, img v1.Image) []byte {
	t.Helper()
	ref, err := name.NewTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tarball.Write(ref, img, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func ociLayout(t testing.TB, dir string, annotations map[string]string, img v1.Image) {
	t.Helper()
	p, err := layout.FromPath(dir)
	if err != nil {
		if p, err = layout.Write(dir, emptyIndex); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.AppendImage(img, layout.WithAnnotations(annotations)); err != nil {
		t.Fatal(err)
	}
}

func tarOfDir(t testing.TB, dir string) []byte {
	t.Helper()
	out, err := exec.Command("tar", "-C", dir, "-c", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestArchivesOfAllFormsLoad(t *testing.T) {
	needRoot(t)
	img := hostImage(t, layerOf(t, file("a", "one")), layerOf(t, file("a", "two")))
	docker := dockerArchive(t, "app:v1", img)
	dir := filepath.Join(t.TempDir(), "layout")
	ociLayout(t, dir, map[string]string{"org.opencontainers.image.ref.name": "docker.io/library/app:v1"}, img)
	var gz, zs bytes.Buffer
	g := gzip.NewWriter(&gz)
	z, _ := zstd.NewWriter(&zs)
	g.Write(docker)
	z.Write(docker)
	if err := errors.Join(g.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) string {
		p := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for form, file := range map[string]string{
		"docker archive": write("x.tar", docker),
		"gzip":           write("x.tgz", gz.Bytes()),
		"zstd":           write("x", zs.Bytes()),
		"OCI archive":    write("y.tar", tarOfDir(t, dir)),
		"OCI layout":     dir,
	} {
		t.Run(form, func(t *testing.T) {
			s := openStore(t, Config{})
			images, err := s.Load(t.Context(), file, LoadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(images) != 1 || fmt.Sprint(images[0].Names) != "[docker.io/library/app:v1]" {
				t.Fatalf("got %+v", images)
			}
			if got, err := s.Get("app:v1"); err != nil || got.ID != images[0].ID {
				t.Errorf("Get: %v", err)
			}
			if got := listing(t, mounted(t, images[0])); got != "a two\n" {
				t.Errorf("got %q", got)
			}
		})
	}
	s := openStore(t, Config{})
	images, err := s.LoadReader(t.Context(), bytes.NewReader(docker), LoadOptions{Name: "other:v2"})
	if err != nil || fmt.Sprint(images[0].Names) != "[docker.io/library/other:v2]" {
		t.Errorf("stream with a name: %+v, %v", images, err)
	}
	if left, _ := os.ReadDir(s.path("tmp")); len(left) != 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

func TestBadArchives(t *testing.T) {
	needRoot(t)
	good := dockerArchive(t, "app:v1", hostImage(t, layerOf(t, file("a", strings.Repeat("one", 10_000)))))
	tests := map[string]struct {
		b    []byte
		kind error
	}{
		"empty":          {nil, ErrInvalid},
		"not an archive": {[]byte(strings.Repeat("hello ", 1000)), ErrInvalid},
		"another tar":    {tarOf(t, file("README", "hi")), ErrInvalid},
		"cut short":      {good[:len(good)/2], ErrInvalid},
		"wrong platform": {dockerArchive(t, "app:v1", imageFor(t, v1.Platform{OS: "linux", Architecture: "s390x"}, layerOf(t, file("a", "b")))), ErrPlatform},
		"link loop":      {tarOf(t, link('2', "manifest.json", "x"), link('2', "x", "manifest.json")), ErrInvalid},
		"config outside": {tarOf(t, file("manifest.json", `[{"Config":"../../../../etc/passwd","Layers":[]}]`)), ErrInvalid},
		"layer missing":  {tarOf(t, file("manifest.json", `[{"Config":"c","Layers":["nope"]}]`), file("c", `{"rootfs":{"diff_ids":["sha256:`+strings.Repeat("0", 64)+`"]}}`)), ErrInvalid},
		"digest a path":  {tarOf(t, file("index.json", `{"schemaVersion":2,"manifests":[{"size":1,"digest":"sha256:../../x"}]}`)), ErrInvalid},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, Config{})
			if _, err := s.LoadReader(t.Context(), bytes.NewReader(tc.b), LoadOptions{}); !errors.Is(err, tc.kind) {
				t.Errorf("got %v, want %v", err, tc.kind)
			}
			if left, _ := os.ReadDir(s.path("layers")); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestDropInsAreReadOnceAndBadOnesReported(t *testing.T) {
	needRoot(t)
	dropIn, dir := t.TempDir(), filepath.Join(t.TempDir(), "oci")
	put := func(name string, b []byte) {
		// As a careful writer does; a careless one is met by the archive being invalid until it is done.
		tmp := filepath.Join(dropIn, "."+name)
		if err := os.WriteFile(tmp, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dropIn, name)); err != nil {
			t.Fatal(err)
		}
	}
	put("good.tar", dockerArchive(t, "good:v1", hostImage(t, layerOf(t, file("a", "1")))))
	put("bad.tar", []byte("rubbish"))
	put("half.tar.part", []byte("rubbish"))
	ociLayout(t, filepath.Join(dropIn, "layout"), map[string]string{"io.containerd.image.name": "docker.io/library/oci:v1"}, hostImage(t, layerOf(t, file("b", "2"))))
	if err := unix.Mkfifo(filepath.Join(dropIn, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, Config{Dir: dir, DropIn: dropIn})
	look := func(wantLoaded int, wantProblems ...string) {
		t.Helper()
		images, problems := s.LoadDropIns(t.Context())
		var files []string
		for _, p := range problems {
			files = append(files, filepath.Base(p.File))
		}
		if len(images) != wantLoaded || fmt.Sprint(files) != fmt.Sprint(wantProblems) {
			t.Errorf("loaded %d, problems %v; want %d, %v", len(images), problems, wantLoaded, wantProblems)
		}
	}
	look(2, "bad.tar", "fifo")
	look(0, "bad.tar", "fifo")
	s.Close()
	s = openStore(t, Config{Dir: dir, DropIn: dropIn})
	look(0, "bad.tar", "fifo")
	for _, ref := range []string{"good:v1", "oci:v1"} {
		if _, err := s.Get(ref); err != nil {
			t.Error(err)
		}
	}
	put("bad.tar", dockerArchive(t, "mended:v1", hostImage(t, layerOf(t, file("c", "3")))))
	look(1, "fifo")
	if err := s.Remove("good:v1", nil); err != nil {
		t.Fatal(err)
	}
	look(1, "fifo")
	if err := os.Remove(filepath.Join(dropIn, "fifo")); err != nil {
		t.Fatal(err)
	}
	look(0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	put("late.tar", dockerArchive(t, "late:v1", hostImage(t, layerOf(t, file("d", "4")))))
	if _, problems := s.LoadDropIns(ctx); len(problems) != 1 {
		t.Errorf("cancelled: %v", problems)
	}
	look(1)
}
