package agent

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// watched starts a process and watches it.
func watched(t *testing.T, w *processWatch, uid types.UID) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "infinity")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	w.add(cmd.Process.Pid, uid)
	return cmd
}

func receive(t *testing.T, ended <-chan types.UID, want types.UID) {
	t.Helper()
	select {
	case got := <-ended:
		if got != want {
			t.Fatalf("%q ended, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("nothing said of the end of %q", want)
	}
}

func TestTheEndOfAProcessIsToldOnce(t *testing.T) {
	ended := make(chan types.UID, 1000)
	w, err := watchProcesses(func(uid types.UID) { ended <- uid })
	if err != nil {
		t.Fatal(err)
	}
	first, second := watched(t, w, "first"), watched(t, w, "second")

	// A copy, as a child has for a moment that is being forked.
	w.mu.Lock()
	var copies []int
	for fd := range w.pids {
		c, err := unix.Dup(int(fd))
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, c)
	}
	w.mu.Unlock()
	first.Process.Kill()
	receive(t, ended, "first")

	// These take the numbers that have become free.
	var files []*os.File
	for range 10 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	second.Process.Kill()
	receive(t, ended, "second")
	watched(t, w, "third").Process.Kill() // by now everything about the others was heard
	receive(t, ended, "third")
	for _, f := range files {
		if _, err := f.Stat(); err != nil {
			t.Errorf("somebody closed a file that is not his: %v", err)
		}
	}
	if len(ended) > 0 {
		t.Errorf("%q ended again", <-ended)
	}
	for _, c := range copies {
		unix.Close(c)
	}
	w.add(first.Process.Pid, "first") // of one that ended before it is told at once
	receive(t, ended, "first")
}
