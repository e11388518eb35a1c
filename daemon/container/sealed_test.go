package container

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCrunIsCopiedOnce looks at what the first process of a container is until
// it is released: crun itself, in the file that all share.
func TestCrunIsCopiedOnce(t *testing.T) {
	b := newBed(t)
	if filepath.Base(b.oci("")) != "crun" {
		t.Skip("only crun is copied")
	}
	for range 2 {
		state := b.create(b.config("sleep 1000"))
		program, err := os.Stat(fmt.Sprintf("/proc/%d/exe", state.PID))
		if err != nil {
			t.Fatal(err)
		}
		shared, err := os.Stat(b.program(b.oci("")))
		if err != nil {
			t.Fatal(err)
		}
		if !os.SameFile(program, shared) {
			t.Error("crun has made a copy of its own")
		}
	}
}

func TestAnotherProgramIsCopiedAgain(t *testing.T) {
	found, err := exec.LookPath("crun")
	if err != nil {
		t.Skip("needs crun (Debian: crun)")
	}
	program, err := os.ReadFile(found)
	if err != nil {
		t.Fatal(err)
	}
	crun := filepath.Join(t.TempDir(), "crun")
	install := func(text []byte) {
		if err := os.WriteFile(crun+".new", text, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(crun+".new", crun); err != nil {
			t.Fatal(err)
		}
	}
	var r Runtime
	if got := r.program(crun); got != crun {
		t.Errorf("what is not there has become %s", got)
	}
	install(program)
	first := r.program(crun)
	if first == crun || r.program(crun) != first {
		t.Errorf("to be executed: %s, then %s; want one copy", first, r.program(crun))
	}
	install(append(program, 0))
	second := r.program(crun)
	if second == crun || second == first {
		t.Errorf("after an upgrade: %s, before: %s", second, first)
	}
	// As a container can that gets at it.
	if err := os.Chmod(second, 0); err != nil {
		t.Fatal(err)
	}
	if got := r.program(crun); got != second {
		t.Errorf("after its mode was taken away: %s, before: %s", got, second)
	}
	for _, path := range []string{first, second} {
		if out, err := exec.Command(path, "--version").CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", path, err, out)
		}
	}
	install([]byte("#!/bin/sh\nexit 0\n"))
	if got := r.program(crun); got != crun {
		t.Errorf("a script has become %s", got)
	}
	install([]byte("\x7fELF, or so it says"))
	if got := r.program(crun); got != crun {
		t.Errorf("what can't be executed has become %s", got)
	}
}

func TestNobodyCanWriteToACopy(t *testing.T) {
	found, err := exec.LookPath("crun")
	if err != nil {
		t.Skip("needs crun (Debian: crun)")
	}
	c, err := seal(found)
	if err != nil {
		t.Fatal(err)
	}
	defer c.file.Close()
	if _, err := c.file.WriteAt([]byte("x"), 0); err == nil {
		t.Error("it was written to")
	}
	got, err := unix.FcntlInt(c.file.Fd(), unix.F_GET_SEALS, 0)
	// RUNC_MEMFD_SEALS of cloned_binary.c: these and no others.
	if want := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE; err != nil || got != want {
		t.Errorf("seals %#x, want %#x (%v)", got, want, err)
	}
}
