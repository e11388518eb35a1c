package container

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// sealed are copies of OCI runtimes in memory that nobody can write to.
//
// A container may get at the program that enters it through /proc/self/exe, so
// crun must not be the host's file then (CVE-2019-5736). Each crun that is
// started copies itself into a sealed memfd for that, and executes itself again
// from there: half of the time that a short command takes. It leaves that out
// where it finds itself in such a file, also in one that others share
// (is_self_cloned in libcrun's cloned_binary.c). So it is copied once here.
type sealed struct {
	mu     sync.Mutex
	copies map[string]sealedCopy // by the program's path
}

type sealedCopy struct {
	of   os.FileInfo // the program that was copied
	file *os.File    // nil where it can't be copied
}

// executable is the mode of copies.
const executable = 0o500

// program is what to execute for an OCI runtime, see [sealed]. It is there for as
// long as this process lives.
func (r *Runtime) program(oci string) string {
	if filepath.Base(oci) != "crun" {
		return oci
	}
	r.sealed.mu.Lock()
	defer r.sealed.mu.Unlock()
	now, err := os.Stat(oci)
	if err != nil {
		return oci // whoever executes it says so
	}
	c, known := r.sealed.copies[oci]
	if !known || !os.SameFile(c.of, now) || c.of.Size() != now.Size() || !c.of.ModTime().Equal(now.ModTime()) {
		// What an upgrade has replaced stays open: somebody may be about to execute it.
		if c, err = seal(oci); err != nil && r.Log != nil {
			r.Log.Debug("each container has the OCI runtime copied", "path", oci, "err", err)
		}
		c.of = now
		if r.sealed.copies == nil {
			r.sealed.copies = make(map[string]sealedCopy)
		}
		r.sealed.copies[oci] = c
	}
	if c.file == nil {
		return oci
	}
	// A container that gets at the file can't write to it, but take this away.
	if info, err := c.file.Stat(); err == nil && info.Mode().Perm() != executable {
		_ = c.file.Chmod(executable) // else executing it fails, and says why
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), c.file.Fd())
}

// seal copies a program, and executes the copy once: a host may forbid that.
func seal(program string) (c sealedCopy, err error) {
	from, err := os.Open(program)
	if err != nil {
		return c, err
	}
	defer from.Close()
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(filepath.Base(program), flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // a kernel before 6.3
		fd, err = unix.MemfdCreate(filepath.Base(program), flags)
	}
	if err != nil {
		return c, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "memfd")
	if err := errors.Join(file.Chmod(executable), fill(file, from)); err != nil {
		return c, errors.Join(err, file.Close())
	}
	if out, err := exec.Command(fmt.Sprintf("/proc/self/fd/%d", fd), "--version").CombinedOutput(); err != nil {
		return c, errors.Join(fmt.Errorf("execute it from memory: %w: %s", err, bytes.TrimSpace(out)), file.Close())
	}
	return sealedCopy{file: file}, nil
}

// fill gives a memfd its content for good, with the seals that crun looks for.
func fill(to, from *os.File) error {
	magic := make([]byte, 4)
	if _, err := io.ReadFull(from, magic); err != nil {
		return err
	}
	if string(magic) != "\x7fELF" { // a script asks for its own name
		return errors.New("it is no ELF program")
	}
	if _, err := io.Copy(to, io.MultiReader(bytes.NewReader(magic), from)); err != nil {
		return err
	}
	_, err := unix.FcntlInt(to.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	return os.NewSyscallError("fcntl F_ADD_SEALS", err)
}
