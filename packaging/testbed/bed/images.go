package bed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// installScript installs packages in the root $1, which is a plain copy of Debian, without starting any service, and
// leaves nothing of apt's own behind. The mounts are in a namespace of the script's own.
const installScript = `set -eu
root=$1 setup=$2; shift 2
mount -t proc proc "$root/proc"
mount --bind /dev/null "$root/dev/null"
cp /etc/resolv.conf "$root/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C RUNLEVEL=1
if [ $# -gt 0 ]; then
	chroot "$root" apt-get -q update
	chroot "$root" apt-get -qy --no-install-recommends install "$@"
	chroot "$root" apt-get -q clean
fi
chroot "$root" sh -euc "$setup"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root/usr/sbin/policy-rc.d" "$root"/var/log/*.log \
	"$root"/var/log/apt/*
: > "$root/etc/resolv.conf"
`

// scratchScript makes the root of an image without Debian. $1 is its directory, $2 what to do. Packages are taken from
// the machine's apt.
const scratchScript = `set -eu
export ROOT=$1 DEB=$1.deb
fetch() {
	mkdir -p "$DEB/archives"
	(cd "$DEB/archives" && apt-get -q download "$1" && dpkg -x "$1"_*.deb "$DEB")
}
eval "$2"
rm -rf "$DEB"
`

// debianRoot is the tree that images other than those from scratch begin with, and their first layer.
func debianRoot() recipe {
	const hook = `rm -f "$1/etc/resolv.conf" "$1/etc/hostname" "$1/etc/machine-id"; : > "$1/etc/resolv.conf"`
	return recipe{
		name: "image-root",
		text: suite + hook,
		build: func(ctx context.Context, dir string) error {
			root := filepath.Join(dir, "root")
			if err := os.Mkdir(root, 0o755); err != nil {
				return err
			}
			if err := debootstrap(ctx, root, "minbase", []string{"ca-certificates"}, hook); err != nil {
				return err
			}
			nothing := filepath.Join(dir, "nothing")
			if err := os.Mkdir(nothing, 0o755); err != nil {
				return err
			}
			return writeLayer(ctx, filepath.Join(dir, "layer.tar"), nothing, root)
		},
	}
}

// writeLayer writes what turns one tree into another as an image's layer.
func writeLayer(ctx context.Context, path, from, to string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := archive.WriteDiff(ctx, f, from, to); err != nil {
		return err
	}
	return f.Close()
}

// imageRecipe makes an image's archive: image.tar, in docker's format, with all the image's names.
func imageRecipe(key string, im image, log *slog.Logger) recipe {
	wish, _ := json.Marshal(im.config) // plain data
	return recipe{
		name: "image-" + key,
		text: strings.Join(slices.Concat(im.names, im.packages, []string{im.setup, string(wish), installScript, scratchScript}), "\n"),
		build: func(ctx context.Context, dir string) error {
			layers, err := im.layers(ctx, dir, log)
			if err != nil {
				return err
			}
			img, err := assemble(im.config, layers)
			if err != nil {
				return err
			}
			return writeArchive(filepath.Join(dir, "image.tar"), im.names, img)
		},
	}
}

// layers makes the files of the image's layers and leaves only those in dir.
func (im image) layers(ctx context.Context, dir string, log *slog.Logger) ([]string, error) {
	root, own := filepath.Join(dir, "root"), filepath.Join(dir, "layer.tar")
	defer os.RemoveAll(root)
	if im.scratch {
		if err := os.Mkdir(root, 0o755); err != nil {
			return nil, err
		}
		if err := runTool(exec.CommandContext(ctx, "sh", "-c", scratchScript, "sh", root, im.setup)); err != nil {
			return nil, err
		}
		nothing := filepath.Join(dir, "nothing")
		if err := os.Mkdir(nothing, 0o755); err != nil {
			return nil, err
		}
		defer os.Remove(nothing)
		return []string{own}, writeLayer(ctx, own, nothing, root)
	}
	base, err := debianRoot().make(ctx, log)
	if err != nil {
		return nil, err
	}
	first := filepath.Join(base, "layer.tar")
	if len(im.packages) == 0 && im.setup == "" {
		return []string{first}, nil
	}
	clean := filepath.Join(base, "root")
	if err := runTool(exec.CommandContext(ctx, "cp", "-a", clean, root)); err != nil {
		return nil, err
	}
	args := append([]string{"--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "sh", "-c", installScript, "sh", root, im.setup}, im.packages...)
	if err := runTool(exec.CommandContext(ctx, "unshare", args...)); err != nil {
		return nil, err
	}
	return []string{first, own}, writeLayer(ctx, own, clean, root)
}

func assemble(config v1.Config, layers []string) (v1.Image, error) {
	img := v1.Image(empty.Image)
	for _, path := range layers {
		layer, err := tarball.LayerFromFile(path)
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			return nil, err
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	if !slices.ContainsFunc(config.Env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		config.Env = append(slices.Clone(config.Env), defaultPath)
	}
	file.Config = config
	return mutate.ConfigFile(img, file)
}

func writeArchive(path string, names []string, img v1.Image) error {
	tags := map[name.Tag]v1.Image{}
	for _, n := range names {
		tag, err := name.NewTag(n, name.StrictValidation)
		if err != nil {
			return err
		}
		tags[tag] = img
	}
	return tarball.MultiWriteToFile(path, tags)
}

// ImageArchive builds an image if needed and returns the path of its archive, in docker's format.
func ImageArchive(ctx context.Context, key string, log *slog.Logger) (string, error) {
	im, ok := catalogue()[key]
	if !ok {
		return "", fmt.Errorf("no image %q, only %s", key, strings.Join(ImageNames(), ", "))
	}
	dir, err := imageRecipe(key, im, log).make(ctx, log)
	return filepath.Join(dir, "image.tar"), err
}

// registryRecipe makes the storage of a registry with these images in it.
func registryRecipe(keys []string, log *slog.Logger) (recipe, error) {
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	images := catalogue()
	var text strings.Builder
	for _, key := range keys {
		im, ok := images[key]
		if !ok {
			return recipe{}, fmt.Errorf("no image %q, only %s", key, strings.Join(ImageNames(), ", "))
		}
		fmt.Fprintln(&text, imageRecipe(key, im, log).path())
	}
	return recipe{name: "registry", text: text.String(), build: func(ctx context.Context, dir string) error {
		return fillRegistry(ctx, dir, keys, log)
	}}, nil
}

// fillRegistry pushes images into a registry that serves a storage directory on a unix socket: nobody else sees it.
func fillRegistry(ctx context.Context, dir string, keys []string, log *slog.Logger) error {
	archives := map[string]string{}
	for _, key := range keys {
		path, err := ImageArchive(ctx, key, log)
		if err != nil {
			return err
		}
		archives[key] = path
	}
	run, err := os.MkdirTemp("", "shoal-registry-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(run)
	socket := filepath.Join(run, "sock")
	server, err := startRegistry(run, dir, "unix", socket)
	if err != nil {
		return err
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	if err := awaitRegistry(ctx, "unix", socket); err != nil {
		return err
	}
	for _, key := range keys {
		if err := push(ctx, archives[key], catalogue()[key].names, transport); err != nil {
			return fmt.Errorf("push %s: %w", key, err)
		}
	}
	return nil
}

func push(ctx context.Context, archivePath string, names []string, transport http.RoundTripper) error {
	first, err := name.NewTag(names[0])
	if err != nil {
		return err
	}
	img, err := tarball.ImageFromPath(archivePath, &first)
	if err != nil {
		return err
	}
	for _, n := range names {
		tag, err := name.NewTag("registry.invalid/"+n, name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(tag, img, remote.WithTransport(transport), remote.WithContext(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// startRegistry starts Debian's docker-registry on a storage directory. Its settings and log lie in run.
func startRegistry(run, storage, network, addr string) (*exec.Cmd, error) {
	settings := fmt.Sprintf(`version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %q}
  cache: {blobdescriptor: inmemory}
  delete: {enabled: true}
http: {net: %q, addr: %q, secret: testbed}
`, storage, network, addr)
	path := filepath.Join(run, "registry.yml")
	if err := os.WriteFile(path, []byte(settings), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(run, "registry.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command("docker-registry", "serve", path)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the registry: %w", err)
	}
	return cmd, nil
}

func awaitRegistry(ctx context.Context, network, addr string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("the registry does not answer"))
	defer cancel()
	return poll(ctx, func() error {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
}
