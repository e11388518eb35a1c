package container

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// conmon is one that was started and has not said yet what became of its
// container.
type conmon struct {
	cmd    *exec.Cmd
	report *os.File // what it says, see readSync
	output *os.File // what it says to people
	begin  *os.File // it waits for a byte from here; nil: it does not wait
}

// startConmon starts conmon, which starts the OCI runtime.
func (r *Runtime) startConmon(cfg Config, cgroup *os.File) (*conmon, error) {
	return r.forkConmon(cfg, cgroup, func(*exec.Cmd) {})
}

// forkConmon starts it with what more adds.
func (r *Runtime) forkConmon(cfg Config, cgroup *os.File, more func(*exec.Cmd)) (c *conmon, err error) {
	report, reportChild, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reportChild.Close()
	c = &conmon{report: report, cmd: exec.Command(r.conmon(), r.conmonArgs(cfg)...)}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.output, err = os.OpenFile(filepath.Join(cfg.Dir, conmonLogFile), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	c.cmd.Dir = cfg.Dir
	c.cmd.Env = []string{defaultPath, "_OCI_SYNCPIPE=3"}
	c.cmd.Stderr = c.output
	c.cmd.ExtraFiles = []*os.File{reportChild}
	more(c.cmd)
	over := ""
	if cfg.Sandbox.UserNS != "" {
		over = cfg.Dir
	}
	if err := start(c.cmd, cgroup, over); err != nil {
		return nil, fmt.Errorf("conmon: %w", err)
	}
	return c, nil
}

func (c *conmon) close() {
	for _, f := range []*os.File{c.report, c.output, c.begin} {
		if f != nil {
			f.Close()
		}
	}
}

// created waits until the container is, and returns the pid of its first process.
func (c *conmon) created(ctx context.Context) (int, error) {
	defer c.close()
	stop := context.AfterFunc(ctx, func() { c.report.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	pid, err := readSync(c.report)
	waitErr := c.cmd.Wait() // conmon forks itself away, so this is only its first process
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err == nil || errors.As(err, new(*refusal)) {
		return pid, err
	}
	said, _ := os.ReadFile(c.output.Name())
	return 0, fmt.Errorf("conmon: %w", errors.Join(err, waitErr, errors.New(string(bytes.TrimSpace(said)))))
}

func (r *Runtime) conmonArgs(cfg Config) []string {
	args := []string{
		"--api-version", "1",
		"--cid", cfg.ID, "--cuuid", cfg.ID, "--name", cfg.Container.Name,
		"--runtime", r.program(r.oci(cfg.OCI)), "--bundle", cfg.Dir,
		"--container-pidfile", filepath.Join(cfg.Dir, pidFile),
		"--conmon-pidfile", filepath.Join(cfg.Dir, conmonPIDFile),
		"--exit-dir", r.exitDir(), "--persist-dir", cfg.Dir,
		"--log-path", "k8s-file:" + cfg.LogPath,
		"--full-attach",    // the socket lies in the bundle, however long its path
		"--no-sync-log",    // fsync of a log at exit delays the exit code
		"--no-new-keyring", // refused inside systemd-nspawn
	}
	for _, flag := range r.flags(r.oci(cfg.OCI)) {
		args = append(args, "--runtime-arg", flag)
	}
	if cfg.Container.TTY {
		args = append(args, "--terminal")
	}
	if cfg.Container.Stdin {
		args = append(args, "--stdin")
		if !cfg.Container.StdinOnce {
			args = append(args, "--leave-stdin-open")
		}
	}
	return args
}

// refusal is what the OCI runtime said when it could not create a container.
type refusal struct{ text string }

func (e *refusal) Error() string { return e.text }

// readSync reads conmon's report: {"data": PID}, or a negative number and what
// the OCI runtime wrote to its stderr.
func readSync(sync *os.File) (int, error) {
	var report struct {
		Data    int    `json:"data"`
		Message string `json:"message"`
	}
	if err := json.NewDecoder(sync).Decode(&report); err != nil {
		return 0, fmt.Errorf("no report: %w", err)
	}
	if report.Data <= 0 {
		return 0, &refusal{"container create failed: " + clean(report.Message)}
	}
	return report.Data, nil
}

// clean makes one line of an OCI runtime's error.
func clean(text string) string {
	return strings.Join(strings.FieldsFunc(strings.TrimSpace(text), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
