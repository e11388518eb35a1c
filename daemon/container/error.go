package container

import "fmt"

// Reason is why a container waits or ended, in the kubelet's words
// (pkg/kubelet/kuberuntime and pkg/kubelet/container/sync_result.go).
type Reason string

const (
	CreateContainerConfigError Reason = "CreateContainerConfigError" // the object asks for what can't be
	CreateContainerError       Reason = "CreateContainerError"       // the runtime refused to create it
	RunContainerError          Reason = "RunContainerError"          // created, but it did not start
	ContainerStatusUnknown     Reason = "ContainerStatusUnknown"     // it is gone and nobody saw how
)

// Error is a failure with the reason that the container's status shows.
type Error struct {
	Reason Reason
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func configError(format string, args ...any) error {
	return &Error{CreateContainerConfigError, fmt.Errorf(format, args...)}
}

func errInvalidID(id string) error {
	return fmt.Errorf("container id %q is not 13 to 128 letters, digits, '-' or '_'", id)
}
