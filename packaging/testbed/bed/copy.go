package bed

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/shoal-project/shoal/packaging/testbed/agent"
)

// CopyTo copies a file or a directory of the machine to path to in the host, as cp -a does: into it when it is a
// directory there. A file appears at once and whole.
func (h *Host) CopyTo(ctx context.Context, from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return h.copyTreeTo(ctx, from, to)
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return h.put(ctx, f, filepath.Base(from), to, info.Mode())
}

// WriteFile makes a file in the host, with the mode 0644 and the directories above it.
func (h *Host) WriteFile(ctx context.Context, to string, content []byte) error {
	if _, err := h.Run(ctx, "mkdir", "-p", path.Dir(to)); err != nil {
		return err
	}
	return h.put(ctx, bytes.NewReader(content), path.Base(to), to, 0o644)
}

// put renames a finished file into place, so that nobody in the host sees half of it. The name it has before is hidden
// and has no suffix of the final one, so that watchers of directories pass over it.
func (h *Host) put(ctx context.Context, r io.Reader, base, to string, mode os.FileMode) error {
	const script = `to=$2; test -d "$to" && to=$to/$1; new=${to%/*}/.testbed.$$; case $to in */*) ;; *) new=.testbed.$$ ;; esac
cat > "$new" && chmod "$3" "$new" && mv -f "$new" "$to"`
	result, err := h.Exec(ctx, r, "sh", "-c", script, "sh", base, to, fmt.Sprintf("%o", mode.Perm()))
	if err == nil && result.Exit != 0 {
		err = fmt.Errorf("write %s:%s: %s", h.Name(), to, strings.TrimSpace(result.Stderr))
	}
	return err
}

func (h *Host) copyTreeTo(ctx context.Context, from, to string) error {
	const script = `to=$2; test -d "$to" && to=$to/$1; mkdir -p "$to" && tar -x -C "$to"`
	pack := exec.CommandContext(ctx, "tar", "-c", "-C", from, ".")
	var complaint bytes.Buffer
	pack.Stderr = &complaint
	stream, err := pack.StdoutPipe()
	if err != nil {
		return err
	}
	if err := pack.Start(); err != nil {
		return err
	}
	result, err := h.Exec(ctx, stream, "sh", "-c", script, "sh", filepath.Base(from), to)
	if wait := pack.Wait(); err == nil && wait != nil {
		err = fmt.Errorf("read %s: %w: %s", from, wait, complaint.String())
	}
	if err == nil && result.Exit != 0 {
		err = fmt.Errorf("write %s:%s: %s", h.Name(), to, strings.TrimSpace(result.Stderr))
	}
	return err
}

// CopyFrom copies a file or a directory of the host to path to on the machine: into it when it is a directory.
func (h *Host) CopyFrom(ctx context.Context, from, to string) error {
	if info, err := os.Stat(to); err == nil && info.IsDir() {
		to = filepath.Join(to, path.Base(from))
	}
	kind, err := h.Exec(ctx, nil, "test", "-d", from)
	if err != nil {
		return err
	}
	if kind.Exit == 0 {
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		return h.pipeFrom(ctx, exec.CommandContext(ctx, "tar", "-x", "-C", to), "tar", "-c", "-C", from, ".")
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := h.get(ctx, f, "cat", "--", from); err != nil {
		return err
	}
	return f.Close()
}

// get runs a command in the host whose output is wanted whole.
func (h *Host) get(ctx context.Context, w io.Writer, args ...string) error {
	var complaint bytes.Buffer
	exit, err := h.Stream(ctx, agent.Command{Args: args}, agent.IO{Stdout: w, Stderr: &complaint})
	if err == nil && exit != 0 {
		err = fmt.Errorf("read from %s: %s", h.Name(), strings.TrimSpace(complaint.String()))
	}
	return err
}

// pipeFrom feeds what a command in the host writes to one on the machine.
func (h *Host) pipeFrom(ctx context.Context, local *exec.Cmd, args ...string) error {
	var complaint bytes.Buffer
	local.Stderr = &complaint
	in, err := local.StdinPipe()
	if err != nil {
		return err
	}
	if err := local.Start(); err != nil {
		return err
	}
	err = h.get(ctx, in, args...)
	_ = in.Close()
	if wait := local.Wait(); err == nil && wait != nil {
		err = fmt.Errorf("%s: %w: %s", local.Args[0], wait, complaint.String())
	}
	return err
}
