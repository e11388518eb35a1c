package cure

import "strings"

// images are pulls that failed. What only the registry's side knows is said by
// daemon/image itself, in brackets; then the field is all that is missing.
var images = []rule{
	says(`^Failed to apply default image tag "(https?://)`, func(a about, m []string) string {
		return at(a.field("image"), "leave out %s", m[1])
	}),
	says(`^Failed to apply default image tag "([^"]*)".*must be lowercase`, func(a about, m []string) string {
		return at(a.field("image"), "write %s", strings.ToLower(m[1]))
	}),
	says(`^Failed to apply default image tag "`, func(a about, _ []string) string {
		return at(a.field("image"), "write [REGISTRY/]NAME[:TAG], such as docker.io/library/nginx:1.27")
	}),
	says(`is not present with pull policy of Never`, func(a about, _ []string) string {
		return at(a.field("imagePullPolicy"), "load the image with `shoal image load`, or set IfNotPresent")
	}),
	says(`registry denied access`, func(a about, _ []string) string {
		if len(a.pod.Spec.ImagePullSecrets) > 0 {
			return at("spec.imagePullSecrets", "the registry refused what Secret %q has for it: correct its user and password, or the image's name", a.pod.Spec.ImagePullSecrets[0].Name)
		}
		return at("spec.imagePullSecrets", "name a Secret with a user and password for this registry, or correct the image's name")
	}),
	says(`image is not in the registry`, func(a about, _ []string) string {
		return at(a.field("image"), "the registry has no such image under this name or tag: correct it, or push the image")
	}),
	says(`plain HTTP is not enabled`, func(a about, _ []string) string { return "" }), // it says how to
	says(`no such host`, func(a about, _ []string) string {
		return at(a.field("image"), "correct the registry's name: no DNS server knows it")
	}),
	says(`registry is unreachable.*connection refused`, func(a about, _ []string) string {
		return at(a.field("image"), "nothing listens at the registry's address: correct it, or start the registry")
	}),
	says(`image is not for this platform`, func(a about, _ []string) string {
		return at(a.field("image"), "take a tag that is built for this machine, or build it with --platform")
	}),
}
