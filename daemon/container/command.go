package container

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	imgv1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// Command is what the container runs. A container's command replaces the
// image's ENTRYPOINT and CMD, its args alone replace only CMD.
// https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/
func Command(c *v1.Container, image imgv1.Config) ([]string, error) {
	command, args := c.Command, c.Args
	if len(command) == 0 {
		command = image.Entrypoint
		if len(command) == 1 && command[0] == "" { // ENTRYPOINT [""] is how Dockerfiles say none
			command = nil
		}
		if len(args) == 0 {
			args = image.Cmd
		}
	}
	all := make([]string, 0, len(command)+len(args))
	all = append(append(all, command...), args...)
	if len(all) == 0 {
		return nil, &Error{CreateContainerError, errors.New("no command specified")}
	}
	return all, nil
}

// StopSignal is what asks the container to end: the container's
// lifecycle.stopSignal, else the image's STOPSIGNAL, else SIGTERM.
func StopSignal(c *v1.Container, image imgv1.Config) (syscall.Signal, error) {
	name := image.StopSignal
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		name = string(*c.Lifecycle.StopSignal)
	}
	if name == "" {
		return syscall.SIGTERM, nil
	}
	return parseSignal(name)
}

// The kernel's real-time signals as a container sees them: glibc keeps 32 and
// 33 for itself, and SIGRTMIN is written as it counts.
const sigRTMin, sigRTMax = 34, 64

func parseSignal(name string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > sigRTMax {
			return 0, fmt.Errorf("stop signal %d is not between 1 and %d", n, sigRTMax)
		}
		return syscall.Signal(n), nil
	}
	full := strings.ToUpper(name)
	if !strings.HasPrefix(full, "SIG") {
		full = "SIG" + full
	}
	if sig := unix.SignalNum(full); sig != 0 {
		return sig, nil
	}
	for base, first := range map[string]int{"SIGRTMIN": sigRTMin, "SIGRTMAX": sigRTMax} {
		rest, ok := strings.CutPrefix(full, base)
		if !ok {
			continue
		}
		offset := 0
		if rest != "" {
			var err error
			if offset, err = strconv.Atoi(rest); err != nil {
				break
			}
		}
		if n := first + offset; n >= sigRTMin && n <= sigRTMax {
			return syscall.Signal(n), nil
		}
	}
	return 0, fmt.Errorf("unknown stop signal %q", name)
}
