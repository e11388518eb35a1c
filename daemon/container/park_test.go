package container

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// parked is a conmon that waits, and what its container is to be.
func (b *bed) parked(script string) (Config, *Parked) {
	b.Helper()
	cfg := b.config(script)
	p, err := b.Park(cfg)
	if err != nil {
		b.Fatal(err)
	}
	return cfg, p
}

func TestAParkedConmonMakesItsContainer(t *testing.T) {
	b := newBed(t)
	cfg, p := b.parked("echo said; exit 3")
	if got := b.read(cfg.Dir); got.Phase != Incomplete {
		t.Errorf("before: %+v", got)
	}
	if _, err := os.Stat(filepath.Join(b.root(), cfg.ID)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the OCI runtime has begun: %v", err)
	}
	loaded, err := cfg.Load()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := Spec(loaded)
	if err != nil {
		t.Fatal(err)
	}
	state, err := p.Create(t.Context(), spec, nil)
	if err != nil || state.Phase != Created || !state.Supervised {
		t.Fatalf("%+v, %v", state, err)
	}
	if err := p.CallOff(t.Context()); err != nil { // too late
		t.Error(err)
	}
	if err := b.Start(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if got := b.ended(cfg.Dir); got.ExitCode != 3 {
		t.Errorf("%+v", got)
	}
	if got := b.log(cfg, "stdout"); !strings.Contains(got, "said") {
		t.Errorf("log: %q", got)
	}
}

func TestOfAParkedConmonThatIsNotWantedNothingIsLeft(t *testing.T) {
	b := newBed(t)
	cfg, p := b.parked("exit 0")
	if err := p.CallOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.CallOff(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
	gone(t, cfg)
}

// TestAParkedConmonOfADeadDaemonIsFound deletes what nobody holds any more. It
// must not have taken the daemon's end for the word to go on.
func TestAParkedConmonOfADeadDaemonIsFound(t *testing.T) {
	b := newBed(t)
	cfg, p := b.parked("exit 0")
	p.conmon.close()
	found, err := processesWith(cfg.ID)
	if err != nil || len(found) != 1 {
		t.Fatalf("processes %v, %v; want conmon", found, err)
	}
	another := bedRuntime(b.dir)
	if err := another.Delete(t.Context(), cfg.Dir); err != nil {
		t.Fatal(err)
	}
	_ = p.conmon.cmd.Wait()
	gone(t, cfg)
}

func TestAParkedConmonThatWasKilledIsSaid(t *testing.T) {
	b := newBed(t)
	cfg, p := b.parked("exit 0")
	if err := p.conmon.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	loaded, err := cfg.Load()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := Spec(loaded)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Create(t.Context(), spec, nil); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("error %v, want that conmon was killed", err)
	}
	gone(t, cfg)
}

// gone fails the test if something of a container is left.
func gone(t *testing.T, cfg Config) {
	t.Helper()
	if _, err := os.Stat(cfg.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("bundle is left: %v", err)
	}
	if found, err := processesWith(cfg.ID); err != nil || len(found) > 0 {
		t.Errorf("processes are left: %v, %v", found, err)
	}
}
