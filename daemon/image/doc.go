// Package image keeps the images of a host: it pulls them from registries, loads them from archives, unpacks each layer
// once, and mounts a container's root from the layers.
//
// A small tour:
//
//	store, err := image.Open(image.Config{Registries: regs}, log)
//	img, err := store.Pull(ctx, "nginx", image.PullOptions{})  // docker.io/library/nginx:latest
//	root, err := image.MountRoot(img, "/var/lib/shoal/pods/UID/containers/web/0", false, nil)
//	err = image.Unmount("/var/lib/shoal/pods/UID/containers/web/0")
//
// On disk, below Config.Dir (mode 0700, so that set-uid files of an image are out of local users' reach):
//
//	version          the format, "1"; a newer one is refused
//	lock             held by the one process that owns the store
//	names.json       names and digests -> image id
//	images/HEX.json  one image: its configuration and its chain of layers; mtime is when it was last used
//	layers/N/diff    a layer, ready to be an overlayfs lower directory; N is short because overlayfs takes all
//	                 lower directories in one page of mount options
//	layers/N/layer.json
//	downloads/HEX    bytes of a layer that is being pulled; they outlive the daemon, so that a pull resumes
//	tmp/             work in progress, emptied by Open
//
// Whatever is visible under images/ and layers/ is complete: it is written elsewhere, flushed, and renamed into place,
// layers before the image that needs them, the image before its names. So the store survives kill -9 and power cuts at
// any moment without repair.
//
// Everything that comes from a registry or an archive is hostile until its digest was checked, and its content is
// hostile even then: see unpack.go.
package image
