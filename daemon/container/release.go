package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// The first process of a container of crun's waits for a byte from a FIFO in
// crun's state directory. `crun start` takes the FIFO away, writes the byte,
// and runs hooks, of which our containers have none (libcrun's
// libcrun_status_write_exec_fifo and libcrun_container_start). Done here it
// saves a process that would read the whole bundle again.
const (
	execFIFO     = "exec.fifo"
	releasedFIFO = "exec.fifo.released" // from just before the byte is written until just after
)

// release does what `crun start` does. It reports false where nothing was
// done and the runtime must be asked: it is not crun, or nobody waits.
func (r *Runtime) release(oci, id string) (bool, error) {
	if filepath.Base(oci) != "crun" {
		return false, nil
	}
	waiting := filepath.Join(r.root(), id, execFIFO)
	released := filepath.Join(r.root(), id, releasedFIFO)
	// O_NONBLOCK: with no reader an error, not a wait.
	const flags = os.O_WRONLY | syscall.O_NONBLOCK
	fifo, err := os.OpenFile(waiting, flags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		fifo, err = os.OpenFile(released, flags, 0) // a daemon died here
	} else if err == nil {
		err = os.Rename(waiting, released)
	}
	if fifo != nil {
		defer fifo.Close()
	}
	if errors.Is(err, syscall.ENXIO) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if _, err := fifo.Write([]byte{0}); err != nil {
		return true, err
	}
	return true, os.Remove(released)
}

// waits says whether the container's first process has not been released. The
// FIFO under its own name is there until then. A daemon that died in the middle
// of release leaves it under the other one, and init tells whether the byte
// was written: it closes the FIFO when it has read it.
func (r *Runtime) waits(id string, init proc) bool {
	dir := filepath.Join(r.root(), id)
	if _, err := os.Lstat(filepath.Join(dir, execFIFO)); err == nil {
		return true
	}
	released, err := os.Lstat(filepath.Join(dir, releasedFIFO))
	return err == nil && init.alive() && holds(init.PID, released)
}

// holds says whether a process has the file open.
func holds(pid int, file fs.FileInfo) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && os.SameFile(info, file) {
			return true
		}
	}
	return false
}
