package apitest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
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

	mu       sync.Mutex
	sizes    []api.Size
	attached int
}

// LogDir implements api.Pods.
func (p *Pods) LogDir(pod *v1.Pod) string {
	return filepath.Join(p.Dir, fmt.Sprintf("%s_%s_%s", pod.Namespace, pod.Name, pod.UID))
}

// Exec implements api.Pods. A terminal is not made, but its sizes are noted.
func (p *Pods) Exec(ctx context.Context, _ *v1.Pod, cmd api.Exec) (int, error) {
	go p.note(cmd.Resize)
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

// Attach implements api.Pods: the process is cat, which ends with its input,
// or with ctx where there is none.
func (p *Pods) Attach(ctx context.Context, _ *v1.Pod, a api.Attach) error {
	go p.note(a.Resize)
	p.attach(1)
	defer p.attach(-1)
	if a.Stdin == nil {
		io.WriteString(a.Stdout, "no input\n")
		<-ctx.Done()
		return ctx.Err()
	}
	_, err := io.Copy(a.Stdout, a.Stdin)
	return err
}

// Dial implements api.Pods: pods are in this host's network.
func (p *Pods) Dial(ctx context.Context, _ *v1.Pod, port uint16) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String())
}

func (p *Pods) attach(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attached += n
}

// Attached is how many clients are attached now.
func (p *Pods) Attached() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.attached
}

func (p *Pods) note(sizes <-chan api.Size) {
	for size := range sizes {
		p.mu.Lock()
		p.sizes = append(p.sizes, size)
		p.mu.Unlock()
	}
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
