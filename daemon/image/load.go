package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// LoadOptions are for Load. The zero value takes names from the archive.
type LoadOptions struct {
	Name     string      // names the image of an archive that holds one, instead of the archive's own names
	Platform v1.Platform // zero: HostPlatform
}

const (
	maxArchiveFiles = 1 << 20
	maxAliases      = 8 // symlinks from one file of an archive to the next
)

// Load puts the images of an archive into the store: the output of docker save or podman save, an OCI archive (either
// plain, gzip or zstd), or a directory in OCI layout. What is not for the wanted platform is passed over. Errors:
// ErrInvalid, ErrPlatform, ErrDiskFull, ErrInvalidName.
func (s *Store) Load(ctx context.Context, file string, opt LoadOptions) ([]Image, error) {
	images, err := s.loadPath(ctx, file, opt)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", file, orDiskFull(err))
	}
	return images, nil
}

// LoadReader is Load for an archive that comes as a stream.
func (s *Store) LoadReader(ctx context.Context, r io.Reader, opt LoadOptions) ([]Image, error) {
	images, err := s.loadStream(ctx, r, opt)
	if err != nil {
		return nil, fmt.Errorf("load image archive: %w", orDiskFull(err))
	}
	return images, nil
}

func orDiskFull(err error) error {
	if full := diskFull(err); full != nil && !errors.Is(err, ErrDiskFull) {
		return full
	}
	return err
}

func (s *Store) loadPath(ctx context.Context, file string, opt LoadOptions) ([]Image, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	switch {
	case info.IsDir():
		root, err := os.OpenRoot(file)
		if err != nil {
			return nil, err
		}
		defer root.Close()
		return s.loadFrom(ctx, layoutDir{root}, opt)
	case !info.Mode().IsRegular():
		return nil, invalidf("it is neither a file nor a directory")
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if plain, err := isTar(f); err != nil {
		return nil, err
	} else if !plain {
		return s.loadStream(ctx, f, opt)
	}
	return s.loadTar(ctx, f, opt)
}

// isTar says whether f holds an uncompressed tar archive, which can be read in place.
func isTar(f *os.File) (bool, error) {
	magic := make([]byte, 5)
	_, err := f.ReadAt(magic, 257)
	if err == io.EOF {
		return false, nil
	}
	return string(magic) == "ustar", err
}

// loadStream writes the archive to a file first, since its table of contents may be at its end.
func (s *Store) loadStream(ctx context.Context, r io.Reader, opt LoadOptions) ([]Image, error) {
	plain, err := decompress(&ctxReader{ctx, r})
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	f, err := os.CreateTemp(s.path("tmp"), "archive-")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil { // the descriptor is enough, and nothing is left behind
		return nil, err
	}
	w := writeOnly{f, &space{fd: int(f.Fd())}}
	if _, err := io.Copy(w, plain); err != nil {
		return nil, streamError(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return s.loadTar(ctx, f, opt)
}

func (s *Store) loadTar(ctx context.Context, f *os.File, opt LoadOptions) ([]Image, error) {
	files, err := indexTar(ctx, f)
	if err != nil {
		return nil, err
	}
	return s.loadFrom(ctx, files, opt)
}

// contents is what an archive or a layout consists of.
type contents interface {
	// open fails with fs.ErrNotExist for a name that is not there.
	open(name string) (io.ReadCloser, error)
}

type layoutDir struct{ root *os.Root }

func (l layoutDir) open(name string) (io.ReadCloser, error) { return l.root.Open(name) }

// tarFiles finds files of an uncompressed archive where they lie.
type tarFiles struct {
	f       *os.File
	files   map[string]*io.SectionReader
	aliases map[string]string // docker save writes equal layers once and links the others
}

func indexTar(ctx context.Context, f *os.File) (*tarFiles, error) {
	t := &tarFiles{f: f, files: map[string]*io.SectionReader{}, aliases: map[string]string{}}
	tr := tar.NewReader(f)
	for range maxArchiveFiles {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		hdr, err := tr.Next()
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return nil, invalidf("it is no image archive: %w", err)
		}
		name := path.Clean("/" + hdr.Name)[1:]
		switch hdr.Typeflag {
		case tar.TypeReg:
			// The reader takes whole headers and no more, so the file's offset is where the content starts.
			at, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			t.files[name] = io.NewSectionReader(f, at, hdr.Size)
		case tar.TypeSymlink:
			t.aliases[name] = path.Join("/", path.Dir(name), hdr.Linkname)[1:]
		case tar.TypeLink:
			t.aliases[name] = path.Clean("/" + hdr.Linkname)[1:]
		}
	}
	return nil, invalidf("more than %d files", maxArchiveFiles)
}

func (t *tarFiles) open(name string) (io.ReadCloser, error) {
	name = path.Clean("/" + name)[1:]
	for range maxAliases {
		if section := t.files[name]; section != nil {
			return io.NopCloser(io.NewSectionReader(section, 0, section.Size())), nil
		}
		target, ok := t.aliases[name]
		if !ok {
			break
		}
		name = target
	}
	return nil, &os.PathError{Op: "find in archive", Path: name, Err: os.ErrNotExist}
}

// found is an image of an archive that is ready to be built, but for its names.
type found struct {
	build
	manifest string // digest, if there is a manifest
}

func (s *Store) loadFrom(ctx context.Context, c contents, opt LoadOptions) ([]Image, error) {
	if opt.Platform.OS == "" {
		opt.Platform = HostPlatform()
	}
	all, err := readArchive(c, opt.Platform)
	if err != nil {
		return nil, err
	}
	if opt.Name != "" {
		if len(all) != 1 {
			return nil, invalidf("it holds %d images, so one name is not enough", len(all))
		}
		all[0].names = []string{opt.Name}
	}
	var images []Image
	for _, f := range all {
		if err := f.nameBuild(); err != nil {
			return nil, err
		}
		img, err := s.build(ctx, f.build)
		if err != nil {
			return nil, err
		}
		s.log.Info("loaded image", "image", strings.Join(img.Names, ","), "id", img.ID, "bytes", img.Size)
		images = append(images, img)
	}
	return images, nil
}

// nameBuild normalizes names; the manifest's digest goes under each.
func (f *found) nameBuild() error {
	for i, n := range f.names {
		named, err := parseName(n)
		if err != nil {
			return err
		}
		f.names[i] = named.String()
		if f.manifest != "" {
			f.digests = append(f.digests, named.Name()+"@"+f.manifest)
		}
	}
	f.names = withoutDigests(f.names)
	return nil
}

func withoutDigests(names []string) []string {
	var tags []string
	for _, n := range names {
		if !strings.Contains(n, "@") {
			tags = append(tags, n)
		}
	}
	return tags
}

func readArchive(c contents, want v1.Platform) ([]found, error) {
	index, err := readFrom(c, "index.json", maxManifest)
	if err == nil {
		return readLayout(c, index, want)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	list, err := readFrom(c, "manifest.json", maxManifest)
	if errors.Is(err, os.ErrNotExist) {
		return nil, invalidf("it is no image archive: it has neither manifest.json nor index.json")
	}
	if err != nil {
		return nil, err
	}
	return readDocker(c, list, want)
}

func readFrom(c contents, name string, limit int64) ([]byte, error) {
	r, err := c.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readAll(r, limit)
}

// dockerImage is an element of docker save's manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func readDocker(c contents, list []byte, want v1.Platform) ([]found, error) {
	var images []dockerImage
	if err := json.Unmarshal(list, &images); err != nil {
		return nil, invalidf("manifest.json: %w", err)
	}
	var all []found
	for _, img := range images {
		if len(img.Layers) > maxLayers {
			return nil, invalidf("%d layers; overlayfs takes at most %d", len(img.Layers), maxLayers)
		}
		f, err := readConfig(c, img.Config, len(img.Layers), want)
		if err != nil {
			return nil, err
		}
		f.names = img.RepoTags
		f.open = func(_ context.Context, i int) (blobReader, error) { return openBlob(c, img.Layers[i]) }
		all = append(all, f)
	}
	if len(all) == 0 {
		return nil, invalidf("it holds no image")
	}
	return all, nil
}

func readConfig(c contents, name string, layers int, want v1.Platform) (found, error) {
	raw, err := readFrom(c, name, maxConfig)
	if err != nil {
		return found{}, invalidf("configuration: %w", err)
	}
	cfg, err := parseConfig(raw, layers, want)
	if err != nil {
		return found{}, err
	}
	return found{build: build{id: hashOf(raw).String(), config: raw, diffIDs: cfg.RootFS.DiffIDs}}, nil
}

// openBlob opens a layer. Its content is checked against the diff id, so its own digest adds nothing.
func openBlob(c contents, name string) (blobReader, error) {
	r, err := c.open(name)
	if err != nil {
		return nil, invalidf("layer: %w", err)
	}
	return r, nil
}

// readLayout reads image-spec's image-layout.md. docker save since version 25 writes a manifest.json too, which may know
// more names.
func readLayout(c contents, index []byte, want v1.Platform) ([]found, error) {
	var top v1.IndexManifest
	if err := json.Unmarshal(index, &top); err != nil {
		return nil, invalidf("index.json: %w", err)
	}
	var all []found
	var foreign error
	for _, d := range top.Manifests {
		f, err := readLayoutImage(c, d, want)
		switch {
		case errors.Is(err, ErrPlatform):
			foreign = err
			continue
		case err != nil:
			return nil, err
		}
		all = append(all, f)
	}
	if len(all) == 0 && foreign != nil {
		return nil, foreign
	}
	if len(all) == 0 {
		return nil, invalidf("it holds no image")
	}
	return all, addDockerNames(c, all)
}

func readLayoutImage(c contents, d v1.Descriptor, want v1.Platform) (found, error) {
	names := annotatedNames(d)
	if d.Platform != nil && suits(*d.Platform, want) == 0 {
		return found{}, wrongPlatform(want, []v1.Platform{*d.Platform})
	}
	for range maxIndexes {
		raw, err := readBlob(c, d, maxManifest)
		if err != nil {
			return found{}, err
		}
		if isIndex(d.MediaType, raw) {
			if d, err = choose(raw, want); err != nil {
				return found{}, err
			}
			continue
		}
		m, err := parseManifest(raw)
		if err != nil {
			return found{}, err
		}
		if _, err := readBlob(c, m.Config, maxConfig); err != nil {
			return found{}, err
		}
		f, err := readConfig(c, blobName(m.Config.Digest), len(m.Layers), want)
		f.names, f.manifest = names, d.Digest.String()
		f.open = func(_ context.Context, i int) (blobReader, error) { return openBlob(c, blobName(m.Layers[i].Digest)) }
		return f, err
	}
	return found{}, invalidf("more than %d indexes inside each other", maxIndexes)
}

// annotatedNames reads containerd's and Docker's full name, and the specification's, which is often only a tag.
func annotatedNames(d v1.Descriptor) []string {
	if n := d.Annotations["io.containerd.image.name"]; n != "" {
		return []string{n}
	}
	if n := d.Annotations["org.opencontainers.image.ref.name"]; strings.ContainsAny(n, "/:@") {
		return []string{n}
	}
	return nil
}

func addDockerNames(c contents, all []found) error {
	list, err := readFrom(c, "manifest.json", maxManifest)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var images []dockerImage
	if err := json.Unmarshal(list, &images); err != nil {
		return invalidf("manifest.json: %w", err)
	}
	for _, img := range images {
		for i := range all {
			if path.Base(img.Config) == strings.TrimPrefix(all[i].id, "sha256:") {
				all[i].names = append(all[i].names, img.RepoTags...)
			}
		}
	}
	return nil
}

func blobName(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }

// readBlob reads a blob of a layout and checks its digest.
func readBlob(c contents, d v1.Descriptor, limit int64) ([]byte, error) {
	if !isID(d.Digest.String()) {
		return nil, invalidf("digest %q is not sha256", d.Digest)
	}
	raw, err := readFrom(c, blobName(d.Digest), limit)
	if err != nil {
		return nil, invalidf("blob: %w", err)
	}
	if got := hashOf(raw); got != d.Digest {
		return nil, invalidf("blob %s has digest %s", d.Digest, got)
	}
	return raw, nil
}
