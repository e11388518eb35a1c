package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// contender starts pods of one container each, whose program is first and reports as the pod's name.
type contender interface {
	// prepare does what is not measured.
	prepare(ctx context.Context, pod string) error
	// start begins and need not wait for more.
	start(ctx context.Context, pod string) error
	// stop returns when nothing of the pod is left. A pod that does not exist is fine.
	stop(ctx context.Context, pod string) error
}

// entry is a contender in the tables.
type entry struct {
	name string
	contender
	width int // how many starts run side by side; 0: all are handed over at once
}

// report is the file in which a pod's program says when it began, as the host sees it.
func report(pod string) string { return filepath.Join(work, "out", pod) }

// command runs a command to its end; the error carries what it said.
func command(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// systemdRun runs the program itself in a scope: no container, the least that systemd asks for.
type systemdRun struct{ processes }

func (*systemdRun) prepare(context.Context, string) error { return nil }

func (s *systemdRun) start(_ context.Context, pod string) error {
	return s.background(pod, "systemd-run", "--scope", "--quiet", "--collect", "--unit=bench-"+pod, work+"/rootfs/first", report(pod))
}

func (s *systemdRun) stop(_ context.Context, pod string) error {
	s.end(pod)
	return nil
}

// podman plays a file with the same pod.
type podman struct{ processes }

const podmanImage = "localhost/bench:1"

// newPodman makes the image.
func newPodman(ctx context.Context) (*podman, error) {
	const script = `tar -c -C "$1/rootfs" . | podman import --quiet - "$2"`
	return &podman{}, command(ctx, "sh", "-euc", script, "sh", work, podmanImage)
}

func (*podman) file(pod string) string { return filepath.Join(work, pod+".podman.yaml") }

func (p *podman) prepare(_ context.Context, pod string) error {
	return os.WriteFile(p.file(pod), manifest(pod, podmanImage), 0o644)
}

func (p *podman) start(_ context.Context, pod string) error {
	return p.background(pod, "podman", "kube", "play", "--quiet", p.file(pod))
}

func (p *podman) stop(ctx context.Context, pod string) error {
	if err := p.wait(pod); err != nil {
		return err
	}
	os.Remove(p.file(pod))
	return command(ctx, "podman", "pod", "rm", "--force", "--ignore", "--time=1", pod)
}

// manifest is the pod as Kubernetes has it.
func manifest(pod, image string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Pod
metadata:
  name: %[1]s
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: %[2]s
    command: [/first, /out/%[1]s]
    volumeMounts:
    - name: out
      mountPath: /out
  volumes:
  - name: out
    hostPath:
      path: %[3]s/out
`, pod, image, work)
}

// patience is how long one step may take on a busy machine.
const patience = time.Minute
