package image

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/util/parsers"
)

// rootfsPrefix marks an image that is a directory of this host: rootfs:///srv/debian, or rootfs:/// for the host's root.
const rootfsPrefix = "rootfs://"

// IsRootfs says whether ref names a directory of this host instead of an image.
func IsRootfs(ref string) bool { return strings.HasPrefix(ref, rootfsPrefix) }

// Normalize gives the full name that ref stands for, as Docker and the kubelet understand it: "nginx" is
// docker.io/library/nginx:latest. A name with tag and digest keeps only the digest, because it alone decides. Image ids
// (sha256:...) and rootfs:// pass unchanged. The error is ErrInvalidName.
func Normalize(ref string) (string, error) {
	if IsRootfs(ref) || isID(ref) {
		return ref, nil
	}
	named, err := parseName(ref)
	if err != nil {
		return "", err
	}
	return named.String(), nil
}

// DefaultPolicy is the imagePullPolicy of a container that gives none: Always for :latest, IfNotPresent otherwise, as
// SetDefaults_Container of k8s.io/kubernetes/pkg/apis/core/v1. A directory is never pulled.
func DefaultPolicy(ref string) corev1.PullPolicy {
	if IsRootfs(ref) {
		return corev1.PullIfNotPresent
	}
	if _, tag, _, err := parsers.ParseImageName(ref); err == nil && tag == "latest" {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

// parseName returns a name with exactly one of tag and digest.
func parseName(ref string) (reference.Named, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return nil, &failure{ErrInvalidName, fmt.Sprintf("%v %q: %v", ErrInvalidName, ref, err), err}
	}
	if d, ok := named.(reference.Digested); ok && d.Digest().Algorithm() != "sha256" {
		err := fmt.Errorf("digest algorithm %s is not supported, only sha256", d.Digest().Algorithm())
		return nil, &failure{ErrInvalidName, fmt.Sprintf("%v %q: %v", ErrInvalidName, ref, err), err}
	}
	return named, nil
}

// isID says whether ref is the digest of an image's configuration, as in Image.ID.
func isID(ref string) bool {
	hex, ok := strings.CutPrefix(ref, "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}
