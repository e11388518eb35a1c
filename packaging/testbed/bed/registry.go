package bed

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// registryAddr is where a bed's registry is.
var registryAddr = netip.AddrPortFrom(gateway, 5000)

// serveImages starts the bed's registry over a storage that beds share. What is pushed to it stays in the bed.
func (w *world) serveImages() error {
	if w.spec.Registry == "" {
		return nil
	}
	run := w.place.registry("run")
	storage := w.place.registry("storage")
	upper, work := w.place.registry("upper"), w.place.registry("work")
	for _, dir := range []string{run, storage, upper, work} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", w.spec.Registry, upper, work)
	if err := unix.Mount("overlay", storage, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount the registry's storage: %w", err)
	}
	cmd, err := startRegistry(run, storage, "tcp", registryAddr.String())
	if err != nil {
		return err
	}
	go func() {
		if err := cmd.Wait(); err != nil {
			w.log.Error("registry ended", "error", err)
		}
	}()
	return awaitRegistry(context.Background(), "tcp", registryAddr.String())
}

// Registry is the address of the bed's registry, as the hosts see it. It speaks plain HTTP. The image
// docker.io/library/nginx is there as the repository docker.io/library/nginx. It is not valid in a bed without images.
func (b *Bed) Registry() netip.AddrPort {
	if b.spec.Registry == "" {
		return netip.AddrPort{}
	}
	return registryAddr
}

// MirrorConfig is the part of a host's /etc/shoal/shoal.toml that makes the bed's registry the mirror of every registry
// it has images of; empty in a bed without images.
func (b *Bed) MirrorConfig() string {
	if b.spec.Registry == "" {
		return ""
	}
	return mirrorConfig(b.spec.Images)
}

func mirrorConfig(images []string) string {
	var registries []string
	for _, key := range images {
		for _, name := range catalogue()[key].names {
			registry, _, _ := strings.Cut(name, "/")
			registries = append(registries, registry)
		}
	}
	slices.Sort(registries)
	var text strings.Builder
	for _, registry := range slices.Compact(registries) {
		fmt.Fprintf(&text, "[registries.%q]\nmirrors = [\"http://%s/%s\"]\n", registry, registryAddr, registry)
	}
	return text.String()
}
