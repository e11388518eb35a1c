package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Limits on what a registry or an archive may make us read into memory.
const (
	maxManifest = 4 << 20 // the distribution specification's advice
	maxConfig   = 8 << 20
	maxLayers   = 500 // OVL_MAX_STACK of the kernel
	maxIndexes  = 3   // indexes within indexes
)

// HostPlatform is the platform of images for this host.
func HostPlatform() v1.Platform { return v1.Platform{OS: "linux", Architecture: runtime.GOARCH} }

// parseManifest checks all that later code relies on.
func parseManifest(raw []byte) (*v1.Manifest, error) {
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, invalidf("manifest: %w", err)
	}
	if m.SchemaVersion != 2 {
		return nil, invalidf("manifest has schema version %d; only 2 is supported (build and push the image again)", m.SchemaVersion)
	}
	if !m.Config.MediaType.IsConfig() {
		return nil, invalidf("it is not a container image but %q", m.Config.MediaType)
	}
	if m.Config.Size < 0 || m.Config.Size > maxConfig {
		return nil, invalidf("configuration of %d bytes; at most %d are accepted", m.Config.Size, maxConfig)
	}
	if len(m.Layers) > maxLayers {
		return nil, invalidf("%d layers; overlayfs takes at most %d", len(m.Layers), maxLayers)
	}
	for _, l := range append(slices.Clone(m.Layers), m.Config) {
		switch {
		case l.Digest.Algorithm != "sha256" || !isID(l.Digest.String()):
			return nil, invalidf("digest %q is not sha256", l.Digest)
		case l.Size < 0:
			return nil, invalidf("layer of %d bytes", l.Size)
		case strings.Contains(string(l.MediaType), "encrypted"):
			return nil, invalidf("layer %s is encrypted", l.Digest)
		}
	}
	return m, nil
}

// parseConfig also checks that there are as many diff ids as layers, and the platform.
func parseConfig(raw []byte, layers int, want v1.Platform) (*v1.ConfigFile, error) {
	cfg, err := v1.ParseConfigFile(bytes.NewReader(raw))
	if err != nil {
		return nil, invalidf("configuration: %w", err)
	}
	if len(cfg.RootFS.DiffIDs) != layers {
		return nil, invalidf("%d layers, but the configuration lists %d", layers, len(cfg.RootFS.DiffIDs))
	}
	for _, d := range cfg.RootFS.DiffIDs {
		if !isID(d.String()) {
			return nil, invalidf("diff id %q is not sha256", d)
		}
	}
	// Images made by hand may leave both empty.
	have := v1.Platform{OS: cfg.OS, Architecture: cfg.Architecture}
	if cfg.OS != "" && cfg.OS != want.OS || cfg.Architecture != "" && cfg.Architecture != want.Architecture {
		return nil, wrongPlatform(want, []v1.Platform{have})
	}
	return cfg, nil
}

// choose finds the manifest for a platform in an index.
func choose(raw []byte, want v1.Platform) (v1.Descriptor, error) {
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return v1.Descriptor{}, invalidf("index: %w", err)
	}
	var have []v1.Platform
	best, bestRank := v1.Descriptor{}, 0
	for _, d := range index.Manifests {
		if !d.MediaType.IsImage() && !d.MediaType.IsIndex() {
			continue
		}
		if d.Platform == nil { // an index with one nameless image, as skopeo and podman write
			d.Platform = &want
		}
		if d.Platform.OS == "unknown" { // buildkit's attestations
			continue
		}
		have = append(have, *d.Platform)
		if rank := suits(*d.Platform, want); rank > bestRank {
			best, bestRank = d, rank
		}
	}
	if bestRank == 0 {
		return v1.Descriptor{}, wrongPlatform(want, have)
	}
	if !isID(best.Digest.String()) {
		return v1.Descriptor{}, invalidf("digest %q is not sha256", best.Digest)
	}
	return best, nil
}

// variants lists, per architecture, which variants run where, the best first. The baseline comes alone where the host's
// variant is not known: an image for amd64/v3 would die of illegal instructions on many a machine.
var variants = map[string][]string{
	"amd64": {"", "v1"},
	"arm64": {"v8", ""},
	"arm":   {"v7", "", "v6", "v5"},
}

// suits ranks a platform; 0 means that it does not run.
func suits(have, want v1.Platform) int {
	if have.OS != want.OS || have.Architecture != want.Architecture {
		return 0
	}
	if want.Variant != "" {
		if have.Variant == want.Variant {
			return 1
		}
		return 0
	}
	accepted, known := variants[want.Architecture]
	if !known {
		return 1
	}
	at := slices.Index(accepted, have.Variant)
	if at < 0 {
		return 0
	}
	return len(accepted) - at
}

func wrongPlatform(want v1.Platform, have []v1.Platform) error {
	var list []string
	for _, p := range have {
		list = append(list, p.String())
	}
	slices.Sort(list)
	list = slices.Compact(list)
	text := "it has no image at all"
	if len(list) > 0 {
		text = "it is for " + strings.Join(list[:min(len(list), 20)], ", ") + " only"
	}
	err := fmt.Errorf("%w: %s, this host is %s", ErrPlatform, text, want)
	return &failure{ErrPlatform, err.Error(), err}
}

func isIndex(mediaType types.MediaType, raw []byte) bool {
	if mediaType.IsIndex() {
		return true
	}
	if mediaType.IsImage() {
		return false
	}
	// Registries and old archives leave the type out.
	var probe struct {
		Manifests []json.RawMessage `json:"manifests"`
	}
	return json.Unmarshal(raw, &probe) == nil && probe.Manifests != nil
}
