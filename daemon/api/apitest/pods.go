package apitest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	v1 "k8s.io/api/core/v1"

	"github.com/shoal-project/shoal/daemon/api"
)

// Pods runs commands on this host instead of in a container.
type Pods struct {
	Dir string // of logs

	mu    sync.Mutex
	sizes []api.Size
}

// LogDir implements api.Pods.
func (p *Pods) LogDir(pod *v1.Pod) string {
	return filepath.Join(p.Dir, fmt.Sprintf("%s_%s_%s", pod.Namespace, pod.Name, pod.UID))
}

// Exec implements api.Pods. A terminal is not made, but its sizes are noted.
func (p *Pods) Exec(ctx context.Context, _ *v1.Pod, cmd api.Exec) (int, error) {
	go func() {
		for size := range cmd.Resize {
			p.mu.Lock()
			p.sizes = append(p.sizes, size)
			p.mu.Unlock()
		}
	}()
	c := exec.CommandContext(ctx, cmd.Command[0], cmd.Command[1:]...)
	c.Stdout, c.Stderr = cmd.Stdout, cmd.Stderr
	if cmd.Stdin != nil {
		// A command that ends without reading must not wait for its client.
		in, err := c.StdinPipe()
		if err != nil {
			return 0, err
		}
		go func() {
			io.Copy(in, cmd.Stdin)
			in.Close()
		}()
	}
	err := c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// Sizes is what terminals have been resized to.
func (p *Pods) Sizes() []api.Size {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]api.Size(nil), p.sizes...)
}

// Log appends to the log of a container's attempt.
func (p *Pods) Log(pod *v1.Pod, container string, attempt int, text string) error {
	dir := filepath.Join(p.LogDir(pod), container)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%d.log", attempt)), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}
