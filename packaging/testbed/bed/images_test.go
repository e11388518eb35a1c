package bed

import (
	"archive/tar"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestRegistryServesItsImagesToHosts(t *testing.T) {
	b := up(t, Config{Images: []string{"busybox", "pause"}})
	h := b.Host("n1")
	registry := b.Registry().String()
	if got := shell(t, h, `curl -sSf "http://$1/v2/docker.io/library/busybox/tags/list"`, registry); !strings.Contains(got, `"1.28"`) {
		t.Errorf("tags: %s", got)
	}
	// A host fetches the layer that the manifest names and runs what is in it.
	got := shell(t, h, `
repo=http://$1/v2/docker.io/library/busybox
layer=$(curl -sSf -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' "$repo/manifests/latest" |
	tr -d ' \n' | grep -o '"layers":.*' | grep -o 'sha256:[0-9a-f]*')
mkdir -p /root/image
curl -sSfL "$repo/blobs/$layer" | tar -xz -C /root/image
chroot /root/image /bin/sh -c 'echo from the image; id -u'`, registry)
	if want := "from the image\n0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// What a test pushes is the bed's own.
	if got := shell(t, h, `curl -sS -o /dev/null -w '%{http_code}' -X POST "http://$1/v2/mine/blobs/uploads/"`, registry); got != "202" {
		t.Errorf("pushing: status %s", got)
	}
}

func TestBedWithoutImagesHasNoRegistry(t *testing.T) {
	b := &Bed{}
	if b.Registry().IsValid() || b.MirrorConfig() != "" {
		t.Errorf("got %s and %q", b.Registry(), b.MirrorConfig())
	}
}

func TestUnknownImageIsAnError(t *testing.T) {
	if _, err := registryRecipe([]string{"no-such"}, nil); err == nil || !strings.Contains(err.Error(), "busybox") {
		t.Errorf("got %v, want the names there are", err)
	}
}

func TestImageArchiveHoldsEveryNameAndTheProgram(t *testing.T) {
	needMachine(t)
	path, err := ImageArchive(t.Context(), "pause", testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, reference := range References("pause") {
		tag, err := name.NewTag(reference)
		if err != nil {
			t.Fatal(err)
		}
		img, err := tarball.ImageFromPath(path, &tag)
		if err != nil {
			t.Fatalf("%s: %v", reference, err)
		}
		config, err := img.ConfigFile()
		if err != nil || !slices.Equal(config.Config.Entrypoint, []string{"/pause", "-P"}) || config.Architecture == "" {
			t.Errorf("%s: %+v, %v", reference, config, err)
		}
	}
	tag, _ := name.NewTag(References("pause")[0])
	img, err := tarball.ImageFromPath(path, &tag)
	if err != nil {
		t.Fatal(err)
	}
	files := tar.NewReader(mutate.Extract(img))
	for {
		header, err := files.Next()
		if err == io.EOF {
			t.Fatal("no /pause in the image")
		} else if err != nil {
			t.Fatal(err)
		}
		if header.Name == "pause" || header.Name == "/pause" {
			if header.Mode&0o111 == 0 {
				t.Errorf("/pause has mode %o", header.Mode)
			}
			return
		}
	}
}
