package bed

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/shoal-project/shoal/packaging/testbed/agent"
)

// Host is one host of a bed.
type Host struct {
	bed    *Bed
	spec   hostSpec
	client *agent.Client
	nested *Bed
}

// Result is what a command left behind.
type Result struct {
	Stdout, Stderr string
	Exit           int // 128 plus the signal when one ended the command
}

// Name is n1, n2, ...
func (h *Host) Name() string { return h.spec.Name }

// Addr is the host's address on the bed's network.
func (h *Host) Addr() netip.Addr { return h.spec.Addr }

// Exec runs a command below the host's own systemd, as root, and collects its output. An exit code other than 0 is not
// an error; one that did not start, or a host that is not there, is. A nil stdin is empty.
func (h *Host) Exec(ctx context.Context, stdin io.Reader, args ...string) (Result, error) {
	var out, errs bytes.Buffer
	exit, err := h.Stream(ctx, agent.Command{Args: args}, agent.IO{Stdin: stdin, Stdout: &out, Stderr: &errs})
	return Result{out.String(), errs.String(), exit}, err
}

// Run runs a command that must succeed and returns its output without the last newline. The error carries what the
// command said.
func (h *Host) Run(ctx context.Context, args ...string) (string, error) {
	r, err := h.Exec(ctx, nil, args...)
	if err == nil && r.Exit != 0 {
		err = fmt.Errorf("%s: %s: exit code %d: %s%s", h.Name(), strings.Join(args, " "), r.Exit, r.Stderr, r.Stdout)
	}
	return strings.TrimSuffix(r.Stdout, "\n"), err
}

// Shell is Run of a script with its arguments in $1, $2, ...
func (h *Host) Shell(ctx context.Context, script string, args ...string) (string, error) {
	return h.Run(ctx, append([]string{"sh", "-euc", script, "sh"}, args...)...)
}

// Stream runs a command with its streams connected as they come.
func (h *Host) Stream(ctx context.Context, c agent.Command, streams agent.IO) (exit int, err error) {
	exit, err = h.client.Exec(ctx, c, streams)
	if err != nil {
		err = fmt.Errorf("%s: %w", h.Name(), err)
	}
	return exit, err
}

// PowerCut ends the host as if its plug were pulled. Its disk stays as it is.
func (h *Host) PowerCut(ctx context.Context) error {
	h.client.Close()
	return h.bed.control.post(ctx, "/kill", []string{h.Name()})
}

// Start boots a host that is off and returns when its systemd has started. One
// that was told to power off may still be on: see AwaitOff.
func (h *Host) Start(ctx context.Context) error {
	h.client.Close()
	if err := h.bed.control.post(ctx, "/start", []string{h.Name()}); err != nil {
		return err
	}
	return h.await(ctx)
}

// Shutdown powers the host off in order and returns when it is off.
func (h *Host) Shutdown(ctx context.Context) error {
	r, err := h.Exec(ctx, nil, "systemctl", "--no-block", "poweroff")
	if err == nil && r.Exit != 0 { // with an error the agent may have been stopped before it could answer
		return fmt.Errorf("power off %s: %s", h.Name(), r.Stderr)
	}
	return h.AwaitOff(ctx)
}

// AwaitOff returns when the host is off.
func (h *Host) AwaitOff(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	err := poll(ctx, func() error {
		states, err := h.bed.control.hosts(ctx)
		for _, s := range states {
			if s.Name == h.Name() && s.Running {
				err = fmt.Errorf("%s is still running", s.Name)
			}
		}
		return err
	})
	h.client.Close()
	return err
}

// patience is how long a host may take to boot or to end, an emulated one on a
// busy machine: a test that waits for ever says nothing.
const patience = 5 * time.Minute

var errPatience = fmt.Errorf("not within %s", patience)

// await returns when the host's systemd has started everything. A unit that failed is not this package's business.
func (h *Host) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	err := poll(ctx, func() error {
		state, err := h.Exec(ctx, nil, "systemctl", "is-system-running", "--wait")
		if err != nil {
			return err
		}
		if s := strings.TrimSpace(state.Stdout); s != "running" && s != "degraded" {
			return fmt.Errorf("%s is %s", h.Name(), s)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("boot: %w; its console ends with: %s", err, tail(h.Console(), 2000))
	}
	return nil
}

// Console is what the host wrote to its console, over all its boots.
func (h *Host) Console() []byte {
	if in := h.bed.in; in != nil {
		text, _ := in.Run(context.Background(), "cat", h.bed.place.console(h.Name()))
		return []byte(text)
	}
	text, _ := os.ReadFile(h.bed.place.console(h.Name())) // none yet: nothing written
	return text
}
