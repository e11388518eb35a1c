package container

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// released makes a container of crun's and leaves it as a daemon does that dies
// in the middle of release, before the byte or after it.
func released(b *bed, script string, written bool) Config {
	b.Helper()
	if !strings.HasSuffix(b.oci(""), "crun") {
		b.Skip("only crun's containers wait for a byte")
	}
	cfg := b.config(script)
	b.create(cfg)
	if err := writeFile(cfg.Dir, startingFile, nil); err != nil {
		b.Fatal(err)
	}
	to := filepath.Join(b.root(), cfg.ID, releasedFIFO)
	if err := os.Rename(filepath.Join(b.root(), cfg.ID, execFIFO), to); err != nil {
		b.Fatal(err)
	}
	if !written {
		return cfg
	}
	fifo, err := os.OpenFile(to, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer fifo.Close()
	if _, err := fifo.Write([]byte{0}); err != nil {
		b.Fatal(err)
	}
	return cfg
}

func TestStartNeedsNoRuntime(t *testing.T) {
	b := newBed(t)
	if !strings.HasSuffix(b.oci(""), "crun") {
		t.Skip("only crun's containers wait for a byte")
	}
	cfg := b.config("exit 7")
	b.create(cfg)
	var id identity
	if err := readJSON(cfg.Dir, identityFile, &id); err != nil {
		t.Fatal(err)
	}
	known := id.OCI
	id.OCI = "/nonexistent/crun"
	if err := writeJSON(cfg.Dir, identityFile, id); err != nil {
		t.Fatal(err)
	}
	defer func() { id.OCI = known; writeJSON(cfg.Dir, identityFile, id) }()
	if err := b.Start(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if got := b.ended(cfg.Dir); got.ExitCode != 7 || got.StartedAt.IsZero() {
		t.Errorf("got %+v", got)
	}
}

func TestDaemonKilledBeforeTheByte(t *testing.T) {
	b := newBed(t)
	cfg := released(b, "exit 7", false)
	if got := b.read(cfg.Dir); got.Phase != Created || !got.StartedAt.IsZero() {
		t.Errorf("not started yet: %+v", got)
	}
	if err := b.Start(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if got := b.ended(cfg.Dir); got.ExitCode != 7 || got.StartedAt.IsZero() {
		t.Errorf("got %+v", got)
	}
}

func TestDaemonKilledAfterTheByte(t *testing.T) {
	b := newBed(t)
	cfg := released(b, "echo alive; sleep 1000", true)
	b.until("output", func() bool { return b.log(cfg, "stdout") != "" })
	if got := b.read(cfg.Dir); got.Phase != Running || got.StartedAt.IsZero() {
		t.Errorf("started: %+v", got)
	}
	if err := b.Start(t.Context(), cfg.Dir); err != nil {
		t.Errorf("start what was started: %v", err)
	}
	if err := b.Signal(t.Context(), cfg.Dir, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := b.ended(cfg.Dir); got.ExitCode != 137 || got.StartedAt.IsZero() {
		t.Errorf("ended: %+v", got)
	}
}

// A container whose first process died while it waited can't be started.
func TestStartOfADeadContainerFails(t *testing.T) {
	b := newBed(t)
	cfg := b.config("exit 7")
	b.create(cfg)
	if err := b.processes(cfg).Init.kill(); err != nil {
		t.Fatal(err)
	}
	if ok, err := b.release(b.oci(""), cfg.ID); ok || err != nil {
		t.Errorf("released a dead container: %v, %v", ok, err)
	}
	if got := b.ended(cfg.Dir); !got.StartedAt.IsZero() {
		t.Errorf("never started: %+v", got)
	}
}
