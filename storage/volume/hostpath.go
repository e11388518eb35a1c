package volume

import (
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// hostPath checks the host's path against its type and makes what an ...OrCreate type lacks, with the kubelet's modes
// and words (pkg/volume/hostpath checkTypeInternal). Symbolic links are followed, as the mount will follow them.
//
// With no type the kubelet checks nothing and container runtimes make a missing directory; so does this.
func hostPath(src *v1.HostPathVolumeSource) (Mounted, error) {
	if err := checkNoBacksteps(src.Path); err != nil {
		return Mounted{}, fmt.Errorf("invalid HostPath `%s`: %w", src.Path, err)
	}
	want := v1.HostPathUnset
	if src.Type != nil {
		want = *src.Type
	}
	if err := makeHostPath(src.Path, want); err != nil {
		return Mounted{}, err
	}
	if err := checkHostPath(src.Path, want); err != nil {
		return Mounted{}, err
	}
	return Mounted{Path: src.Path, HostIDs: true}, nil
}

// makeHostPath makes what is not there and may be made. What is there stays, whatever it is.
func makeHostPath(path string, want v1.HostPathType) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	switch want {
	case v1.HostPathUnset, v1.HostPathDirectoryOrCreate:
		return os.MkdirAll(path, 0o755)
	case v1.HostPathFileOrCreate:
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|unix.O_NONBLOCK, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	}
	return nil
}

// checkHostPath compares what is at path with its type. Anything that cannot be looked at is not of the type.
func checkHostPath(path string, want v1.HostPathType) error {
	if want == v1.HostPathUnset {
		return nil
	}
	var mode fs.FileMode
	info, err := os.Stat(path)
	found := err == nil
	if found {
		mode = info.Mode()
	}
	device := mode&fs.ModeDevice != 0
	char := mode&fs.ModeCharDevice != 0
	var ok bool
	var noun string
	switch want {
	case v1.HostPathDirectory, v1.HostPathDirectoryOrCreate:
		ok, noun = mode.IsDir(), "directory"
	case v1.HostPathFile, v1.HostPathFileOrCreate:
		ok, noun = mode.IsRegular(), "file"
	case v1.HostPathSocket:
		ok, noun = mode&fs.ModeSocket != 0, "socket file"
	case v1.HostPathCharDev:
		ok, noun = device && char, "character device"
	case v1.HostPathBlockDev:
		ok, noun = device && !char, "block device"
	default:
		return fmt.Errorf("%s is an invalid volume type", want)
	}
	if !found {
		return fmt.Errorf("hostPath type check failed: %s is not a %s: it does not exist", path, noun)
	}
	if !ok {
		return fmt.Errorf("hostPath type check failed: %s is not a %s", path, noun)
	}
	return nil
}
