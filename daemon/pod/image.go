package pod

// Reasons of a container that waits for its image; the kubelet's
// (pkg/kubelet/images/types.go and the CRI's errors).
const (
	ErrImagePull        = "ErrImagePull"
	ErrImageNeverPull   = "ErrImageNeverPull"
	InvalidImageName    = "InvalidImageName"
	ImageInspectError   = "ImageInspectError"
	RegistryUnavailable = "RegistryUnavailable"
)

// IsImageReason says whether a container failed for want of its image.
func IsImageReason(reason string) bool {
	return IsPullReason(reason) || reason == ErrImageNeverPull || reason == InvalidImageName || reason == ImageInspectError
}

// IsPullReason says whether a registry did not give the image: then the next
// pull is the later the more have failed (ImagePullBackOff).
func IsPullReason(reason string) bool { return reason == ErrImagePull || reason == RegistryUnavailable }
