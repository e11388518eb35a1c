package volume

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	v1 "k8s.io/api/core/v1"
)

var update = flag.Bool("update", false, "rewrite the outputs in testdata")

// privateEnv marks the process that has its own mount namespace.
const privateEnv = "SHOAL_VOLUME_TEST_PRIVATE"

// TestMain runs the tests again in a mount namespace of their own, so that whatever they mount is gone with them, even
// when they are killed.
func TestMain(m *testing.M) {
	if os.Getenv(privateEnv) != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), privateEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Start()
	if errors.Is(err, syscall.EPERM) {
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := cmd.Wait(); err != nil {
		os.Exit(1)
	}
}

// needMounts skips where the tests may not mount.
func needMounts(t *testing.T) {
	t.Helper()
	if os.Getenv(privateEnv) == "" {
		t.Skip("needs root and a mount namespace of its own")
	}
}

// objects is the Objects of a test.
type objects struct {
	configMaps []v1.ConfigMap
	secrets    []v1.Secret
}

func (o objects) ConfigMap(ns, name string) (*v1.ConfigMap, bool) {
	for _, cm := range o.configMaps {
		if cm.Namespace == ns && cm.Name == name {
			return &cm, true
		}
	}
	return nil, false
}

func (o objects) Secret(ns, name string) (*v1.Secret, bool) {
	for _, s := range o.secrets {
		if s.Namespace == ns && s.Name == name {
			return &s, true
		}
	}
	return nil, false
}
