// Package volume gives a pod the volumes that need no PersistentVolume: emptyDir, hostPath, configMap, secret,
// downwardAPI and projected.
//
// What a volume should hold and where a container mounts it is decided by pure functions ([Content], [Mounts]);
// [Setup], [BindSubPaths] and [Teardown] make it so in the caller's mount namespace. Each may be killed at any
// instruction and called again. Calls for the same pod must not overlap; calls for different pods may.
//
// On disk, below the directory of a pod's volumes:
//
//	NAME         the volume: a directory, or a tmpfs mounted on it
//	.new-NAME    a directory that does not have its owner and mode yet
//
// A volume of files follows the protocol of Kubernetes' AtomicWriter, which programs know how to watch:
//
//	KEY -> ..data/KEY, ..data -> ..2026_01_02_15_04_05.000000000, and that directory holds the files
package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// Objects finds the configMaps and secrets that a pod's volumes name. Looking must be pure: no waiting, no I/O.
type Objects interface {
	ConfigMap(namespace, name string) (*v1.ConfigMap, bool)
	Secret(namespace, name string) (*v1.Secret, bool)
}

// NodeInfo is what volumes depend on besides the pod and its objects.
type NodeInfo struct {
	// Allocatable is what downwardAPI reports for a limit that a container does not set, and its memory bounds a tmpfs.
	Allocatable v1.ResourceList
	// RecursiveReadOnly says that the runtime can make a mount and all mounts below it read-only (mount_setattr(2),
	// Linux 5.12).
	RecursiveReadOnly bool
	// Token is the service account token that a projection asks for: the same one each time until it must be renewed.
	// Nil: there are none.
	Token func(*v1.Pod, *v1.ServiceAccountTokenProjection) (string, error)
	// FirstID is the host's ID that is 0 in the pod's user namespace; 0: it has the host's. What Setup makes belongs to
	// the pod's own IDs from the start, which takes no ID-mapped mounts. Owners given elsewhere are the pod's.
	FirstID uint32
}

// File is one file of a configMap, secret, downwardAPI or projected volume.
type File struct {
	Path string // relative, clean, slashes, never begins with ".."
	Data []byte
	Mode fs.FileMode // permission bits only
	UID  int
	GID  int // the pod's fsGroup where it has one
}

// String leaves the data out: it may be a secret.
func (f File) String() string {
	return fmt.Sprintf("%s %04o %d:%d %d bytes", f.Path, f.Mode, f.UID, f.GID, len(f.Data))
}

// GoString keeps the data out of %#v as well.
func (f File) GoString() string { return f.String() }

// Mounted is a volume that is ready on this host.
type Mounted struct {
	Path     string
	ReadOnly bool // containers may not write, whatever their volumeMount says
	HostIDs  bool // its files have the host's IDs also where the pod has a user namespace
}

// NotYet says that Shoal knows this kind of volume and does not run it yet.
type NotYet struct {
	Volume string
	Kind   string // the field of the volume or projected source: persistentVolumeClaim, csi, serviceAccountToken
}

func (e *NotYet) Error() string {
	return fmt.Sprintf("volume %q: %s is not implemented yet", e.Volume, e.Kind)
}

// Error is why one volume is not as the pod wants it. Its text is the message of the kubelet's FailedMount event.
type Error struct {
	Volume string
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Errors is what went wrong with the volumes of one pod, in the pod's order. A volume that failed never hides another.
type Errors []*Error

func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap lets errors.Is and errors.As look at each.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, err := range e {
		errs[i] = err
	}
	return errs
}

// aggregate is several reasons why one volume has no content. It reads like apimachinery's Aggregate, but errors.As
// sees into it.
type aggregate []error

func (a aggregate) Error() string {
	if len(a) == 1 {
		return a[0].Error()
	}
	texts := make([]string, len(a))
	for i, err := range a {
		texts[i] = err.Error()
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

func (a aggregate) Unwrap() []error { return a }

// orNil is a as an error, nil when it is empty.
func (a aggregate) orNil() error {
	if len(a) == 0 {
		return nil
	}
	return a
}

// kind is the name of the field that vol's source sets, "" when it sets none.
func kind(vol v1.Volume) (string, error) {
	b, err := json.Marshal(vol.VolumeSource)
	if err != nil {
		return "", fmt.Errorf("read volume source: %w", err)
	}
	var set map[string]json.RawMessage
	if err := json.Unmarshal(b, &set); err != nil {
		return "", fmt.Errorf("read volume source: %w", err)
	}
	kinds := make([]string, 0, len(set))
	for k := range set {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	return strings.Join(kinds, "+"), nil
}

// unsupported is the error for a source that Setup has no case for.
func unsupported(vol v1.Volume) error {
	k, err := kind(vol)
	if err != nil {
		return err
	}
	if k == "" {
		return errors.New("no volume source is set")
	}
	return &NotYet{Volume: vol.Name, Kind: k}
}
