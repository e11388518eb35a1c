package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/container"
	"github.com/shoal-project/shoal/daemon/scope"
)

// floor does, in this program and with all else made before the clock starts, what Shoal's design asks for besides what the
// baseline does: a pause process, put into a scope by systemd, and conmon with crun inside that. No daemon of this design
// can be faster.
type floor struct {
	*crun  // makes the namespace, the root and the bundle
	pauses processes
	scopes scope.Host
	oci    container.Runtime
}

func newFloor(ctx context.Context, c *crun) (*floor, error) {
	scopes, _, err := scope.Open(ctx, scope.Options{}, slog.New(slog.DiscardHandler))
	return &floor{crun: c, scopes: scopes, oci: container.Runtime{Root: "/run/bench-floor", ExitDir: "/run/bench-exits"}}, err
}

func (*floor) unit(pod string) string     { return scope.UnitName("bench", pod, pod) }
func (*floor) instance(pod string) string { return "bench-floor-" + pod }
func (f *floor) sandbox(pod string) string {
	return filepath.Join(f.dir(pod), "floor") // beside the root
}

func (f *floor) start(ctx context.Context, pod string) error {
	go scope.Anticipate() // as the daemon does; an error only costs time
	spec, err := f.spec(pod)
	if err != nil {
		return err
	}
	pause, err := f.pause(pod)
	if err != nil {
		return err
	}
	unit, err := f.scopes.Start(ctx, scope.Spec{
		Name: f.unit(pod), Slice: scope.Slice(v1.PodQOSBestEffort), Description: "pod bench/" + pod,
		PIDs: []int{pause}, StopTimeout: time.Second,
	})
	if err != nil {
		return err
	}
	spec.Linux.CgroupsPath = filepath.Join(unit.Path, "c")
	cgroup, err := os.Open(filepath.Join(unit.Cgroup, "init"))
	if err != nil {
		return err
	}
	defer cgroup.Close()
	cfg := container.Config{
		ID: f.instance(pod), Container: &v1.Container{Name: "c"}, Dir: f.sandbox(pod), LogPath: filepath.Join(f.dir(pod), "log"),
	}
	if _, err := f.oci.Create(ctx, cfg, spec, cgroup); err != nil {
		return err
	}
	return f.oci.Start(ctx, cfg.Dir)
}

// spec is the bundle that prepare made.
func (f *floor) spec(pod string) (*specs.Spec, error) {
	text, err := os.ReadFile(filepath.Join(f.dir(pod), "config.json"))
	if err != nil {
		return nil, err
	}
	var spec specs.Spec
	return &spec, json.Unmarshal(text, &spec)
}

// pause starts the pod's first process, in as many namespaces as Shoal's.
func (f *floor) pause(pod string) (int, error) {
	cmd := exec.Command("catatonit", "-P")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC, Setsid: true}
	if err := f.pauses.run(pod, cmd); err != nil {
		return 0, fmt.Errorf("pause: %w", err)
	}
	return cmd.Process.Pid, nil
}

func (f *floor) stop(ctx context.Context, pod string) error {
	err := errors.Join(f.oci.Delete(ctx, f.sandbox(pod)), f.scopes.Stop(ctx, f.unit(pod)))
	_ = f.pauses.wait(pod) // it was killed
	return errors.Join(err, f.crun.stop(ctx, pod))
}
